"""Large scenes of real pixels, and the same moved by a known smooth displacement."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import OUT
from regflow import realdata
from regflow.core.files import whole_directory
from regflow.core.grid import Grid
from regflow.core.io.rasters import gdal, geotransform, read_raster_header, read_window
from regflow.synthetic_scenes import Waves, random_waves

LARGEST_PX = 5.0
WAVELENGTH_SHARE = 0.4
"""Of the scene's side: the shortest wave of the displacement."""
GAIN, OFFSET, NOISE_SHARE = 1.2, 50.0, 0.03
"""Of the moving scene's contrast, and noise in both, in shares of the band's spread."""
STRIP = 256
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
    path = realdata.locate("sentinel2-b04")
    if path is None:
        return None
    west, north, step = ORIGIN
    affine = np.array([[step, 0, west], [0, -step, north], [0, 0, 1.0]])
    grid = Grid((side, side), affine, crs)
    truth = random_waves(grid, LARGEST_PX, WAVELENGTH_SHARE * side, seed=side)
    folder = OUT / "scenes" / str(side)
    if not folder.is_dir():
        shape = read_raster_header(path).shape
        band = read_window(path, [1], slice(0, shape[0]), slice(0, shape[1]))[0][0].astype(np.float32)
        with whole_directory(folder) as part:
            _write(part, band, grid, truth)
    return MovedScene(folder / "fixed.tif", folder / "moving.tif", grid, truth)


def _write(folder: Path, band: NDArray[np.float32], grid: Grid, truth: Waves) -> None:
    """Write both scenes strip by strip; the band is continued by mirroring."""
    from scipy.ndimage import map_coordinates, spline_filter

    coefficients = spline_filter(band.astype(np.float64), order=5, mode="mirror")
    rasterio, back = gdal(), truth.inverse()
    noise = NOISE_SHARE * float(band.std())
    rng = np.random.default_rng(0)
    rows, cols = grid.shape
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2}
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": rows, "width": cols, **layout}
    place = {"crs": grid.crs, "transform": geotransform(grid)}
    with (
        rasterio.open(folder / "fixed.tif", "w", **profile, **place) as fixed,
        rasterio.open(folder / "moving.tif", "w", **profile, **place) as moving,
    ):
        for top in range(0, rows, STRIP):
            window = rasterio.windows.Window(0, top, cols, min(STRIP, rows - top))
            index = np.stack(np.meshgrid(np.arange(cols), np.arange(top, top + window.height)), axis=-1)
            index = index.reshape(-1, 2).astype(np.float64)
            there = grid.to_index(back.apply(grid.to_world(index)))
            for target, places, gain, offset in ((fixed, index, 1.0, 0.0), (moving, there, GAIN, OFFSET)):
                values = map_coordinates(
                    coefficients, places[:, ::-1].T, order=5, prefilter=False, mode="mirror"
                )
                values = gain * (values + rng.normal(0, noise, values.shape)) + offset
                stored = np.clip(np.round(values), 1, 65535).astype(np.uint16)
                target.write(stored.reshape(1, window.height, cols), window=window)
