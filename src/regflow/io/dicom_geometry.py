"""How the slices of a DICOM volume must lie: parallel, at even steps, above each other."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.header import make_volume_grid

STEP_TOLERANCE = 0.1
"""Largest departure of one step between slices from the usual one, as a part of it."""

TILT_TOLERANCE = 0.01
"""Largest sideways drift of the slices per millimeter along their normal."""

SAME_PLACE_MM = 1e-6
"""Slices nearer than this lie at one place."""


def stack_grid(
    path: Path,
    shape: tuple[int, int, int],
    positions: NDArray[np.float64],
    plane: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> Grid:
    """Return the grid of slices in order of position.

    Args:
        path: the file or folder, for messages.
        shape: ``(slices, rows, columns)``.
        positions: of each slice's first sample, ``(slices, 3)`` LPS millimeters.
        plane: steps along a row and along a column, as columns, ``(3, 2)``.
        normal: unit vector across the slices.

    Raises:
        InputError: a single slice, slices at one place, at uneven steps or at a slant.
    """
    affine = np.eye(4)
    affine[:3, :2] = plane
    affine[:3, 2] = _step(path, positions, normal) if len(positions) > 1 else normal
    affine[:3, 3] = positions[0]
    return make_volume_grid(path, shape, affine)


def _step(path: Path, positions: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vector from slice to slice, along the normal."""
    heights = np.diff(positions, axis=0) @ normal
    usual = float(np.median(heights))
    if abs(usual) < SAME_PLACE_MM or np.any(np.abs(heights) < SAME_PLACE_MM):
        raise InputError(
            f"{path}: several slices lie at one position (echoes, times); keep one volume's files in a folder"
        )
    if np.abs(heights - usual).max() > STEP_TOLERANCE * abs(usual):
        raise InputError(f"{path}: {_unevenness(heights, usual)}")
    span = positions[-1] - positions[0]
    height = float(span @ normal)
    if np.linalg.norm(span - height * normal) > TILT_TOLERANCE * abs(height):
        raise InputError(
            f"{path}: the slices are stacked at a slant (tilted gantry); resample the series onto an "
            "orthogonal grid, e.g. with dcm2niix"
        )
    return np.asarray(normal * height / (len(positions) - 1))


def _unevenness(heights: NDArray[np.float64], usual: float) -> str:
    """Return what is wrong with uneven steps: whole steps are missing, or the distance varies."""
    low, high = np.abs(heights).min(), np.abs(heights).max()
    steps = f"the steps between slices go from {low:.3g} to {high:.3g} mm"
    counts = heights / usual
    if np.all(np.abs(counts - np.rint(counts)) <= STEP_TOLERANCE) and counts.min() > 0.5:
        missing = int(np.rint(counts).sum()) - len(heights)
        return f"{steps}; {missing} of the slices seem to be missing: copy the series again"
    return (
        f"{steps}; a grid has even steps: resample the series, e.g. with dcm2niix, or keep two scans' files "
        "in two folders"
    )
