"""Points of the plane with whatever else a table says of them: CSV and GeoPackage."""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import write_whole
from regflow.io.text_files import parse_number, read_text, split_rows

log = logging.getLogger(__name__)

ENDINGS = (".csv", ".tsv", ".gpkg")


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points and their columns.

    Attributes:
        columns: arrays ``(N,)`` by name; of a CSV, texts, ``x`` and ``y`` among them.
        xy: ``(N, 2)`` coordinates, float64.
        crs: WKT or another name of the CRS; None where the file names none, as a CSV never does.
    """

    columns: Mapping[str, NDArray[Any]]
    xy: NDArray[np.float64]
    crs: str | None = None


def read_point_table(path: str | Path) -> PointTable:
    """Read points from a CSV or TSV file with columns ``x`` and ``y``, or a GeoPackage's first layer.

    Raises:
        InputError: the file is not there, is none of these, holds no points, or a coordinate is no
            number.
    """
    path = Path(path)
    _refuse_other_formats(path)
    if not path.is_file():
        raise InputError(f"{path}: this file of points does not exist; correct the path")
    table = _read_layer(path) if path.suffix.lower() == ".gpkg" else _read_text(path)
    if not len(table.xy):
        raise InputError(f"{path}: holds no points; add some")
    bad = np.flatnonzero(~np.isfinite(table.xy).all(axis=1))
    if bad.size:
        raise InputError(f"{path}: x or y of point {bad[0] + 1} is not a finite number; correct it")
    return table


def write_point_table(path: str | Path, table: PointTable) -> None:
    """Write points as CSV, TSV or GeoPackage, by the file's ending, whole or not at all.

    Columns of a text table keep their order and content; ``x`` and ``y`` are written with all digits.

    Raises:
        InputError: the ending is none of these.
    """
    path = Path(path)
    _refuse_other_formats(path)
    if path.suffix.lower() == ".gpkg":
        from regflow.io.vectors import write_points

        write_points(path, _without_coordinates(table.columns), table.xy, table.crs)
        return
    columns = {name: [str(value) for value in values] for name, values in table.columns.items()}
    places = {"x": table.xy[:, 0], "y": table.xy[:, 1]}
    named = {name.strip().lower(): name for name in columns}
    for axis, values in places.items():
        columns[named.get(axis, axis)] = [repr(float(value)) for value in values]
    with write_whole(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=_delimiter(path), lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _refuse_other_formats(path: Path) -> None:
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: points are read and written as {', '.join(ENDINGS)}; choose one of these")


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _without_coordinates(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: values for name, values in columns.items() if name.strip().lower() not in ("x", "y")}


def _read_text(path: Path) -> PointTable:
    text = read_text(path, f"export the points as {' or '.join(ENDINGS)}")
    rows = [row.cells for row in split_rows(path, text, _delimiter(path))]
    names = [name.lower() for name in rows[0]] if rows else []
    if names.count("x") != 1 or names.count("y") != 1:
        raise InputError(f"{path}: has no columns x and y in its first line, once each; name them so")
    places = names.index("x"), names.index("y")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise InputError(
                f"{path}: point {number} has {len(row)} cells, the first line {len(names)}; mend the line"
            )
    xy = [[_number(path, number, row[k]) for k in places] for number, row in enumerate(rows[1:], start=1)]
    columns = {name: np.array([row[k] for row in rows[1:]], dtype=object) for k, name in enumerate(rows[0])}
    return PointTable(columns, np.array(xy, dtype=np.float64).reshape(-1, 2))


def _number(path: Path, number: int, text: str) -> float:
    try:
        return parse_number(text)
    except ValueError as error:
        raise InputError(f"{path}: '{text}' of point {number} is not a number; correct it") from error


def _read_layer(path: Path) -> PointTable:
    import pyogrio
    import shapely

    unreadable = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.errors.GEOSException)
    try:
        layers = pyogrio.list_layers(str(path))[:, 0]
        meta, _, geometry, fields = pyogrio.raw.read(str(path), layer=layers[0] if len(layers) else None)
        shapes = [] if geometry is None else shapely.from_wkb(geometry)
    except unreadable as error:
        raise InputError(f"{path}: this GeoPackage cannot be read: {error}") from error
    if geometry is None:
        raise InputError(f"{path}: its first layer has no geometry; give a layer of points")
    if not all(shape is not None and shape.geom_type == "Point" and not shape.is_empty for shape in shapes):
        raise InputError(f"{path}: its first layer holds something else than points; give a layer of points")
    if len(layers) > 1:
        log.warning("%s: of its %d layers the first is read, %s", path, len(layers), layers[0])
    xy = np.array([[shape.x, shape.y] for shape in shapes], dtype=np.float64).reshape(-1, 2)
    return PointTable(dict(zip(meta["fields"], fields, strict=True)), xy, meta["crs"])
