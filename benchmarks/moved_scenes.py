"""Large scenes of real pixels, and the same moved by a known smooth displacement."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import OUT
from regflow.core.files import write_whole_directory
from regflow.core.grid import Grid
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import Waves, draw_waves
from regflow.io.open_rasters import import_gdal
from regflow.io.rasters import compute_geotransform, read_raster_header, read_window

LARGEST_PX = 5.0
WAVELENGTH_SHARE = 0.4
"""Of the scene's side: the shortest wave of the displacement."""
GAIN, OFFSET, NOISE_SHARE = 1.2, 50.0, 0.03
"""Of the moving scene's contrast, and noise in both, in shares of the band's spread."""
STRIP = 512
SQUARE = 2048
"""Pixels of the pattern that lie as they are, side by side."""
COARSE_PX = 32
ORIGIN = (300000.0, 5900000.0, 10.0)


@dataclass(frozen=True)
class MovedScene:
    """Files of a pair and its truth, exact at every point."""

    fixed: Path
    moving: Path
    grid: Grid
    truth: Waves


def moved_pair(side: int, crs: str = "EPSG:32633") -> MovedScene | None:
    """Write a pair of ``side`` pixels once and return it; None when its band is not installed."""
    path = realdata.locate_source("sentinel2-b04")
    if path is None:
        return None
    west, north, step = ORIGIN
    affine = np.array([[step, 0, west], [0, -step, north], [0, 0, 1.0]])
    grid = Grid((side, side), affine, crs)
    truth = draw_waves(grid, LARGEST_PX, WAVELENGTH_SHARE * side, seed=side)
    folder = OUT / "moved-scenes" / str(side)
    if not folder.is_dir():
        shape = read_raster_header(path).shape
        band = read_window(path, [1], slice(0, shape[0]), slice(0, shape[1]))[0][0].astype(np.float32)
        with write_whole_directory(folder) as part:
            _write(part, band, grid, truth)
    return MovedScene(folder / "fixed.tif", folder / "moving.tif", grid, truth)


def _write(folder: Path, band: NDArray[np.float32], grid: Grid, truth: Waves) -> None:
    """Write both scenes strip by strip."""
    from scipy.ndimage import map_coordinates, spline_filter

    ground = _ground(band, grid.shape)
    coefficients = spline_filter(ground, order=3, output=np.float32, mode="mirror")
    rasterio, inverse = import_gdal(), _inverse(grid, truth)
    noise = NOISE_SHARE * float(band.std())
    rng = np.random.default_rng(0)
    rows, cols = grid.shape
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2}
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": rows, "width": cols, **layout}
    place = {"crs": grid.crs, "transform": compute_geotransform(grid)}
    with (
        rasterio.open(folder / "fixed.tif", "w", **profile, **place) as fixed,
        rasterio.open(folder / "moving.tif", "w", **profile, **place) as moving,
    ):
        for top in range(0, rows, STRIP):
            lines = np.arange(top, min(top + STRIP, rows))
            window = rasterio.windows.Window(0, top, cols, len(lines))
            there = np.stack([part(lines, np.arange(cols)) for part in inverse])
            here = ground[lines]
            moved = map_coordinates(coefficients, there, np.float32, order=3, prefilter=False, mode="mirror")
            for target, values, gain, offset in ((fixed, here, 1.0, 0.0), (moving, moved, GAIN, OFFSET)):
                seen = gain * (values + noise * rng.standard_normal(values.shape, np.float32)) + offset
                target.write(np.clip(np.round(seen), 1, 65535).astype(np.uint16)[None], window=window)


def _ground(band: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Continue a band by mirroring, in squares that lie anywhere in the endless pattern, turned at random.

    The pattern itself has a period, and a shift by it would be as right as the true one.
    """
    rng = np.random.default_rng(1)
    ground = np.empty(shape, np.float32)
    for top in range(0, shape[0], SQUARE):
        for left in range(0, shape[1], SQUARE):
            first = top == left == 0
            corner = (0, 0) if first else rng.integers(0, 2 * max(band.shape), 2).tolist()
            rows, cols = (
                np.abs(np.mod(start + np.arange(SQUARE) + size - 1, 2 * size - 2) - size + 1)
                for start, size in zip(corner, band.shape, strict=True)
            )
            piece = band[np.ix_(rows, cols)]
            piece = piece if first else np.rot90(piece, int(rng.integers(4)))
            place = ground[top : top + SQUARE, left : left + SQUARE]
            place[:] = piece[: place.shape[0], : place.shape[1]]
    return ground


def _inverse(grid: Grid, truth: Waves) -> list[Any]:
    """Return row and column, in the fixed scene, of pixels of the moving one: splines, exact to 1e-5."""
    from scipy.interpolate import RectBivariateSpline

    axes = [np.arange(0, n + COARSE_PX, COARSE_PX, dtype=np.float64) for n in grid.shape]
    nodes = np.stack(np.meshgrid(axes[1], axes[0]), axis=-1).reshape(-1, 2)
    there = grid.to_index(truth.inverse().apply(grid.to_world(nodes)))
    shape = len(axes[0]), len(axes[1])
    return [RectBivariateSpline(*axes, there[:, k].reshape(shape)) for k in (1, 0)]
