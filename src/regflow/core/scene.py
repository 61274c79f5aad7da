"""Large scenes, read window by window: lazy images on their working grid.

A working image of a scene is an :class:`~regflow.core.image.Image` whose ``data`` is a
:class:`SceneData`: nothing of it is in memory. :func:`read_block` reads a window of any image, lazy
or not, so a method need not know which it was given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.io.rasters import Nodata, RasterHeader, read_raster_header, read_window, same_crs

WHOLE_FACTOR_TOLERANCE = 1e-3
"""Decimation by 2.0005 is decimation by 2: spacings are often rounded in headers."""

_STRIP_SAMPLES = 1 << 22
"""Samples of one channel read at once while decimating."""


class Block(NamedTuple):
    """A window of an image.

    Attributes:
        values: float32 ``(C, h, w)``, 0 where invalid.
        valid: boolean ``(h, w)``, the samples that may steer a registration.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


@runtime_checkable
class BlockSource(Protocol):
    """What gives an image its samples window by window; picklable, safe in threads."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)``."""

    def read(self, rows: slice, cols: slice) -> Block:
        """Read a window that lies within the image."""


def read_block(image: Image, rows: slice, cols: slice) -> Block:
    """Read a window of an image, lazy or in memory.

    Args:
        image: 2-D, with any number of channels.
        rows: start and stop; the window may reach outside the image, even lie there.
        cols: likewise.

    Returns:
        The window's samples; what lies outside the image, outside its mask, or is not finite is
        invalid and 0.

    Raises:
        InputError: the file cannot be decoded there.
    """
    (top, bottom), (left, right) = ((s.start, s.stop) for s in (rows, cols))
    height, width = image.grid.shape
    inner = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    shape = (bottom - top, right - left)
    values = np.zeros((image.data.shape[0], *shape), dtype=np.float32)
    valid = np.zeros(shape, dtype=bool)
    if inner[0].start < inner[0].stop and inner[1].start < inner[1].stop:
        block = _read_inside(image, *inner)
        place = (
            slice(inner[0].start - top, inner[0].stop - top),
            slice(inner[1].start - left, inner[1].stop - left),
        )
        values[:, *place] = block.values
        valid[place] = block.valid
    return Block(values, valid)


def load(image: Image) -> Image:
    """Return the image with float32 samples and boolean mask in memory; invalid samples are 0."""
    height, width = image.grid.shape
    block = read_block(image, slice(0, height), slice(0, width))
    return Image(block.values, image.grid, block.valid, modality=image.modality)


@dataclass(frozen=True)
class SceneView:
    """How to open the working image of a scene; JSON-ready through :meth:`to_dict`.

    Attributes:
        path: the raster file.
        bands: numbers of the bands that are read.
        grid: the file's pixels in the working world; what decimation starts from.
        weights: of a linear combination of the bands into one channel; None keeps each band.
        nodata: value of samples that are no measurements, see
            :data:`~regflow.core.io.rasters.Nodata`.
        physical: apply the file's scale and offset.
        mask: raster of classes, on the same pixels or parallel to them; None without one.
        mask_values: classes of ``mask`` whose pixels are excluded.
        mask_band: number of the band of ``mask``.
        name: of the channel, kept as the image's modality.
    """

    path: str
    bands: tuple[int, ...]
    grid: Grid
    weights: tuple[float, ...] | None = None
    nodata: Nodata = "file"
    physical: bool = True
    mask: str | None = None
    mask_values: tuple[float, ...] = ()
    mask_band: int = 1
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        content = {key: getattr(self, key) for key in self.__dataclass_fields__}
        listed = {key: list(value) for key, value in content.items() if isinstance(value, tuple)}
        return {**content, **listed, "grid": self.grid.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "SceneView":
        """Rebuild a view from :meth:`to_dict`."""
        lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
        return cls(**{**content, **lists, "grid": Grid.from_dict(content["grid"])})


@dataclass(frozen=True)
class SceneData:
    """Samples of a scene on the pixels of its file, read when asked for."""

    view: SceneView

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)``."""
        channels = 1 if self.view.weights is not None else len(self.view.bands)
        rows, cols = self.view.grid.shape
        return channels, rows, cols

    def read(self, rows: slice, cols: slice) -> Block:
        """Read a window that lies within the scene.

        Raises:
            InputError: the file cannot be decoded there.
        """
        view = self.view
        stored, measured = read_window(view.path, view.bands, rows, cols, view.nodata)
        valid = np.asarray(measured.all(axis=0))
        if view.mask is not None:
            valid &= _unmasked(view, rows, cols)
        values = _physical(view, stored) if view.physical else stored.astype(np.float32)
        if view.weights is not None:
            values = np.tensordot(np.array(view.weights, dtype=np.float32), values, axes=1)[None]
        valid &= np.isfinite(values).all(axis=0)
        values[:, ~valid] = 0
        return Block(values, valid)


@dataclass(frozen=True)
class DecimatedData:
    """Samples of another source averaged over the area of each coarser sample.

    A sample is valid when half of its area or more is.

    Attributes:
        source: the finer samples.
        factors: finer samples per coarser one along rows and columns, 1 or more, not
            necessarily whole.
    """

    source: BlockSource
    factors: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)``."""
        channels, *size = self.source.shape
        return channels, *_decimated_shape(size, self.factors)

    def read(self, rows: slice, cols: slice) -> Block:
        """Read a window that lies within the decimated image."""
        from regflow.core.decimation import average

        finer = self.source.shape[1:]
        across = _span(cols, self.factors[1], finer[1])
        strip = max(1, int(_STRIP_SAMPLES / ((across.stop - across.start) * self.factors[0])))
        parts = []
        for top in range(rows.start, rows.stop, strip):
            some = slice(top, min(top + strip, rows.stop))
            down = _span(some, self.factors[0], finer[0])
            block = self.source.read(down, across)
            starts = ((some.start, down.start), (cols.start, across.start))
            shape = (some.stop - some.start, cols.stop - cols.start)
            parts.append(average(block.values, block.valid, starts, shape, self.factors))
        values, valid = zip(*parts, strict=True)
        return Block(np.concatenate(values, axis=1), np.concatenate(valid, axis=0))


