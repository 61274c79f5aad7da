"""Outlines of scenes: their corners, their area, and what they share with a box."""

import numpy as np
import pytest
from raster_files import UTM33
from rasterio.crs import CRS

from regflow.core.grid import Grid
from regflow.core.reprojection import _corner_pixels
from regflow.io.raster_header import RasterHeader
from regflow.stages.rasters.footprints import _area, _clipped, _overlap_percent, check_scale

SQUARE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
FAR = np.array([6e6, 5e6])
LONGITUDES = CRS.from_epsg(4326).to_wkt()


def test_corners_are_those_of_the_outer_pixels():
    assert _corner_pixels(Grid((3, 5), np.eye(3))).tolist() == [
        [-0.5, -0.5],
        [4.5, -0.5],
        [-0.5, 2.5],
        [4.5, 2.5],
    ]


@pytest.mark.parametrize("place", [0.0, FAR])
def test_the_area_of_an_outline_keeps_its_digits_far_from_the_origin(place):
    assert _area(SQUARE + place) == pytest.approx(16.0, rel=1e-9)
    assert _area(SQUARE[::-1] + place) == pytest.approx(16.0, rel=1e-9)
    assert _area(SQUARE[:3] + place) == pytest.approx(8.0, rel=1e-9)
    assert _area(SQUARE[:2]) == 0


@pytest.mark.parametrize(
    ("axis", "side", "limit", "left"),
    [(0, 1.0, 1.0, 12.0), (0, -1.0, 1.0, 4.0), (1, 1.0, 3.0, 4.0), (1, -1.0, 5.0, 16.0), (0, 1.0, 5.0, 0.0)],
)
def test_a_polygon_is_clipped_at_a_line(axis, side, limit, left):
    clipped = _clipped(SQUARE, axis, side, limit)
    assert _area(clipped) == pytest.approx(left)
    assert (side * (clipped[:, axis] - limit) >= 0).all()


@pytest.mark.parametrize(
    ("low", "high", "percent"),
    [([2, 2], [6, 6], 25.0), ([1, 1], [2, 3], 100.0), ([-9, -9], [9, 9], 100.0), ([5, 0], [9, 4], 0.0)],
)
def test_overlap_is_told_in_percent_of_the_smaller(low, high, percent):
    for place in (0.0, FAR):
        bounds = np.array([low, high], float) + place
        assert _overlap_percent(SQUARE + place, bounds) == pytest.approx(percent, abs=1e-6)


def header(grid: Grid) -> RasterHeader:
    return RasterHeader("a.tif", "GTiff", grid.shape, (), "affine", grid.crs, grid, (), (64, 64))


def square_of(pixel: float, count: int, crs: str = UTM33, middle: tuple[float, float] = (4e5, 5.8e6)) -> Grid:
    affine = np.diag([pixel, -pixel, 1.0])
    affine[:2, 2] = np.array(middle) + np.array([-0.5, 0.5]) * pixel * (count - 1)
    return Grid((count, count), affine, crs)


@pytest.mark.parametrize(
    ("fixed", "moving", "told"),
    [
        (square_of(10, 500), square_of(10_000, 500), "1,000 times as large as its partner's"),
        (square_of(10_000, 500), square_of(10, 500), "1,000 times as small as its partner's"),
        (square_of(10, 500), square_of(10_000, 500), "0.5 of the coarser samples across"),
        (square_of(10, 500), square_of(0.2, 60, LONGITUDES, (13.5, 52.3)), "as large as its partner's"),
        (square_of(10, 500), square_of(1_000, 500), None),
        (square_of(10, 6), square_of(10, 500), None),
        (square_of(10, 500), square_of(10, 500), None),
        (square_of(10, 500), square_of(10_000, 5_000), "0.5 of the coarser samples across"),
        (square_of(10, 5_000), square_of(10_000, 500), None),
    ],
)
def test_pixels_too_large_to_be_compared_are_told(fixed, moving, told):
    sentence = check_scale(header(fixed), header(moving))
    assert (sentence is None) if told is None else told in sentence
