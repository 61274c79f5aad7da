"""Slices of a volume as a radiologist reads them: axial, coronal and sagittal, right way up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid

PLANES = ("axial", "coronal", "sagittal")
MARGIN_MM = 6.0
"""Kept around the mask in each picture."""
SPREAD = (0.14, 0.86)
"""Part of the mask's extent over which the slices of a plane are spread."""
NORMAL = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Axis of a standing volume that runs across a plane."""
ENDS = {"axial": "SI", "coronal": "AP", "sagittal": "LR"}
SIDES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
"""What lies at the left, right, top and bottom of a radiological picture of each plane."""


@dataclass(frozen=True)
class SlicePlane:
    """One slice: which samples of the standing volume it shows, and how large they are.

    Attributes:
        plane: ``axial``, ``coronal`` or ``sagittal``.
        number: index along the plane's normal.
        rows: of the picture, from the top.
        columns: of the picture, from the left.
        pixel_mm: height and width of a sample, in the standing grid's unit.
        place: where it lies, such as ``12 mm S``.
        sides: letters at the left, right, top and bottom.
    """

    plane: str
    number: int
    rows: slice
    columns: slice
    pixel_mm: tuple[float, float]
    place: str
    sides: tuple[str, str, str, str]

    def cut(self, standing: NDArray[Any]) -> NDArray[Any]:
        """Return the slice of a standing volume, ``(rows, columns)``."""
        index: list[int | slice] = [self.rows, self.columns]
        index.insert(NORMAL[self.plane], self.number)
        return standing[tuple(index)]

    def measure_size(self, standing: tuple[int, ...]) -> tuple[int, int]:
        """Return rows and columns of the picture of a standing volume of this shape."""
        shape = [n for axis, n in enumerate(standing) if axis != NORMAL[self.plane]]
        return (
            len(range(*self.rows.indices(shape[0]))),
            len(range(*self.columns.indices(shape[1]))),
        )

    @property
    def plane_axes(self) -> tuple[int, int]:
        """World axes (0 to 2) along the rows and the columns."""
        return {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}[self.plane]


@dataclass(frozen=True, eq=False)
class UprightOrientation:
    """How to turn a grid's arrays so that their axes run to superior, posterior and left.

    Attributes:
        axes: array axes in the order superior, posterior, left.
        flips: whether each of these runs the other way.
        grid: the grid of the turned arrays.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    grid: Grid

    @classmethod
    def from_grid(cls, grid: Grid) -> "UprightOrientation":
        """Find the turn for a 3-D grid; oblique axes count as the nearest of the body's."""
        from itertools import permutations

        cosines = grid.direction
        nearest = max(permutations(range(3)), key=lambda p: sum(abs(cosines[w, p[w]]) for w in range(3)))
        left, posterior, superior = nearest
        index_axes = (superior, posterior, left)
        worlds = (2, 1, 0)
        flips = tuple(bool(cosines[w, i] < 0) for w, i in zip(worlds, index_axes, strict=True))
        axes = tuple(2 - i for i in index_axes)
        return cls(axes, flips, _turned(grid, index_axes, flips))  # type: ignore[arg-type]

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a ``grid.shape`` array with axes superior, posterior, left."""
        turned = np.transpose(array, self.axes)
        return turned[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]


def _turned(grid: Grid, index_axes: tuple[int, ...], flips: tuple[bool, ...]) -> Grid:
    """Return the grid whose array order is ``index_axes`` of the given one, flipped as told."""
    affine = np.eye(4)
    first = np.zeros(3)
    for column, (axis, flip) in enumerate(zip(index_axes[::-1], flips[::-1], strict=True)):
        affine[:3, column] = grid.affine[:3, axis] * (-1 if flip else 1)
        first[axis] = grid.size[axis] - 1 if flip else 0
    affine[:3, 3] = grid.to_world(first)
    return Grid(tuple(grid.size[axis] for axis in index_axes), affine)


def choose_slices(
    standing: UprightOrientation,
    mask: NDArray[np.bool_],
    count: int,
    *,
    neurological: bool = False,
    unit_mm: float = 1.0,
) -> Mapping[str, list[SlicePlane]]:
    """Choose slices of each plane, spread over the mask and cropped to it.

    Args:
        standing: the turn of the volume.
        mask: turned mask, not empty.
        count: slices per plane; an odd number has one in the middle.
        neurological: show the patient's left on the left instead of the right.
        unit_mm: of the standing grid.
    """
    extent = [
        np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)
    ]
    steps = standing.grid.spacing[::-1]
    boxes = []
    for (low, high), step, size in zip(extent, steps, mask.shape, strict=True):
        margin = int(np.ceil(MARGIN_MM / step))
        boxes.append((max(0, int(low) - margin), min(size, int(high) + 1 + margin)))
    return {
        plane: [
            _cut(standing, plane, number, boxes, neurological, unit_mm)
            for number in _spread(extent[NORMAL[plane]], count)
        ]
        for plane in PLANES
    }


def _spread(extent: NDArray[np.intp], count: int) -> list[int]:
    low, high = extent
    parts = np.linspace(*SPREAD, count) if count > 1 else np.array([0.5])
    return [round(float(low + part * (high - low))) for part in parts]


def _cut(
    standing: UprightOrientation,
    plane: str,
    number: int,
    boxes: list[tuple[int, int]],
    neurological: bool,
    unit_mm: float,
) -> SlicePlane:
    (row_box, row_step), (column_box, column_step) = [
        (box, step)
        for axis, (box, step) in enumerate(zip(boxes, standing.grid.spacing[::-1], strict=True))
        if axis != NORMAL[plane]
    ]
    rows = slice(*row_box) if plane == "axial" else _reversed(row_box)
    left, right, top, bottom = SIDES[plane]
    columns = slice(*column_box)
    if neurological and plane != "sagittal":
        columns, left, right = _reversed(column_box), right, left
    pixel = (float(row_step), float(column_step))
    place = _place(standing, plane, number, unit_mm)
    return SlicePlane(plane, number, rows, columns, pixel, place, (left, right, top, bottom))


def _reversed(box: tuple[int, int]) -> slice:
    low, high = box
    return slice(high - 1, low - 1 if low else None, -1)


def _place(standing: UprightOrientation, plane: str, number: int, unit_mm: float) -> str:
    """Say in millimeters and a letter where a slice lies in the world, at the volume's center."""
    index = (np.array(standing.grid.size) - 1) / 2
    index[2 - NORMAL[plane]] = number
    world = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    position = round(float(standing.grid.to_world(index)[world]))
    if plane == "axial":
        letter = "S" if position >= 0 else "I"
    elif plane == "coronal":
        letter = "P" if position >= 0 else "A"
    else:
        letter = "L" if position >= 0 else "R"
    return f"{abs(position) * unit_mm:.10g} mm {letter}"
