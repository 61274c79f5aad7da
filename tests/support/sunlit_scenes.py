"""One relief under several suns, nothing moved: what shadows make of a registration."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image

SIDE = 480
OLINDA = Path("/usr/lib/R/site-library/stars/tif/olinda_dem_utm25s.tif")
"""A real DEM of 111 x 111 samples, in Debian's r-cran-stars."""
GRID = Grid((SIDE, SIDE), np.array([[10.0, 0, 5e5], [0, -10.0, 5.8e6], [0, 0, 1]]), "EPSG:32633")


def fractal(exponent: float, seed: int) -> NDArray[np.float64]:
    """Return a random surface whose amplitudes fall with the frequency's power; deviation 1."""
    white = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    frequency[0, 0] = np.inf
    surface = np.fft.ifft2(np.fft.fft2(white) * frequency**-exponent).real
    return np.asarray(surface / surface.std())


@cache
def canyons() -> NDArray[np.float64]:
    """Return heights, in pixels, of a plateau cut by canyons."""
    return 40 * np.tanh(2.5 * np.abs(fractal(2.6, 3))) + fractal(1.6, 4)


@cache
def olinda() -> NDArray[np.float64] | None:
    """Return the heights of the real DEM, enlarged and steep; None where it is not installed."""
    if not OLINDA.is_file():
        return None
    from scipy.ndimage import zoom

    from regflow.io.rasters import read_window

    heights, _ = read_window(OLINDA, [1], slice(0, 111), slice(0, 111))
    return np.asarray(zoom(heights[0].astype(np.float64), 640 / 111, order=3)[:SIDE, :SIDE])


def lit(heights: NDArray[np.float64], azimuth: float, seed: int, texture: float) -> Image:
    """Return a relief, with cast shadows and the texture of its ground, under a sun of 35 degrees."""
    from scipy.ndimage import shift

    east, north, up = np.sin(np.deg2rad(azimuth)), np.cos(np.deg2rad(azimuth)), np.deg2rad(35.0)
    down, across = np.gradient(heights)
    slope = (-across * east + down * north) * np.cos(up) + np.sin(up)
    shade = np.maximum(slope / np.sqrt(1 + across**2 + down**2), 0)
    horizon = np.full(heights.shape, -np.inf)
    for step in np.arange(1, np.ceil(np.ptp(heights) / np.tan(up)) + 1):
        toward = shift(heights, (step * north, -step * east), order=1, mode="nearest")
        horizon = np.maximum(horizon, toward - step * np.tan(up))
    shade *= np.clip(1 - 2 * (horizon - heights), 0, 1)
    values = 1000 * np.exp(texture * fractal(1.0, 100)) * (0.25 + 0.75 * shade)
    values += np.random.default_rng(seed).normal(0, 0.01 * values.std(), values.shape)
    return Image(values.astype(np.float32)[None], GRID, np.ones(GRID.shape, bool))


def two_suns(heights: NDArray[np.float64], degrees: float, texture: float = 0.1) -> tuple[Image, Image]:
    """Return a relief under two suns so many degrees of azimuth apart."""
    return lit(heights, 140 - degrees / 2, 1, texture), lit(heights, 140 + degrees / 2, 2, texture)
