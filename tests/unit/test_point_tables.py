"""Tables of points that are not as they should be: one sentence each."""

import shutil
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.core.io.point_tables import read_point_table
from regflow.core.io.vectors import read_points, write_points

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
    assert list(table.columns["note"]) == ["two\nlines", "b"]
    path.write_text("x,y,note\n1,2," + "a" * 200_000 + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="not a table in text"):
        read_point_table(path)
