"""Pairs of points from QGIS' georeferencer and from tables, where they lie, and which are refused."""

import numpy as np
import pytest
from raster_files import write_raster
from rasterio.crs import CRS

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.ground_control import locate_ground_control, read_ground_control
from regflow.io.raster_header import RasterHeader
from regflow.io.rasters import read_raster_header
from regflow.io.scenes import describe_view

UTM33, UTM32 = (CRS.from_epsg(code).to_wkt() for code in (32633, 32632))
POINTS = f"""#CRS: {UTM33}
mapX,mapY,sourceX,sourceY,enable,dX,dY,residual
500010,5000090,1.5,-2.5,1,0,0,0
500050,5000020,30,-40,1,0,0,0
500080,5000010,50,-10,0,9,9,9
"""
TABLE = (
    "name,fixed_x,fixed_y,moving_x,moving_y,weight\nchurch,500010,5000090,500012,5000091,2\nbridge,1,2,3,4,\n"
)


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_ground_control(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def raster(path, crs: str | None, affine=None) -> RasterHeader:
    values = np.arange(3000, dtype=np.float32).reshape(50, 60)
    if affine is None:
        return read_raster_header(write_raster(path, values, crs=None, transform=None))
    return read_raster_header(write_raster(path, values, grid=Grid(values.shape, affine, crs)))


def placed(west: float, north: float) -> np.ndarray:
    return np.array([[10.0, 0, west + 5], [0, -10, north - 5], [0, 0, 1]])


@pytest.mark.parametrize("old", [False, True])
def test_points_of_qgis_are_read_but_for_those_switched_off(tmp_path, old):
    path = tmp_path / "a.points"
    path.write_text(POINTS.replace("source", "pixel") if old else POINTS)
    found = read_ground_control(path)
    assert found.names == ("1", "2")
    assert np.array_equal(found.fixed, [[500010, 5000090], [500050, 5000020]])
    assert np.array_equal(found.moving, [[1.5, -2.5], [30, -40]])
    assert found.crs == UTM33


def test_a_table_has_names_and_weights(tmp_path):
    (tmp_path / "a.csv").write_text(TABLE)
    found = read_ground_control(tmp_path / "a.csv")
    assert found.names == ("church", "bridge")
    assert np.array_equal(found.weights, [2, 1])


def test_pixels_of_qgis_count_from_the_outer_corner_upwards(tmp_path):
    (tmp_path / "a.points").write_text(POINTS)
    header = raster(tmp_path / "fixed.tif", UTM33, placed(500000, 5000100))
    fixed = describe_view(header)
    plain = raster(tmp_path / "photo.tif", None)
    moving = describe_view(plain)
    pairs = locate_ground_control(read_ground_control(tmp_path / "a.points"), fixed, moving)
    assert np.array_equal(pairs.fixed.points, [[500010, 5000090], [500050, 5000020]])
    assert np.array_equal(pairs.moving.points, [[1, 2], [29.5, 39.5]])


def test_points_of_another_crs_go_to_the_fixed_scene_s(tmp_path):
    text = "fixed_x,fixed_y,moving_x,moving_y\n500010,5000090,{},{}\n"
    from rasterio.warp import transform

    ((x,), (y,)) = transform(CRS.from_wkt(UTM33), CRS.from_wkt(UTM32), [500010], [5000090])
    (tmp_path / "a.csv").write_text(text.format(x, y))
    fixed = describe_view(raster(tmp_path / "fixed.tif", UTM33, placed(500000, 5000100)))
    header = raster(tmp_path / "moving.tif", UTM32, placed(x - 100, y + 100))
    pairs = locate_ground_control(
        read_ground_control(tmp_path / "a.csv"), fixed, describe_view(header, crs=UTM33, near=fixed.grid)
    )
    assert np.allclose(pairs.moving.points, [[500010, 5000090]], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.points", "mapX,mapY,enable\n1,2,1\n", "must name the columns mapx, mapy, sourcex, sourcey"),
        ("a.csv", "x,y\n1,2\n", "must name the columns fixed_x"),
        ("a.csv", "fixed_x,fixed_y,moving_x,moving_y\n", "holds no pair"),
        ("a.csv", "fixed_x,fixed_y,moving_x,moving_y\n1,2,3,here\n", "line 2: needs four numbers"),
        ("a.csv", "fixed_x,fixed_y,moving_x,moving_y\n1,2,3\n", "line 2: needs four numbers"),
        ("a.csv", "fixed_x,fixed_y,moving_x,moving_y\n1,2,3,nan\n", "line 2: a coordinate is not finite"),
        ("a.csv", "name,fixed_x,fixed_y,moving_x,moving_y\na,1,2,3,4\na,1,2,3,5\n", "named 'a'"),
        ("a.csv", TABLE.replace(",2\n", ",-2\n"), "the weight of landmark 'church' is '-2'"),
        ("a.xlsx", "", "choose one of these"),
    ],
)
def test_what_is_no_file_of_pairs_is_refused(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    assert reason in refusal(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "gone.points")
