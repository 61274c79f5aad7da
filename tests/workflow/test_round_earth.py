"""Scenes across the antimeridian and over a pole, registered from end to end with a known error."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from scipy.ndimage import gaussian_filter, map_coordinates

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.core.grid import Grid
from regflow.core.reprojection import build_reprojection
from regflow.datasets.scenes import write_scene
from regflow.pipeline.pair import register_pair

SHIFT_M = np.array([23.0, -37.0])
"""The moving scene's georeference is off by this, in the fixed scene's CRS."""
SIZE = (280, 300)
QUICK = {"initialize": {"methods": ["phase-correlation"]}, "report": {"changes": 1}}


def wkt(code: int) -> str:
    return CRS.from_epsg(code).to_wkt()


def north_up(code: int, west: float, north: float, step: tuple[float, float]) -> Grid:
    affine = np.array([[step[0], 0, west], [0, -step[1], north], [0, 0, 1]])
    return Grid(SIZE, affine, wkt(code))


def ground(fixed: Grid, points: np.ndarray) -> np.ndarray:
    """Return a made-up ground at world points of the fixed scene."""
    rng = np.random.default_rng(0)
    texture = sum(a * gaussian_filter(rng.normal(size=(700, 700)), s) for a, s in ((300, 1.5), (3000, 6)))
    x, y = np.moveaxis(fixed.to_index(points), -1, 0)
    return 2000 + map_coordinates(texture, [y + 200, x + 200], order=3, mode="mirror")


def pixel_centers(grid: Grid) -> np.ndarray:
    rows, cols = np.indices(grid.shape)
    return grid.to_world(np.stack([cols, rows], axis=-1)).reshape(-1, 2)


def pair(folder: Path, fixed: Grid, moving: Grid) -> RasterSample:
    """Write both scenes of one ground, the moving one where its georeference is wrong."""
    here = build_reprojection(str(moving.crs), str(fixed.crs), fixed).apply(pixel_centers(moving))
    seen = {"fixed": (fixed, pixel_centers(fixed)), "moving": (moving, here - SHIFT_M)}
    for name, (grid, points) in seen.items():
        values = ground(fixed, points).reshape(SIZE).astype(np.float32)
        write_scene(folder / f"{name}.tif", {"gray": values}, grid, nodata=0)
    scenes = [Scene(str(folder / f"{name}.tif")) for name in ("fixed", "moving")]
    return RasterSample("moving", scenes[1], FixedScene("fixed", scenes[0]))


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [
        (
            north_up(32760, 818000, 8120000, (10.0, 10.0)),
            north_up(4326, 179.985, -16.972, (1e-4, 9e-5)),
        ),
        (
            north_up(3413, -1500, 1400, (10.0, 10.0)),
            north_up(32661, 1998500, 2001400, (10.0, 10.0)),
        ),
    ],
    ids=["antimeridian", "pole"],
)
def test_a_known_shift_is_found(tmp_path, fixed, moving):
    found = register_pair("rasters", pair(tmp_path, fixed, moving), tmp_path / "aligned", config=QUICK)
    assert found.verdict.status != "fail"
    points = fixed.to_world(np.random.default_rng(1).uniform(40, 240, (50, 2)))
    # A point of the fixed scene is shown by the moving one where the wrong georeference puts it.
    error = found.transform.apply(points) - (points + SHIFT_M)
    assert np.linalg.norm(error, axis=1).max() < 2.0
