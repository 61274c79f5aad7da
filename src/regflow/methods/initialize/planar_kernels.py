"""Numba kernels for pictures: one that looks up a plane through a projective map, and nothing else."""

from typing import Any

import numpy as np

from regflow.core.kernels import njit

REACH = 3
"""Samples on either side of a place that its value comes from."""
STEPS = 1024
"""Places between two samples that are told apart."""


def _lanczos() -> Any:
    """Return the weights of the six samples around each place between two, ``(STEPS + 1, 6)`` float32.

    Softer kernels shift fine texture by some hundredths of a pixel towards the nearest sample.
    """
    place = np.arange(STEPS + 1)[:, None] / STEPS
    offset = place - np.arange(1 - REACH, REACH + 1)
    weights = np.sinc(offset) * np.sinc(offset / REACH) * (np.abs(offset) < REACH)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


WEIGHTS = _lanczos()


@njit(cache=True, nogil=True)
def look_up_samples(
    values: Any, valid: Any, matrix: Any, weights: Any, rows: int, columns: int
) -> tuple[Any, Any]:
    """Sample a plane by Lanczos' kernel at the images of a grid of whole indices.

    Args:
        values: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        matrix: ``(3, 3)`` homogeneous, from an index ``(x, y)`` of the result to one of ``values``.
        weights: :data:`WEIGHTS`.
        rows: of the result.
        columns: of the result.

    Returns:
        The samples and whether each is valid: all thirty-six around it are there and valid. Samples
        that are not are 0. A place on a sample needs that one alone.
    """
    height, width = values.shape
    complete = valid.all()
    out = np.zeros((rows, columns), np.float32)
    ok = np.zeros((rows, columns), np.bool_)
    for row in range(rows):
        for column in range(columns):
            w = matrix[2, 0] * column + matrix[2, 1] * row + matrix[2, 2]
            if w <= 1e-12:
                continue
            x = (matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2]) / w
            y = (matrix[1, 0] * column + matrix[1, 1] * row + matrix[1, 2]) / w
            near_x, near_y = np.rint(x), np.rint(y)
            if abs(x - near_x) < 1e-6 and abs(y - near_y) < 1e-6:
                i, j = int(near_y), int(near_x)
                if 0 <= i < height and 0 <= j < width and valid[i, j]:
                    out[row, column] = values[i, j]
                    ok[row, column] = True
                continue
            if not (REACH - 1 <= x < width - REACH and REACH - 1 <= y < height - REACH):
                continue
            left, top = int(x), int(y)
            # Unsigned indices: numba then looks for no negative ones.
            across, down = np.uint32((x - left) * STEPS + 0.5), np.uint32((y - top) * STEPS + 0.5)
            first, above = np.uint32(left + 1 - REACH), np.uint32(top + 1 - REACH)
            if complete or _all_valid(valid, above, first):
                out[row, column] = _weighed(values, weights, above, first, down, across)
                ok[row, column] = True
    return out, ok


@njit(cache=True, nogil=True)
def _weighed(values: Any, weights: Any, above: Any, first: Any, down: Any, across: Any) -> Any:
    total = np.float32(0.0)
    for i in range(np.uint32(2 * REACH)):
        line = np.float32(0.0)
        for j in range(np.uint32(2 * REACH)):
            line += weights[across, j] * values[above + i, first + j]
        total += weights[down, i] * line
    return total


@njit(cache=True, nogil=True)
def _all_valid(valid: Any, above: Any, first: Any) -> bool:
    for i in range(np.uint32(2 * REACH)):
        for j in range(np.uint32(2 * REACH)):
            if not valid[above + i, first + j]:
                return False
    return True
