"""Averaging over areas: how a finer image is read at a coarser spacing."""

import numpy as np
from numpy.typing import NDArray

from regflow.core.kernels import njit

MIN_VALID_SHARE = 0.5
"""Share of a coarser sample's area that must be valid."""


def average_blocks(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    starts: tuple[tuple[int, int], tuple[int, int]],
    shape: tuple[int, int],
    factors: tuple[float, float],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Average the valid samples over the area of each coarser one.

    Each result depends on the absolute indices alone, so windows agree with the whole.

    Args:
        values: ``(C, h, w)`` finer samples of a window.
        valid: ``(h, w)``.
        starts: for rows and for columns, the absolute index of the first coarser sample that is
            wanted and of the first finer sample in ``values``.
        shape: rows and columns that are wanted.
        factors: finer samples per coarser one along rows and columns.

    Returns:
        Values ``(C, *shape)``, 0 where invalid, and validity ``shape``.
    """
    means = np.zeros((values.shape[0], *shape), dtype=np.float32)
    known = np.zeros(shape, dtype=np.bool_)
    (row, finer_row), (col, finer_col) = starts
    _average(values, valid, row, finer_row, factors[0], col, finer_col, factors[1], means, known)
    return means, known


@njit(cache=True, nogil=True)
def _average(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    row: int,
    finer_row: int,
    down: float,
    col: int,
    finer_col: int,
    across: float,
    means: NDArray[np.float32],
    known: NDArray[np.bool_],
) -> None:
    channels, height, width = values.shape
    total = np.empty(channels)
    for i in range(means.shape[1]):
        top, bottom = (row + i) * down, (row + i + 1) * down
        first, last = int(np.floor(top)), min(int(np.ceil(bottom)), finer_row + height)
        for j in range(means.shape[2]):
            left, right = (col + j) * across, (col + j + 1) * across
            begin, end = int(np.floor(left)), min(int(np.ceil(right)), finer_col + width)
            total[:] = 0.0
            area = 0.0
            for y in range(first, last):
                share = min(bottom, y + 1.0) - max(top, float(y))
                for x in range(begin, end):
                    if valid[y - finer_row, x - finer_col]:
                        weight = share * (min(right, x + 1.0) - max(left, float(x)))
                        area += weight
                        for c in range(channels):
                            total[c] += weight * values[c, y - finer_row, x - finer_col]
            if area >= MIN_VALID_SHARE * down * across * (1 - 1e-9):
                known[i, j] = True
                for c in range(channels):
                    means[c, i, j] = total[c] / area
