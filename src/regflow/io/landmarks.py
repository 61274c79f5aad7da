"""Landmarks: tables of named points, and Slicer's markups; always LPS millimeters once read.

A ``.csv`` or ``.tsv`` table has the columns ``name,x,y,z`` in LPS millimeters; a first line
``# coordinateSystem = RAS`` says otherwise, and a column ``weight`` how much a landmark counts where they
drive a registration (above 0; 1 without it). ``.fcsv`` and ``.mrk.json`` state their own system; a
``.fcsv`` that states none is as old as those in RAS. Of a markups file the first list of points counts.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import write_whole
from regflow.core.landmarks import Landmarks
from regflow.io.text_files import find_delimiter, parse_json, parse_number, read_text, split_rows

ENDINGS = (".csv", ".tsv", ".fcsv", ".mrk.json")

_SIGNS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}
_FCSV_SYSTEMS = {"0": "RAS", "1": "LPS"}  # Slicer before 4.11 wrote numbers
_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_FCSV_UNNAMED = 2
"""Cells that Slicer 5 writes past the columns it names."""
_COMMENT = re.compile(r"#\s*(\w+)\s*[=:]\s*(.*)")
_PLACED = (None, "defined")


def read_landmarks(path: str | Path) -> Landmarks:
    """Read landmarks from ``.csv``, ``.tsv``, ``.fcsv`` or ``.mrk.json``.

    Raises:
        InputError: the file is missing or empty, a column or number is missing, or the coordinate
            system or unit is one that cannot be converted.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: this landmarks file does not exist; correct the path")
    read = _reader(path)
    text = read_text(path, f"export the landmarks as {' or '.join(ENDINGS)}")
    system, names, points, weights = read(path, text)
    if not names:
        raise InputError(f"{path}: holds no landmarks; add some or leave this cell empty")
    if system not in _SIGNS:
        raise InputError(f"{path}: coordinate system '{system}' is not known; export it as LPS or RAS")
    array = np.array(points, dtype=np.float64)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise InputError(f"{path}: landmark '{names[row]}' has a coordinate that is not finite; correct it")
    return Landmarks(tuple(names), array * _SIGNS[system], parse_weights(path, names, weights))


def parse_weights(
    path: str | Path, names: Sequence[str], weights: Sequence[str] | None
) -> NDArray[np.float64] | None:
    """Return the weights in the cells of a table's landmarks, ``(N,)``; an empty one stands for 1.

    Raises:
        InputError: one is no finite number above 0.
    """
    if weights is None:
        return None
    found = np.ones(len(weights))
    for number, (name, cell) in enumerate(zip(names, weights, strict=True)):
        try:
            found[number] = parse_number(cell or "1")
        except ValueError:
            found[number] = np.nan
        if not 0 < found[number] < np.inf:
            raise InputError(f"{path}: the weight of landmark '{name}' is '{cell}'; give a number above 0")
    return found


