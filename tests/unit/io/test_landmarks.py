"""Landmark files: tables, Slicer's two formats, and which of them are refused."""

import json

import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.core.landmarks import Landmarks
from regflow.io.landmarks import read_landmarks, write_landmarks

POINTS = np.array([[1.5, -2.25, 3.0], [40.0, 50.125, -60.0]])

FCSV = """# Markups fiducial file version = {version}
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
vtkMRMLMarkupsFiducialNode_0,-1.5,2.25,3,0,0,0,1,1,1,0,AC,,
vtkMRMLMarkupsFiducialNode_1,-40,-50.125,-60,0,0,0,1,1,1,0,"PC, right",,
"""


def markups(**changes: object) -> str:
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "controlPoints": [
            {"id": "1", "label": "AC", "position": POINTS[0].tolist(), "positionStatus": "defined"},
            {"id": "2", "label": "PC, right", "position": POINTS[1].tolist()},
        ],
    }
    return json.dumps({"markups": [{**markup, **changes}]})


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_landmarks(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["csv", "tsv", "fcsv", "mrk.json"])
def test_what_is_written_is_read_back(tmp_path, ending):
    path = tmp_path / f"points.{ending}"
    write_landmarks(path, Landmarks(("AC", "PC, right"), POINTS))
    first = path.read_bytes()
    back = read_landmarks(path)
    assert back.names == ("AC", "PC, right")
    assert np.array_equal(back.points, POINTS)
    write_landmarks(path, back)
    assert path.read_bytes() == first


def test_a_fiducial_table_that_states_no_system_is_ras_as_slicer_wrote_it(tmp_path):
    stated = "# CoordinateSystem = {system}\n"
    (tmp_path / "a.fcsv").write_text(FCSV.replace(stated, "").format(version="4.3"))
    assert np.array_equal(read_landmarks(tmp_path / "a.fcsv").points, POINTS)


@pytest.mark.parametrize(("version", "system"), [("4.10", "0"), ("4.11", "RAS")])
def test_slicer_4_tables_in_ras_become_lps(tmp_path, version, system):
    (tmp_path / "a.fcsv").write_text(FCSV.format(version=version, system=system))
    back = read_landmarks(tmp_path / "a.fcsv")
    assert back.names == ("AC", "PC, right")
    assert np.array_equal(back.points, POINTS)


def test_slicer_tables_that_state_no_system_are_in_ras(tmp_path):
    lines = FCSV.format(version="4.6", system="0").splitlines(keepends=True)
    (tmp_path / "a.fcsv").write_text("".join(line for line in lines if "CoordinateSystem" not in line))
    assert np.array_equal(read_landmarks(tmp_path / "a.fcsv").points, POINTS)


def test_two_cells_past_the_named_columns_are_slicer_s_own(tmp_path):
    (tmp_path / "a.fcsv").write_text(FCSV.format(version="5.6", system="RAS").replace(",,\n", ",,,2,0\n"))
    assert np.array_equal(read_landmarks(tmp_path / "a.fcsv").points, POINTS)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_tables_may_be_of_any_encoding_with_line_breaks_in_their_names(tmp_path, encoding):
    text = 'name;x;y;z;\n"Brücke\r\nrechts";1.5;-2.25;3;\nPC;40;50.125;-60;\n;;;;\n'
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    back = read_landmarks(tmp_path / "a.csv")
    assert back.names == ("Brücke rechts", "PC")
    assert np.array_equal(back.points, POINTS)


def test_slicer_5_tables_state_lps(tmp_path):
    (tmp_path / "a.fcsv").write_text(FCSV.format(version="5.6", system="LPS"))
    assert np.array_equal(read_landmarks(tmp_path / "a.fcsv").points, POINTS * (-1, -1, 1))


def test_markups_follow_their_stated_system(tmp_path):
    (tmp_path / "lps.mrk.json").write_text(markups())
    (tmp_path / "ras.mrk.json").write_text(markups(coordinateSystem="RAS"))
    assert np.array_equal(read_landmarks(tmp_path / "lps.mrk.json").points, POINTS)
    assert np.array_equal(read_landmarks(tmp_path / "ras.mrk.json").points, POINTS * (-1, -1, 1))


