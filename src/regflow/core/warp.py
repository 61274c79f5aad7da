"""Resampling a scene through a transform, window by window, with the same bits as at once.

Where a pixel of the result looks in the source depends on its own absolute index alone: the
transform is evaluated on a lattice of whole pixels of the result that starts at index 0, dense
enough that interpolating it linearly errs by less than :data:`LATTICE_TOLERANCE`, and each pixel is
computed in float64 from the four lattice nodes around it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.transform import DisplacementField, Transform, flatten_transform

LATTICE_TOLERANCE = 0.002
"""Largest error of interpolated coordinates, in pixels of the source."""

LATTICE_STEPS = (64, 32, 16, 8, 4, 2, 1)
"""Pixels of the result between lattice nodes; the largest that is accurate enough is taken. The step
of a displacement field whose nodes are pixels of the result is tried too: there it is exact."""

RESAMPLINGS = {"nearest": 0, "bilinear": 1, "cubic": 2, "lanczos": 3}
"""Interpolation kernels and their radius in samples: cubic is Keys' (a = -0.5), Lanczos' has three
lobes."""

_TILE_NODES = 64
_MOST_TILES = 128
_PROBES = 48

Reader = Callable[[slice, slice], tuple[NDArray[Any], NDArray[np.bool_]]]
"""Reads a window of the source: values ``(C, h, w)`` and their validity, ``(C, h, w)``."""


@dataclass(frozen=True, eq=False)
class PixelMap:
    """Where each pixel of a result lies in the pixels of a source.

    Attributes:
        target: grid of the result.
        source: grid of the source.
        transform: from target world points to source world points; None when they are the same.
        step: pixels of the result between the nodes at which the transform is evaluated.
        kept: nodes that were computed last, for windows that share them.
    """

    target: Grid
    source: Grid
    transform: Transform | None
    step: int
    kept: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_grids(cls, target: Grid, source: Grid, transform: Transform | None = None) -> "PixelMap":
        """Return the map with the largest lattice step that is accurate enough."""
        for step in sorted({*LATTICE_STEPS, *_field_steps(target, transform)}, reverse=True):
            mapped = cls(target, source, transform, step)
            if mapped.measure_lattice_error() <= LATTICE_TOLERANCE:
                break
        return mapped

    def __getstate__(self) -> dict[str, Any]:
        # What a worker has at hand is its own affair.
        return {**self.__dict__, "kept": {}}

    def map_pixels(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map ``(N, 2)`` positions (column, row) in the result to those in the source, exactly."""
        points = self.target.to_world(pixels)
        if self.transform is not None:
            points = self.transform.apply(points)
        return self.source.to_index(points)

    def measure_lattice_error(self) -> float:
        """Return the largest error of the interpolated lattice at probes all over the result, in samples.

        Probes without an answer (beyond a projection's limits) do not count.
        """
        return self.measure_interpolation_error() if self.step > 1 else 0.0

    def measure_interpolation_error(self) -> float:
        """Return the largest error of linear interpolation between nodes, inside the cells probed."""
        size = np.array(self.target.size)
        cells = [np.unique(np.linspace(0, max(n - 2, 0) // self.step, _PROBES).astype(int)) for n in size]
        corner = np.stack(np.meshgrid(*cells, indexing="ij"), axis=-1).reshape(-1, 2) * float(self.step)
        offsets = [np.array(offset) * float(self.step) for offset in ((0, 0), (1, 0), (0, 1), (1, 1))]
        nodes = [self._at_nodes(corner + offset) for offset in offsets]
        worst = 0.0
        for probe in ((0.5, 0.5), (0.5, 0.0), (0.0, 0.5), (0.25, 0.75), (0.75, 0.25)):
            pixel = np.minimum(corner + np.array(probe) * self.step, size - 1)
            x, y = ((pixel - corner) / self.step).T[..., None]
            weights = ((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y)
            linear = sum(weight * node for weight, node in zip(weights, nodes, strict=True))
            error = np.abs(linear - self.map_pixels(pixel))
            worst = max(worst, float(np.max(error[np.isfinite(error)], initial=0.0)))
        return worst

    def compute_lattice(self, rows: slice, cols: slice) -> tuple[NDArray[np.float64], tuple[int, int]]:
        """Return the nodes around a window of the result.

        Nodes are computed in tiles that do not depend on the window, so that the same node has the
        same bits in every window.

        Returns:
            Source positions (column, row) of the nodes, ``(n, m, 2)``, and the row and column of
            the first node in units of ``step``.
        """
        first = rows.start // self.step, cols.start // self.step
        last = (rows.stop - 1) // self.step + 1, (cols.stop - 1) // self.step + 1
        tiles = [range(a // _TILE_NODES, b // _TILE_NODES + 1) for a, b in zip(first, last, strict=True)]
        nodes = np.concatenate(
            [np.concatenate([self._tile(i, j) for j in tiles[1]], axis=1) for i in tiles[0]], axis=0
        )
        top, left = (a - tile.start * _TILE_NODES for a, tile in zip(first, tiles, strict=True))
        size = last[0] - first[0] + 1, last[1] - first[1] + 1
        return np.ascontiguousarray(nodes[top : top + size[0], left : left + size[1]]), first

    def _tile(self, row: int, col: int) -> NDArray[np.float64]:
        found = self.kept.get((row, col))
        if found is None:
            found = self._computed(row, col)
            if len(self.kept) >= _MOST_TILES:
                self.kept.clear()
            self.kept[row, col] = found
        return found

    def _computed(self, row: int, col: int) -> NDArray[np.float64]:
        x, y = (np.arange(k * _TILE_NODES, (k + 1) * _TILE_NODES) * float(self.step) for k in (col, row))
        pixels = np.stack(np.meshgrid(x, y, indexing="xy"), axis=-1).reshape(-1, 2)
        return self._at_nodes(pixels).reshape(_TILE_NODES, _TILE_NODES, 2)

    def _at_nodes(self, pixels: NDArray[np.float64], axis: int = 0) -> NDArray[np.float64]:
        """Map positions of nodes; those past the result's last pixels by bilinear extrapolation.

        A displacement field may end where the scene ends, and a node beyond must not pull the last
        pixels towards its zero.
        """
        if axis == 2:
            return self.map_pixels(pixels)
        last = self.target.size[axis] - 1.0
        inner = pixels.copy()
        inner[:, axis] = np.minimum(pixels[:, axis], last)
        mapped = self._at_nodes(inner, axis + 1)
        past = pixels[:, axis] > last
        if last > 0 and past.any():
            back = inner[past]
            back[:, axis] -= 1.0
            slope = mapped[past] - self._at_nodes(back, axis + 1)
            mapped[past] += slope * (pixels[past, axis] - last)[:, None]
        return mapped


def _field_steps(target: Grid, transform: Transform | None) -> Iterator[int]:
    """Yield the steps at which the nodes of a transform's first fields are pixels of the result."""
    for part in flatten_transform([] if transform is None else [transform]):
        if not isinstance(part, DisplacementField):
            return
        place = np.linalg.inv(target.affine) @ part.grid.affine
        step = max(1, round(float(place[0, 0])))
        offset = place[:2, 2] / step
        if np.allclose(place[:2, :2], np.eye(2) * step, atol=1e-6) and np.allclose(
            offset, np.rint(offset), atol=1e-6
        ):
            yield step


def warp_window(
    read: Reader,
    mapped: PixelMap,
    rows: slice,
    cols: slice,
    *,
    resampling: str = "cubic",
    nodata: tuple[float | None, ...] = (None,),
    fill: tuple[float, ...] = (0.0,),
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Compute a window of the result.

    A pixel is valid where the source's nearest sample is. Where a kernel would reach beyond the
    source or meet invalid samples, the valid ones of the four nearest are weighed bilinearly. Where
    the result is coarser than the source, kernels widen to keep from aliasing.

    Args:
        read: gives windows of the source that lie within it.
        mapped: where to look.
        rows: start and stop within the result.
        cols: likewise.
        resampling: one of :data:`RESAMPLINGS`.
        nodata: of each channel; a valid result that happens to equal it moves to its neighbor.
        fill: of each channel; value of invalid pixels.

    Returns:
        Values ``(C, h, w)`` in the source's type, and their validity, ``(C, h, w)``.

    Raises:
        InputError: an unknown resampling, or whatever ``read`` raises.
    """
    from regflow.core.warp_kernels import resample_window

    if resampling not in RESAMPLINGS:
        raise InputError(f"resampling {resampling!r} is unknown; choose from {', '.join(RESAMPLINGS)}")
    nodes, first = mapped.compute_lattice(rows, cols)
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    height, width = mapped.source.shape
    widening = measure_source_step(mapped) if resampling != "nearest" else (1.0, 1.0)
    window = _source_window(nodes, (height, width), RESAMPLINGS[resampling], widening)
    if window is None:
        empty, _ = read(slice(0, 1), slice(0, 1))
        values = np.empty((empty.shape[0], *shape), dtype=empty.dtype)
        values[:] = np.asarray(fill, dtype=empty.dtype)[:, None, None]
        return values, np.zeros(values.shape, dtype=bool)
    samples, known = read(*window)
    origin = (window[0].start, window[1].start)
    place = (nodes, first, mapped.step, (rows.start, cols.start), origin, (height, width))
    kind = RESAMPLINGS[resampling]
    results = [
        resample_window(*channel, place, shape, kind, widening)
        for channel in zip(samples, known, strict=True)
    ]
    values, valid = (np.stack(part) for part in zip(*results, strict=True))
    for value, good, avoid, blank in zip(
        values, valid, _each(nodata, len(values)), _each(fill, len(values)), strict=True
    ):
        if avoid is not None and not np.isnan(avoid):
            value[good & (value == avoid)] = _neighbor(value.dtype, avoid)
        value[~good] = blank
    return values, valid


def _neighbor(dtype: np.dtype[Any], value: float) -> Any:
    """Return the value of a type next to another, away from the end of its range."""
    if np.issubdtype(dtype, np.integer):
        return int(value) - 1 if value == np.iinfo(dtype).max else int(value) + 1
    return np.nextafter(dtype.type(value), dtype.type(0 if value else 1))


def measure_source_step(mapped: PixelMap) -> tuple[float, float]:
    """Return how many source columns and rows a pixel of the result spans, 1 where fewer.

    Taken in the middle of the result, so that every window uses the same. Less than a tenth more
    than one sample counts as one: small changes of scale need no filter.
    """
    middle = (np.array(mapped.target.size) - 1) / 2
    around = mapped.map_pixels(middle + np.array([[0, 0], [1, 0], [0, 1]]))
    steps = np.abs(around[1:] - around[0]).max(axis=0)
    steps = np.where(np.isfinite(steps) & (steps > 1.1), steps, 1.0)
    return float(steps[0]), float(steps[1])


def _each(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    return values * count if len(values) == 1 else values


def _source_window(
    nodes: NDArray[np.float64], shape: tuple[int, int], radius: int, widening: tuple[float, float]
) -> tuple[slice, slice] | None:
    """Return the samples of the source that a window needs; None when it needs none."""
    bounds = []
    for axis, size, widen in ((1, shape[0], widening[1]), (0, shape[1], widening[0])):
        position = nodes[..., axis]
        position = position[np.isfinite(position)]
        reach = int(np.ceil((radius + 1) * widen))
        if position.size == 0 or position.max() < -0.5 or position.min() >= size - 0.5:
            return None
        low, high = int(np.floor(position.min())) - reach, int(np.ceil(position.max())) + reach + 1
        bounds.append(slice(max(low, 0), min(high, size)))
    return bounds[0], bounds[1]