def write_landmarks(path: str | Path, landmarks: Landmarks) -> None:
    """Write landmarks as ``.csv``, ``.tsv``, ``.fcsv`` or ``.mrk.json``, whole or not at all.

    Coordinates are LPS millimeters with four decimals (a tenth of a micrometer).

    Raises:
        InputError: the suffix is none of these.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".mrk.json"):
        text = _markups(landmarks)
    elif name.endswith(".fcsv"):
        text = _fiducials(landmarks)
    elif name.endswith((".csv", ".tsv")):
        text = _table(landmarks, "\t" if name.endswith(".tsv") else ",")
    else:
        raise InputError(f"{path}: cannot write landmarks to this format; use {' or '.join(ENDINGS)}")
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8")


_Parsed = tuple[str, list[str], list[list[float]], list[str] | None]


def _reader(path: Path) -> Callable[[Path, str], _Parsed]:
    name = path.name.lower()
    if name.endswith(".json"):
        return _read_markups
    if name.endswith(".fcsv"):
        return _read_fiducials
    if name.endswith((".csv", ".tsv")):
        return _read_table
    raise InputError(f"{path}: not a landmarks format that is read; convert it to {' or '.join(ENDINGS)}")


def _read_table(path: Path, text: str) -> _Parsed:
    rows = list(split_rows(path, text, find_delimiter(text)))
    header = [cell.lower() for cell in rows[0].cells] if rows else []
    places = _places(path, header, "the first line must be 'name,x,y,z' (LPS mm)")
    naming = next((header.index(column) for column in ("name", "label") if column in header), None)
    weighing = header.index("weight") if "weight" in header else None
    names, points, weights = [], [], []
    for number, (line, cells) in enumerate(rows[1:], start=1):
        _refuse_surplus(path, line, len(cells) if any(cells[len(header) :]) else 0, len(header))
        names.append(cells[naming] if naming is not None and naming < len(cells) else str(number))
        points.append(_numbers(path, line, cells, places))
        weights.append(cells[weighing] if weighing is not None and weighing < len(cells) else "")
    system = _comments(text).get("coordinatesystem", "LPS").upper()
    return system, names, points, None if weighing is None else weights


def _read_fiducials(path: Path, text: str) -> _Parsed:
    comments = _comments(text)
    columns = [name.strip() for name in comments.get("columns", _FCSV_COLUMNS).split(",")]
    places = _places(path, columns, f"the line of columns must be '# columns = {_FCSV_COLUMNS}'")
    stated = comments.get("coordinatesystem", "RAS")
    label = columns.index("label") if "label" in columns else 0
    names, points = [], []
    for line, cells in split_rows(path, text, ","):
        _refuse_surplus(path, line, len(cells), len(columns) + _FCSV_UNNAMED)
        names.append(cells[label] if label < len(cells) and cells[label] else cells[0])
        points.append(_numbers(path, line, cells, places))
    return _FCSV_SYSTEMS.get(stated, stated).upper(), names, points, None


def _read_markups(path: Path, text: str) -> _Parsed:
    remedy = "save the points as .mrk.json in Slicer"
    content = parse_json(path, text, f"not a Slicer markups file; {remedy}")
    try:
        markup = content["markups"][0]
        controls = [(point["label"], point) for point in markup["controlPoints"]]
        system, units = markup.get("coordinateSystem", "LPS"), markup.get("coordinateUnits", "mm")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a Slicer markups file; {remedy}") from error
    if any(unit != "mm" for unit in (units if isinstance(units, list) else [units])):
        raise InputError(f"{path}: coordinates are in {units}, not millimeters; save them in mm")
    bad = [name for name, _ in controls if not isinstance(name, str)]
    if bad:
        raise InputError(f"{path}: a landmark's label is {json.dumps(bad[0])}, not text; {remedy}")
    names = [name for name, _ in controls]
    return str(system).upper(), names, [_placed(path, *one) for one in controls], None


def _placed(path: Path, name: str, point: dict[str, Any]) -> list[float]:
    """Return the position of a control point that its author has placed."""
    position: Any = point.get("position")
    complete = isinstance(position, list) and len(position) == 3
    if not complete or point.get("positionStatus") not in _PLACED:
        raise InputError(f"{path}: landmark '{name}' has no position; place it or delete it")
    # JSON's true, null and texts are no coordinates, though Python could make numbers of some.
    numbers = all(type(value) in (int, float) and abs(value) < 1e300 for value in position)
    if not numbers:
        raise InputError(f"{path}: landmark '{name}' needs three numbers as its position; place it again")
    return [float(value) for value in position]


def _comments(text: str) -> dict[str, str]:
    """Return what lines ``# key = value`` say."""
    found = (_COMMENT.match(line) for line in text.splitlines())
    return {match[1].lower(): match[2].strip() for match in found if match}


def _places(path: Path, header: Sequence[str], remedy: str) -> list[int]:
    """Return where x, y and z stand in a row."""
    missing = [column for column in "xyz" if column not in header]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}; {remedy}")
    twice = [column for column in "xyz" if header.count(column) > 1]
    if twice:
        raise InputError(f"{path}: has the column {twice[0]} twice; {remedy}")
    return [header.index(column) for column in "xyz"]


def _refuse_surplus(path: Path, line: int, count: int, most: int) -> None:
    """Refuse a row of too many cells: with decimal commas every number would be read as two."""
    if count > most:
        raise InputError(
            f"{path}, line {line}: has {count} cells for {most} columns; write decimals with a point, "
            "and put a name with a comma in quotation marks"
        )


def _numbers(path: Path, line: int, row: Sequence[str], columns: Sequence[int]) -> list[float]:
    try:
        return [parse_number(row[column]) for column in columns]
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path}, line {line}: x, y and z must be three numbers; correct the line"
        ) from error


def _coordinates(landmarks: Landmarks) -> list[list[float]]:
    # Adding zero turns -0.0 into 0.0.
    rounded: list[list[float]] = (np.round(landmarks.points, 4) + 0.0).tolist()
    return rounded


def _table(landmarks: Landmarks, delimiter: str) -> str:
    stream = io.StringIO()
    table = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    table.writerow(["name", "x", "y", "z"])
    table.writerows(
        [name, *point] for name, point in zip(landmarks.names, _coordinates(landmarks), strict=True)
    )
    return stream.getvalue()


def _fiducials(landmarks: Landmarks) -> str:
    stream = io.StringIO()
    stream.write("# Markups fiducial file version = 5.0\n# CoordinateSystem = LPS\n")
    stream.write(f"# columns = {_FCSV_COLUMNS}\n")
    table = csv.writer(stream, lineterminator="\n")
    for number, (name, point) in enumerate(
        zip(landmarks.names, _coordinates(landmarks), strict=True), start=1
    ):
        table.writerow([number, *point, 0, 0, 0, 1, 1, 1, 0, name, "", ""])
    return stream.getvalue()


def _markups(landmarks: Landmarks) -> str:
    controls: list[dict[str, Any]] = [
        {"id": str(number), "label": name, "position": point}
        for number, (name, point) in enumerate(
            zip(landmarks.names, _coordinates(landmarks), strict=True), start=1
        )
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "controlPoints": controls,
    }
    return json.dumps({"@schema": _MARKUPS_SCHEMA, "markups": [markup]}, indent=2, ensure_ascii=False) + "\n"