def open_scene(
    path: str | Path,
    *,
    bands: Sequence[int | str] | None = None,
    weights: Sequence[float] | None = None,
    nodata: Nodata = "file",
    physical: bool = True,
    mask: str | Path | None = None,
    mask_values: Sequence[float] = (),
    crs: str | None = None,
    spacing: float | None = None,
    pixels: bool = False,
) -> Image:
    """Open a scene as a lazy image; no pixel is read.

    Args:
        path: the raster file.
        bands: to read, by number or name; None takes all but alpha.
        weights: one per band, of a linear combination into one channel; None keeps each band.
        nodata: overrides what the file declares.
        physical: apply the file's scale and offset.
        mask: raster of classes (clouds, quality) on the same pixels or parallel to them.
        mask_values: classes that are excluded.
        crs: WKT of the fixed scene; the image's grid lies in it. None takes the scene's own.
        spacing: of the working grid in world units; a finer scene is averaged. None keeps pixels.
        pixels: use pixel space, whatever the georeference.

    Returns:
        The image; ``data`` is lazy.

    Raises:
        InputError: something of the above does not fit the file.
    """
    header = read_raster_header(path)
    view = scene_view(
        header,
        bands=bands,
        weights=weights,
        nodata=nodata,
        physical=physical,
        mask=mask,
        mask_values=mask_values,
        crs=crs,
        pixels=pixels,
    )
    image = open_view(view)
    return image if spacing is None else decimate(image, spacing)


def scene_view(
    header: RasterHeader,
    *,
    bands: Sequence[int | str] | None = None,
    weights: Sequence[float] | None = None,
    nodata: Nodata = "file",
    physical: bool = True,
    mask: str | Path | None = None,
    mask_values: Sequence[float] = (),
    crs: str | None = None,
    pixels: bool = False,
) -> SceneView:
    """Return how to open a scene's working image; see :func:`open_scene`."""
    if bands is None:
        numbers = tuple(band.number for band in header.bands if band.color != "alpha")
    else:
        numbers = tuple(header.band_number(band) for band in bands)
    if weights is not None and len(weights) != len(numbers):
        raise InputError(
            f"{header.path}: {len(weights)} weights for {len(numbers)} bands; give one weight for each"
        )
    names = [header.bands[number - 1].name for number in numbers]
    view = SceneView(
        path=header.path,
        bands=numbers,
        grid=_working_grid(header, crs, pixels),
        weights=None if weights is None else tuple(float(w) for w in weights),
        nodata=nodata,
        physical=physical,
        mask=None if mask is None else str(mask),
        mask_values=tuple(float(v) for v in mask_values),
        name="+".join(name for name in names if name) or None,
    )
    if view.mask is not None:
        _mask_steps(view)
    return view


def open_view(view: SceneView) -> Image:
    """Open the lazy image that a view describes."""
    return Image(SceneData(view), view.grid, modality=view.name)


def decimate(image: Image, spacing: float) -> Image:
    """Return the lazy image with samples at least ``spacing`` world units apart, by averaging.

    The first sample's corner stays where it is; axes already that coarse stay as they are.
    """
    across, down = (_factor(spacing / own) for own in image.grid.spacing)
    if across == down == 1:
        return image
    grid = decimated_grid(image.grid, (down, across))
    return replace(image, data=DecimatedData(image.data, (down, across)), grid=grid)


def decimated_grid(grid: Grid, factors: tuple[float, float]) -> Grid:
    """Return the grid whose samples cover ``factors`` (rows, columns) samples of a finer one."""
    down, across = factors
    finer = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    return Grid(_decimated_shape(grid.shape, factors), grid.affine @ finer, grid.crs)


