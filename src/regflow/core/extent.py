"""How large an object is: the length that radii, spacings and errors are parts of."""

import math

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid


def measure_ball_diameter(mask: NDArray[np.bool_] | None, grid: Grid) -> float:
    """Return the diameter, in world units, of the ball (2-D: disk) as large as a mask.

    About 160 mm for a human brain, 200 mm for a head, 10 mm for a mouse's brain.

    Args:
        mask: ``grid.shape``; the whole grid when None.
        grid: of the mask.
    """
    count = math.prod(grid.shape) if mask is None else int(np.count_nonzero(mask))
    volume = count * float(grid.spacing.prod())
    return 2 * (math.sqrt(volume / math.pi) if grid.ndim == 2 else math.cbrt(volume * 3 / (4 * math.pi)))


def measure_longest_side(grid: Grid) -> float:
    """Return the longest side of a field of view, in world units."""
    return float((np.array(grid.size) * grid.spacing).max())


def resolve_length(length: float | None, part: float, whole: float) -> float:
    """Return a stated length, or, where none is stated, a part of a whole."""
    return part * whole if length is None else float(length)
