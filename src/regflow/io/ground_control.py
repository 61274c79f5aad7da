"""Pairs of points between two scenes: QGIS' georeferencer, or a table of four columns.

A ``.points`` file of QGIS has ``mapX,mapY`` on the map, which is the fixed scene, and ``sourceX,sourceY``
(before QGIS 3.26 ``pixelX,pixelY``) in the moving one; points that are switched off there are left out, and
a first line ``#CRS:`` names the map's CRS. A ``.csv`` or ``.tsv`` table has the columns ``fixed_x,fixed_y,
moving_x,moving_y``, perhaps with ``name`` and ``weight``. Coordinates are those of each scene's file: of its
CRS; of a scene without any, pixels from the outer corner of the first one, which QGIS counts negative
downwards.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.landmarks import Landmarks
from regflow.core.reprojection import build_reprojection, is_same_crs
from regflow.core.transform import Points
from regflow.io.landmarks import parse_weights
from regflow.io.rasters import read_raster_header
from regflow.io.scenes import SceneView
from regflow.io.text_files import TableRow, find_delimiter, parse_number, read_text, split_rows

ENDINGS = (".points", ".csv", ".tsv")

HALF = 0.5
"""From the outer corner of a pixel, where plain pixels are counted from, to its center."""
_QGIS = (
    ("mapx", "mapy", "sourcex", "sourcey"),
    ("mapx", "mapy", "pixelx", "pixely"),
)
_TABLE = (("fixed_x", "fixed_y", "moving_x", "moving_y"),)
_CRS = re.compile(r"#\s*CRS\s*:\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class GroundControl:
    """Pairs of points as a file has them.

    Attributes:
        names: of the pairs.
        fixed: ``(N, 2)`` in the fixed scene's coordinates, or in ``crs``.
        moving: ``(N, 2)`` in the moving scene's.
        weights: ``(N,)``; None when all count alike.
        crs: of ``fixed`` as the file names it; None where it names none.
        upward: pixels are counted negative downwards, as QGIS does.
    """

    names: tuple[str, ...]
    fixed: NDArray[np.float64]
    moving: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    crs: str | None = None
    upward: bool = False


def read_ground_control(path: str | Path) -> GroundControl:
    """Read pairs of points from ``.points``, ``.csv`` or ``.tsv``.

    Raises:
        InputError: the file is missing, of another format, or holds no pair; a column or a number is wrong.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: pairs of points are read from {', '.join(ENDINGS)}; choose one of these")
    if not path.is_file():
        raise InputError(f"{path}: this file of landmarks does not exist; correct the path")
    text = read_text(path, f"export the points as {' or '.join(ENDINGS)}")
    qgis = path.suffix.lower() == ".points"
    rows = list(split_rows(path, text, find_delimiter(text)))
    header = [cell.lower() for cell in rows[0].cells] if rows else []
    places = _find_columns(path, header, _QGIS if qgis else _TABLE)
    kept = [row for row in rows[1:] if not _is_off(header, row.cells)]
    if not kept:
        raise InputError(f"{path}: holds no pair of points; add some or leave it out")
    points = np.array([_parse_row(path, row.line, row.cells, places) for row in kept])
    numbers = [str(number) for number in range(1, len(kept) + 1)]
    names = _cells(header, "name", kept) or numbers
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: two pairs of points are named '{twice}'; give each its own name")
    weights = parse_weights(path, names, _cells(header, "weight", kept))
    stated = _CRS.match(text.splitlines()[0])
    crs = stated[1].strip() if stated else None
    return GroundControl(tuple(names), points[:, :2], points[:, 2:], weights, crs, qgis)


def locate_ground_control(control: GroundControl, fixed: SceneView, moving: SceneView) -> LandmarkPairs:
    """Return pairs of points in the working world of two scenes.

    Args:
        control: the pairs.
        fixed: how the fixed scene is opened.
        moving: how the moving scene is opened, in the fixed one's CRS.

    Raises:
        InputError: a CRS is not known or cannot be reached from the other, or a scene is tied to the ground
            by points or a sensor's model, so that its coordinates are no file's.
    """
    there = _locate(control.fixed, fixed, control.crs, control.upward)
    back = _locate(control.moving, moving, None, control.upward)
    sides = Landmarks(control.names, there, control.weights), Landmarks(control.names, back)
    return LandmarkPairs(*sides)


def _locate(points: Points, view: SceneView, crs: str | None, upward: bool) -> Points:
    """Return points in the coordinates of a scene's file, or in a CRS, in its working world."""
    header = read_raster_header(view.path)
    if header.georeference == "none":
        pixels = points * [1, -1] if upward else points
        return view.grid.to_world(pixels - HALF)
    if header.grid is None:
        raise InputError(
            f"{view.path}: landmarks are read of scenes with a geotransform or of plain pixels, not with "
            f"{header.georeference}; warp it to a map first, or leave the landmarks out"
        )
    source = crs or header.crs
    if view.grid.crs is None:
        # Both scenes are taken as plain pixels, as the fixed one has no coordinates.
        return header.grid.to_index(points) if view.grid == header.pixel_grid else points
    if source is None or is_same_crs(source, view.grid.crs):
        return points
    return build_reprojection(source, view.grid.crs, view.grid).apply(points)


def _find_columns(path: Path, header: Sequence[str], known: Sequence[Sequence[str]]) -> list[int]:
    for columns in known:
        if all(header.count(column) == 1 for column in columns):
            return [header.index(column) for column in columns]
    raise InputError(f"{path}: the first line must name the columns {', '.join(known[0])}, once each")


def _is_off(header: Sequence[str], cells: Sequence[str]) -> bool:
    place = header.index("enable") if "enable" in header else len(cells)
    return place < len(cells) and cells[place].strip() == "0"


def _parse_row(path: Path, line: int, cells: Sequence[str], places: Sequence[int]) -> list[float]:
    try:
        found = [parse_number(cells[place]) for place in places]
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path}, line {line}: needs four numbers as coordinates; correct the line"
        ) from error
    if not np.isfinite(found).all():
        raise InputError(f"{path}, line {line}: a coordinate is not finite; correct the line")
    return found


def _cells(header: Sequence[str], column: str, rows: Sequence[TableRow]) -> list[str] | None:
    """Return the cells of a column, empty ones where a row is short; None without that column."""
    if column not in header:
        return None
    place = header.index(column)
    return [row.cells[place] if place < len(row.cells) else "" for row in rows]