def _factor(ratio: float) -> float:
    whole = round(ratio)
    if abs(ratio - whole) < WHOLE_FACTOR_TOLERANCE * max(whole, 1):
        ratio = float(whole)
    return max(1.0, ratio)


def _decimated_shape(shape: Sequence[int], factors: tuple[float, float]) -> tuple[int, int]:
    rows, cols = (max(1, int(np.ceil(n / f - 1e-3))) for n, f in zip(shape, factors, strict=True))
    return rows, cols


def _span(coarse: slice, factor: float, size: int) -> slice:
    """Return the finer samples that a run of coarser ones touches."""
    return slice(int(np.floor(coarse.start * factor)), min(int(np.ceil(coarse.stop * factor)), size))


def _read_inside(image: Image, rows: slice, cols: slice) -> Block:
    if isinstance(image.data, BlockSource):
        block = image.data.read(rows, cols)
        if image.mask is None:
            return block
        valid = block.valid & image.mask[rows, cols]
        return Block(np.where(valid, block.values, np.float32(0)), valid)
    values = np.array(image.data[:, rows, cols], dtype=np.float32)
    valid = np.asarray(np.isfinite(values).all(axis=0))
    if image.mask is not None:
        valid &= image.mask[rows, cols]
    values[:, ~valid] = 0
    return Block(values, valid)


def _physical(view: SceneView, stored: NDArray[Any]) -> NDArray[np.float32]:
    header = read_raster_header(view.path)
    bands = [header.bands[number - 1] for number in view.bands]
    if all(band.scale == 1 and band.offset == 0 for band in bands):
        return stored.astype(np.float32)
    scale = np.array([band.scale for band in bands])[:, None, None]
    offset = np.array([band.offset for band in bands])[:, None, None]
    return np.asarray(stored * scale + offset, dtype=np.float32)


def _working_grid(header: RasterHeader, crs: str | None, pixels: bool) -> Grid:
    if pixels or header.georeference == "none":
        return header.pixel_grid
    if header.grid is None:
        raise InputError(f"{header.path}: georeferenced by {header.georeference} only")
    if crs is None:
        return header.grid
    if header.crs is None:
        raise InputError(
            f"{header.path}: has coordinates but names no CRS, and the reference scene has one; assign it "
            "(gdal_edit -a_srs)"
        )
    if not same_crs(crs, header.crs):
        raise InputError(f"{header.path}: lies in another CRS")
    return Grid(header.grid.shape, header.grid.affine, crs)


def _mask_steps(view: SceneView) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return how a row and a column of the scene become those of its mask: factor and offset each.

    Raises:
        InputError: the mask does not lie on the scene's pixels, or not over all of them.
    """
    header = read_raster_header(str(view.mask))
    scene = read_raster_header(view.path)
    header.band_number(view.mask_band)
    pixel_space = view.grid == scene.pixel_grid
    if header.shape == scene.shape and (pixel_space or header.grid is None or scene.grid is None):
        return (1.0, 0.0), (1.0, 0.0)
    if header.grid is None or scene.grid is None or not same_crs(header.crs, scene.crs):
        raise InputError(
            f"{view.mask}: this mask has {header.shape[0]} x {header.shape[1]} pixels and its scene "
            f"{view.path} {scene.shape[0]} x {scene.shape[1]}, and no common georeference; give a mask of "
            "the scene's size"
        )
    step = np.linalg.inv(header.grid.affine) @ scene.grid.affine
    far = step @ [scene.shape[1] - 1.0, scene.shape[0] - 1.0, 1.0]
    corners = np.array([step[:2, 2], far[:2]])
    limit = np.array(header.shape[::-1]) - 0.5 + 1e-3
    skewed = max(abs(step[0, 1]) * scene.shape[0], abs(step[1, 0]) * scene.shape[1]) > 0.5
    if skewed or (corners < -0.5 - 1e-3).any() or (corners > limit).any():
        raise InputError(
            f"{view.mask}: this mask does not cover its scene {view.path} with parallel pixels; "
            "bring it onto the scene's pixels first"
        )
    return (float(step[1, 1]), float(step[1, 2])), (float(step[0, 0]), float(step[0, 2]))


def _unmasked(view: SceneView, rows: slice, cols: slice) -> NDArray[np.bool_]:
    header = read_raster_header(str(view.mask))
    lines, columns = (
        np.clip(np.floor(np.arange(s.start, s.stop) * factor + offset + 0.5), 0, size - 1).astype(int)
        for s, (factor, offset), size in zip((rows, cols), _mask_steps(view), header.shape, strict=True)
    )
    down, across = (slice(int(i.min()), int(i.max()) + 1) for i in (lines, columns))
    values, measured = read_window(str(view.mask), [view.mask_band], down, across)
    kept = measured[0] & ~np.isin(values[0], view.mask_values)
    return np.asarray(kept[np.ix_(lines - down.start, columns - across.start)])
