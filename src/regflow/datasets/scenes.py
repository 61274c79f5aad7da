"""Scenes whose true alignment is known: real bands moved by a known smooth field.

The field is a sum of plane waves, so it is known exactly at every point, and maps FIXED to MOVING
points as every transform of regflow does. The moving scene is sampled once from the real pixels,
through the field's inverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.grid import Grid
from regflow.core.transform import Composite, Points, Transform

WAVES = 6
"""Plane waves of a random field."""
MAX_STRAIN = 0.5
"""Largest sum of slopes of a field; below 1 its inverse is unique and found by iteration."""
INVERSE_TOLERANCE = 1e-7
"""Of the field's largest displacement, at which the iteration for its inverse ends."""
TRUTH_STEP = 4
"""Pixels between the displacements of a written truth; linear in between, they err by 0.002 pixel
for 5 pixels of displacement over waves of 500."""


@dataclass(frozen=True, eq=False)
class Waves:
    """A displacement that is a sum of plane waves: ``x -> x + sum a_k sin(w_k . (x - c) + p_k)``.

    Attributes:
        amplitudes: ``(K, 2)`` vectors in world units.
        frequencies: ``(K, 2)`` wave vectors in radians per world unit.
        phases: ``(K,)`` radians.
        center: ``(2,)`` world point at which the phases count.
    """

    amplitudes: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    phases: NDArray[np.float64]
    center: NDArray[np.float64]

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return 2

    @property
    def strain(self) -> float:
        """An upper limit of the displacement's change per unit of length."""
        return float(
            (np.linalg.norm(self.amplitudes, axis=1) * np.linalg.norm(self.frequencies, axis=1)).sum()
        )

    def apply(self, points: ArrayLike) -> Points:
        """Map fixed points ``(N, 2)`` to moving points."""
        points = np.asarray(points, dtype=np.float64)
        angles = (points - self.center) @ self.frequencies.T + self.phases
        return np.asarray(points + np.sin(angles) @ self.amplitudes)

    def inverse(self) -> "UndoneWaves":
        """Return the map from moving to fixed points."""
        return UndoneWaves(self)


@dataclass(frozen=True, eq=False)
class UndoneWaves:
    """The inverse of :class:`Waves`, by fixed-point iteration to :data:`INVERSE_TOLERANCE`."""

    waves: Waves

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return 2

    def apply(self, points: ArrayLike) -> Points:
        """Map moving points ``(N, 2)`` to fixed points."""
        wanted = np.asarray(points, dtype=np.float64)
        tolerance = INVERSE_TOLERANCE * float(np.linalg.norm(self.waves.amplitudes, axis=1).sum())
        found, error = wanted, np.inf
        while error > tolerance:
            wrong = wanted - self.waves.apply(found)
            error = float(np.abs(wrong).max())
            found = found + wrong
        return found

    def inverse(self) -> Waves:
        """Return the waves."""
        return self.waves


def draw_waves(grid: Grid, amplitude: float, wavelength: float, seed: int) -> Waves:
    """Draw a smooth field.

    Args:
        grid: of the fixed scene.
        amplitude: largest displacement, in pixels of the grid.
        wavelength: of the shortest wave, in pixels; the longest is three times that.
        seed: of the draw.

    Raises:
        ValueError: the field is too steep to be inverted.
    """
    rng = np.random.default_rng(seed)
    pixel = float(np.sqrt(np.prod(grid.spacing)))
    lengths = wavelength * rng.uniform(1, 3, WAVES) * pixel
    directions = rng.uniform(0, 2 * np.pi, WAVES)
    frequencies = (2 * np.pi / lengths)[:, None] * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    amplitudes = rng.normal(size=(WAVES, 2)) * lengths[:, None]
    waves = Waves(amplitudes, frequencies, rng.uniform(0, 2 * np.pi, WAVES), np.array(grid.center))
    rows, cols = (np.linspace(0, count - 1, 64) for count in grid.shape)
    points = grid.to_world(np.stack(np.meshgrid(cols, rows), axis=-1).reshape(-1, 2))
    largest = float(np.linalg.norm(waves.apply(points) - points, axis=1).max())
    scaled = Waves(amplitudes * (amplitude * pixel / largest), frequencies, waves.phases, waves.center)
    if scaled.strain > MAX_STRAIN:
        raise ValueError(f"a field of {amplitude} pixels over waves of {wavelength} is too steep")
    return scaled


