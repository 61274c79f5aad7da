"""Landmarks: tables of named points, and Slicer's markups; always LPS millimeters once read.

A ``.csv`` or ``.tsv`` table has the columns ``name,x,y,z`` in LPS millimeters; a first line
``# coordinateSystem = RAS`` says otherwise. ``.fcsv`` and ``.mrk.json`` state their own system;
of a markups file the first list of points counts.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import whole

ENDINGS = (".csv", ".tsv", ".fcsv", ".mrk.json")

_SIGNS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}
_FCSV_SYSTEMS = {"0": "RAS", "1": "LPS"}  # Slicer before 4.11 wrote numbers
_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points of one image.

    Attributes:
        names: one for each point.
        points: ``(N, 3)`` LPS millimeters, float64.
    """

    names: tuple[str, ...]
    points: NDArray[np.float64]

    def __post_init__(self) -> None:
        points = np.array(self.points, dtype=np.float64).reshape(-1, 3)
        if len(points) != len(self.names):
            raise ValueError(f"{len(self.names)} names for {len(points)} points")
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        return len(self.names)


def read_landmarks(path: str | Path) -> Landmarks:
    """Read landmarks from ``.csv``, ``.tsv``, ``.fcsv`` or ``.mrk.json``.

    Raises:
        InputError: the file is missing or empty, a column or number is missing, or the coordinate
            system or unit is one that cannot be converted.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: this landmarks file does not exist; correct the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not a text file; export the landmarks as {' or '.join(ENDINGS)}"
        ) from error
    read = _reader(path)
    system, names, points = read(path, text)
    if not names:
        raise InputError(f"{path}: holds no landmarks; add some or leave this cell empty")
    if system not in _SIGNS:
        raise InputError(f"{path}: coordinate system '{system}' is not known; export it as LPS or RAS")
    array = np.array(points, dtype=np.float64)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise InputError(f"{path}: landmark '{names[row]}' has a coordinate that is not finite; correct it")
    return Landmarks(tuple(names), array * _SIGNS[system])


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
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


_Parsed = tuple[str, list[str], list[list[float]]]


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
    comments, lines = _comments(text)
    delimiter = "\t" if lines and "\t" in lines[0][1] else ","
    rows = list(csv.reader((line for _, line in lines), delimiter=delimiter))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    missing = [column for column in ("x", "y", "z") if column not in header]
    if missing:
        raise InputError(
            f"{path}: has no column {', '.join(missing)}; the first line must be 'name,x,y,z' (LPS mm)"
        )
    naming = next((header.index(column) for column in ("name", "label") if column in header), None)
    names, points = [], []
    for number, ((line, _), row) in enumerate(zip(lines[1:], rows[1:], strict=True), start=1):
        names.append(row[naming].strip() if naming is not None and naming < len(row) else str(number))
        points.append(_numbers(path, line, row, [header.index(column) for column in "xyz"]))
    return comments.get("coordinatesystem", "LPS").upper(), names, points


def _read_fiducials(path: Path, text: str) -> _Parsed:
    comments, lines = _comments(text)
    columns = comments.get("columns", _FCSV_COLUMNS).split(",")
    stated = comments.get("coordinatesystem", "0")
    names, points = [], []
    for line, content in lines:
        row = next(csv.reader([content]))
        label = columns.index("label") if "label" in columns else 0
        names.append(row[label] if label < len(row) and row[label] else row[0])
        points.append(_numbers(path, line, row, [columns.index(column) for column in "xyz"]))
    return _FCSV_SYSTEMS.get(stated, stated).upper(), names, points


def _read_markups(path: Path, text: str) -> _Parsed:
    try:
        markups = json.loads(text)["markups"]
        system = markups[0].get("coordinateSystem", "LPS")
        units = markups[0].get("coordinateUnits", "mm")
        controls = [(str(p["label"]), p["position"]) for p in markups[0]["controlPoints"]]
    except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{path}: not a Slicer markups file; save the points as .mrk.json in Slicer"
        ) from error
    if set(units if isinstance(units, list) else [units]) != {"mm"}:
        raise InputError(f"{path}: coordinates are in {units}, not millimeters; save them in mm")
    points = []
    for name, position in controls:
        if not isinstance(position, list) or len(position) != 3:
            raise InputError(f"{path}: landmark '{name}' has no position; place it or delete it")
        points.append([float(value) for value in position])
    return str(system).upper(), [name for name, _ in controls], points


def _comments(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """Split a table into ``# key = value`` comments and its other lines with their numbers."""
    comments, lines = {}, []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            key, _, value = line.lstrip("# ").partition("=")
            comments[key.strip().lower()] = value.strip()
        elif line.strip():
            lines.append((number, line))
    return comments, lines


def _numbers(path: Path, line: int, row: Sequence[str], columns: Sequence[int]) -> list[float]:
    try:
        return [float(row[column]) for column in columns]
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
