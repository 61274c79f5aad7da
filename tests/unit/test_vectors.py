import warnings

import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.core.io.vectors import read_points, write_points, write_polygons

COLUMNS = {
    "name": np.array(["a", "", "ü"]),
    "value_px": np.array([1.5, np.nan, -2.0]),
    "count": np.array([1, 2, 3], np.int8),
    "outlier": np.array([True, False, True]),
}
XY = np.array([[400000.5, 5800000.0], [400010.0, 5799990.0], [-3.0, 7.25]])


def test_points_come_back(tmp_path):
    write_points(tmp_path / "p.gpkg", COLUMNS, XY, "EPSG:32633")
    columns, xy = read_points(tmp_path / "p.gpkg")
    assert np.array_equal(xy, XY)
    assert list(columns) == list(COLUMNS)
    for name, values in COLUMNS.items():
        assert np.array_equal(columns[name], values, equal_nan=name == "value_px"), name


def test_equal_points_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_points(tmp_path / name / "p.gpkg", COLUMNS, XY, "EPSG:32633", tags={"unit": "px"})
    assert (tmp_path / "a/p.gpkg").read_bytes() == (tmp_path / "b/p.gpkg").read_bytes()


def test_pixels_need_no_crs_and_raise_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_points(tmp_path / "p.gpkg", {"k": np.arange(3)}, XY)
    assert np.array_equal(read_points(tmp_path / "p.gpkg")[1], XY)


def test_no_points_are_an_empty_table(tmp_path):
    write_points(tmp_path / "p.gpkg", {"k": np.empty(0)}, np.empty((0, 2)))
    columns, xy = read_points(tmp_path / "p.gpkg")
    assert len(xy) == 0
    assert len(columns["k"]) == 0


def test_polygons_are_read_with_their_area_by_another_tool(tmp_path):
    import pyogrio
    import shapely

    box = shapely.box(0, 0, 20, 10)
    write_polygons(tmp_path / "c.gpkg", {"area_m2": np.array([200.0])}, [box], "EPSG:32633", layer="changes")
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "c.gpkg", layer="changes")
    assert meta["crs"] == "EPSG:32633"
    assert shapely.area(shapely.from_wkb(geometry)).tolist() == [200.0]
    assert fields[0].tolist() == [200.0]


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no\.gpkg"):
        read_points(tmp_path / "no.gpkg")