def move_scene(
    values: NDArray[Any],
    source: Grid,
    truth: Transform,
    target: Grid,
    *,
    gain: float = 1.0,
    offset: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return the moving scene that ``truth`` aligns with ``values``.

    Args:
        values: ``(H, W)`` samples of the fixed scene.
        source: its grid.
        truth: from fixed to moving points.
        target: grid of the moving scene.
        gain: the contrast's factor.
        offset: added to the samples.
        noise: standard deviation of Gaussian noise, in units of the samples.
        seed: of the noise.

    Returns:
        ``target.shape`` samples by splines of the fifth order, NaN beyond the fixed scene.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    coefficients = spline_filter(np.asarray(values, dtype=np.float64), order=5, mode="mirror")
    back = truth.inverse()
    moved = np.empty(target.shape, dtype=np.float32)
    columns = np.arange(target.shape[1], dtype=np.float64)
    last = np.array(source.size) - 1.0
    for row in range(target.shape[0]):
        points = target.to_world(np.stack([columns, np.full_like(columns, row)], axis=1))
        index = source.to_index(back.apply(points))
        line = map_coordinates(coefficients, index[:, ::-1].T, order=5, prefilter=False, mode="mirror")
        inside = ((index >= 0) & (index <= last)).all(axis=1)
        moved[row] = np.where(inside, gain * line + offset, np.nan)
    random = np.random.default_rng(seed)
    return np.asarray(moved + random.normal(0, noise, moved.shape).astype(np.float32) if noise else moved)


def write_scene(
    path: Path,
    bands: Mapping[str, NDArray[Any]],
    grid: Grid,
    *,
    nodata: float | None = None,
    dtype: str = "uint16",
) -> None:
    """Write bands by name as one tiled GeoTIFF, whole or not at all.

    Args:
        path: the file.
        bands: ``(H, W)`` samples; those that are not finite become ``nodata``.
        grid: where they lie.
        nodata: declared, and written where there is nothing.
        dtype: of the file; whole numbers are rounded and kept within their range.
    """
    from regflow.io.raster_files import write_raster

    stored = np.stack([_stored(samples, nodata, dtype) for samples in bands.values()])
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    predictor = 3 if stored.dtype.kind == "f" else 2
    write_raster(path, stored, grid, names=list(bands), nodata=nodata, predictor=predictor, **layout)


def write_truth(path: Path, truth: Transform, grid: Grid) -> None:
    """Write a known correction as ``displacement.tif``: dx and dy in CRS units, fixed to moving.

    The displacements stand on every fourth pixel (:data:`TRUTH_STEP`) and reach over the whole grid.
    """
    rows, cols = (-(-count // TRUTH_STEP) + 1 for count in grid.shape)
    affine = grid.affine @ np.diag([TRUTH_STEP, TRUTH_STEP, 1.0])
    coarse = Grid((rows, cols), affine, grid.crs)
    index = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).reshape(-1, 2)
    points = coarse.to_world(index)
    vectors = (truth.apply(points) - points).T.reshape(2, rows, cols)
    write_scene(path, {"dx": vectors[0], "dy": vectors[1]}, coarse, dtype="float32")


def rotate_about_center(grid: Grid, degrees: float, scale: float, shift: tuple[float, float]) -> Composite:
    """Return a rotation and change of size about a grid's center, then a shift in its pixels."""
    from regflow.core.transform import Affine

    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Composite((Affine.from_parts(linear, np.array(shift) * grid.spacing, grid.center),))


def _stored(samples: NDArray[Any], nodata: float | None, dtype: str) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.asarray(samples, dtype=kind)
    limits = np.iinfo(kind)
    known = np.isfinite(samples)
    lowest = limits.min + (1 if nodata == limits.min else 0)
    whole_numbers = np.clip(np.rint(np.where(known, samples, 0)), lowest, limits.max)
    return np.where(known, whole_numbers, 0 if nodata is None else nodata).astype(kind)
