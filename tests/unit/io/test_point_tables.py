"""Tables of points: what is read, and one sentence each on those that are not as they should be."""

import shutil
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pyogrio
import pytest
import shapely

from regflow.core.errors import InputError
from regflow.io.point_tables import PointTable, read_point_table, write_point_table
from regflow.io.vectors import read_points, write_points

XY = np.array([[1.5, 2.0], [3.0, 4.25]])
NAN_POINT = b"GP\0\x11" + struct.pack("<iBIdd", 32633, 1, 1, np.nan, np.nan)


@pytest.fixture
def package(tmp_path):
    """Return a function that writes three points as a GeoPackage and changes it by SQL."""

    def changed(*statements):
        path = tmp_path / "points.gpkg"
        write_points(path, {"name": np.arange(3)}, np.arange(6.0).reshape(3, 2), "EPSG:32633")
        with closing(sqlite3.connect(path)) as file, file:
            for statement, *values in statements:
                file.execute(statement, *values)
        return path

    return changed


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (
            [("DELETE FROM gpkg_geometry_columns",), ("UPDATE gpkg_contents SET data_type='attributes'",)],
            "its first layer has no geometry; give a layer of points",
        ),
        ([("UPDATE points SET geom=NULL",)], "holds something else than points"),
        ([("UPDATE points SET geom=?", (b"garbage",))], "holds something else than points"),
        ([("UPDATE points SET geom=?", (NAN_POINT,))], "holds something else than points"),
        ([("DELETE FROM points",)], "holds no points; add some"),
    ],
    ids=["no geometry", "null", "garbage", "empty point", "no rows"],
)
def test_a_geopackage_without_points_is_one_sentence(package, statements, told):
    with pytest.raises(InputError, match=told):
        read_point_table(package(*statements))


@pytest.mark.parametrize("content", [None, b"garbage"])
def test_what_is_no_point_is_never_read_as_numbers(package, content):
    with pytest.raises(InputError, match="holds something else than points"):
        read_points(package(("UPDATE points SET geom=?", (content,))))


def test_files_that_are_none_are_one_sentence(package, tmp_path):
    whole = package().read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 3]):
        path = tmp_path / "bad.gpkg"
        path.write_bytes(content)
        with pytest.raises(InputError, match="this GeoPackage cannot be read"):
            read_point_table(path)


def test_further_layers_are_told(package, tmp_path, caplog):
    path = package()
    shutil.copy(path, tmp_path / "two.gpkg")
    with closing(sqlite3.connect(tmp_path / "two.gpkg")) as file, file:
        for table in ("gpkg_contents", "gpkg_geometry_columns"):
            columns = [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
            taken = ", ".join("'other'" if c in ("table_name", "identifier") else c for c in columns)
            file.execute(f"INSERT INTO {table} SELECT {taken} FROM {table}")
        file.execute("CREATE TABLE other AS SELECT * FROM points")
    assert len(read_point_table(tmp_path / "two.gpkg").xy) == 3
    assert "of its 2 layers the first is read, points" in caplog.text


def test_cells_with_line_breaks_and_giant_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('x,y,note\n1,2,"two\nlines"\n3,4,b\n', encoding="utf-8")
    table = read_point_table(path)
    assert table.xy.tolist() == [[1, 2], [3, 4]]
    assert list(table.columns["note"]) == ["two lines", "b"]
    path.write_text("x,y,note\n1,2," + "a" * 200_000 + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="not a row of a table"):
        read_point_table(path)


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


def test_a_layer_of_boxes_holds_no_points(tmp_path):
    boxes = np.asarray(shapely.to_wkb(shapely.box([0, 0], [0, 0], [1, 2], [1, 2])), dtype=object)
    table = [np.array([1.0, 2.0])]
    pyogrio.raw.write(
        str(tmp_path / "boxes.gpkg"), boxes, table, ["a"], geometry_type="Polygon", crs="EPSG:32633"
    )
    with pytest.raises(InputError, match="its first layer holds something else than points"):
        read_point_table(tmp_path / "boxes.gpkg")
