import subprocess
import sys
import warnings

import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.io.vectors import read_points, write_points, write_polygons

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


def test_another_tool_reads_points_their_crs_and_their_tags(tmp_path):
    import pyogrio
    import shapely

    write_points(tmp_path / "p.gpkg", COLUMNS, XY, "EPSG:32633", layer="ties", tags={"compared": '<b> & "c"'})
    info = pyogrio.read_info(tmp_path / "p.gpkg", layer="ties")
    assert info["crs"] == "EPSG:32633"
    assert info["geometry_type"] == "Point"
    assert info["layer_metadata"] == {"compared": '<b> & "c"'}
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "p.gpkg", layer="ties")
    assert np.array_equal(shapely.get_coordinates(shapely.from_wkb(geometry)), XY)
    for name, found in zip(meta["fields"], fields, strict=True):
        assert np.array_equal(found, COLUMNS[name], equal_nan=name == "value_px"), name
    assert meta["fields"].tolist() == list(COLUMNS)


def test_another_tool_knows_a_crs_without_a_code(tmp_path):
    import pyogrio
    from pyproj import CRS

    crs = CRS.from_proj4("+proj=laea +lat_0=50 +lon_0=10 +datum=WGS84")
    write_points(tmp_path / "p.gpkg", {}, XY, crs.to_wkt())
    found = CRS(pyogrio.read_info(tmp_path / "p.gpkg")["crs"])
    parameters = [[p.value for p in each.coordinate_operation.params] for each in (found, crs)]
    assert parameters[0] == parameters[1]
    assert found.coordinate_operation.method_name == crs.coordinate_operation.method_name


def test_points_are_written_and_read_without_pandas(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from regflow.io.vectors import read_points, write_points\n"
        "write_points(sys.argv[1], {'k': np.arange(2)}, np.zeros((2, 2)), 'EPSG:32633')\n"
        "read_points(sys.argv[1])\n"
        "sys.exit('pandas' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "p.gpkg")], check=False).returncode == 0


def test_equal_points_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_points(tmp_path / name / "p.gpkg", COLUMNS, XY, "EPSG:32633", tags={"unit": "px"})
    assert (tmp_path / "a/p.gpkg").read_bytes() == (tmp_path / "b/p.gpkg").read_bytes()


def test_pixels_need_no_crs_and_raise_no_warning(tmp_path):
    import pyogrio

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_points(tmp_path / "p.gpkg", {"k": np.arange(3)}, XY)
    assert np.array_equal(read_points(tmp_path / "p.gpkg")[1], XY)
    assert pyogrio.read_info(tmp_path / "p.gpkg")["crs"] is None


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