def test_a_table_may_say_ras_and_leave_out_names(tmp_path):
    (tmp_path / "a.csv").write_text("# coordinateSystem = RAS\nz,x,y\n3,-1.5,2.25\n-60,-40,-50.125\n")
    back = read_landmarks(tmp_path / "a.csv")
    assert np.array_equal(back.points, POINTS)
    assert back.names == ("1", "2")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "name,x,y\nAC,1,2\n", "has no column z"),
        ("a.csv", "AC,1,2,3\nPC,4,5,6\n", "has no column x, y, z"),
        ("a.csv", "name,x,y,z\nAC,1,2,three\n", "line 2: x, y and z must be three numbers"),
        ("a.csv", "name,x,y,z\nAC,1,2\n", "line 2: x, y and z must be three numbers"),
        ("a.csv", "name,x,y,z\nAC,1,nan,3\n", "'AC' has a coordinate that is not finite"),
        ("a.csv", "name,x,y,z\n", "holds no landmarks"),
        ("a.csv", "", "has no column"),
        ("a.csv", "# coordinateSystem = IJK\nname,x,y,z\nAC,1,2,3\n", "coordinate system 'IJK'"),
        ("a.fcsv", FCSV.format(version="4.10", system="2"), "coordinate system '2'"),
        ("a.mrk.json", "{}", "not a Slicer markups file"),
        ("a.mrk.json", "{", "not a Slicer markups file"),
        ("a.mrk.json", markups(coordinateUnits="m"), "not millimeters"),
        ("a.mrk.json", markups(controlPoints=[{"label": "AC", "position": None}]), "'AC' has no position"),
        ("a.txt", "1 2 3\n", "not a landmarks format"),
        ("a.csv", "name,x,y,z\nAC,1,5,2,5,3,5\n", "line 2: has 7 cells for 4 columns; write decimals"),
        ("a.csv", "name,x,x,y,z\nAC,1,5,2,5\n", "has the column x twice"),
        ("a.csv", "name,x,y,z\nAC,1_0,5,2\n", "line 2: x, y and z must be three numbers"),
        ("a.csv", f"name,x,y,z\n{'a' * 200_000},1,2,3\n", "line 2: not a row of a table"),
        ("a.csv", 'name,x,y,z\n"AC,1,2,3\nPC,4,5,6\n', "line 2: not a row of a table"),
        ("a.fcsv", "# columns = id,label,y,z\n1,AC,2,3\n", "has no column x; the line of columns must be"),
        ("a.fcsv", "1,1,5,2,5,3,5,0,0,0,1,1,1,1,0,AC,,\n", "line 1: has 18 cells for 16 columns"),
        ("a.mrk.json", markups(controlPoints=[]), "holds no landmarks"),
        ("a.mrk.json", markups(controlPoints=None), "not a Slicer markups file"),
        ("a.mrk.json", markups(coordinateUnits=[{}]), "not millimeters"),
        ("a.mrk.json", markups(coordinateSystem=None), "coordinate system 'NONE'"),
        ("a.mrk.json", '{"markups": [3]}', "not a Slicer markups file"),
        ("a.mrk.json", "[" * 100_000, "not a Slicer markups file"),
        *(
            (
                "a.mrk.json",
                markups(controlPoints=[{"label": "AC", "position": bad}]),
                "'AC' needs three numbers",
            )
            for bad in (["1", 2, 3], [None, 2, 3], [True, 2, 3], [{}, 2, 3], [10**400, 2, 3])
        ),
        *(
            ("a.mrk.json", markups(controlPoints=[{"label": bad, "position": [1, 2, 3]}]), "not text")
            for bad in (None, {}, 3)
        ),
        (
            "a.mrk.json",
            markups(controlPoints=[{"label": "AC", "position": [0, 0, 0], "positionStatus": "undefined"}]),
            "'AC' has no position",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    told = refusal(tmp_path / name)
    assert expected in told
    assert "\n" not in told


def test_a_missing_file_and_a_binary_one_are_told(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80" * 20)
    assert "not a text file" in refusal(tmp_path / "a.csv")


def test_another_format_is_not_written(tmp_path):
    with pytest.raises(InputError, match="cannot write landmarks"):
        write_landmarks(tmp_path / "a.xlsx", Landmarks(("a",), POINTS[:1]))
