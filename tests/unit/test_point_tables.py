"""Tables of points: text and GeoPackage, and which of them are refused."""

import sqlite3

import numpy as np
import pyogrio
import pytest
import shapely

from regflow.core.errors import InputError
from regflow.core.io.point_tables import PointTable, read_point_table, write_point_table

XY = np.array([[1.5, 2.0], [3.0, 4.25]])


@pytest.mark.parametrize("ending", ["csv", "tsv", "gpkg"])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    write_point_table(path, PointTable({"name": np.array(["a, b", "c"], object)}, XY))
    back = read_point_table(path)
    assert np.array_equal(back.xy, XY)
    assert list(back.columns["name"]) == ["a, b", "c"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_a_table_as_spreadsheets_save_it(tmp_path, encoding):
    text = 'name,x,y\r\n"Brücke\r\nlinks",1.5,2\r\n,3,4.25\r\n'
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    back = read_point_table(tmp_path / "a.csv")
    assert np.array_equal(back.xy, XY)
    assert list(back.columns["name"]) == ["Brücke links", ""]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "has no columns x and y in its first line, once each"),
        ("x,x,y\n1,2,3\n", "has no columns x and y in its first line, once each"),
        ("x,y\n1,2,3\n", "point 1 has 3 cells, the first line 2"),
        ("x,y\n1,1_0\n", "'1_0' of point 1 is not a number"),
        ("x,y\n1,inf\n", "x or y of point 1 is not a finite number"),
        ('x,y\n"1,2\n3,4\n', "line 2: not a row of a table"),
        ("x,y\n", "holds no points"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path, text, told):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=told):
        read_point_table(tmp_path / "a.csv")


def test_layers_without_points_are_refused(tmp_path):
    table = [np.array([1.0, 2.0])]
    pyogrio.raw.write(str(tmp_path / "none.gpkg"), None, table, ["a"], driver="GPKG", geometry_type=None)
    with pytest.raises(InputError, match="its first layer has no geometry"):
        read_point_table(tmp_path / "none.gpkg")
    boxes = np.asarray(shapely.to_wkb(shapely.box([0, 0], [0, 0], [1, 2], [1, 2])), dtype=object)
    pyogrio.raw.write(
        str(tmp_path / "boxes.gpkg"), boxes, table, ["a"], geometry_type="Polygon", crs="EPSG:32633"
    )
    with pytest.raises(InputError, match="its first layer holds something else than points"):
        read_point_table(tmp_path / "boxes.gpkg")
    sqlite3.connect(tmp_path / "empty.gpkg").execute("CREATE TABLE a (b)").connection.close()
    with pytest.raises(InputError, match=r"cannot be read|has no geometry"):
        read_point_table(tmp_path / "empty.gpkg")
