"""Numba kernels for pictures: one that looks up a plane through a projective map, and nothing else."""

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, inline="always")
def _weights(t: float) -> tuple[float, float, float, float]:
    """Cubic convolution weights of the four samples around a place ``t`` above the second."""
    s = 1.0 - t
    return (
        -0.5 * t * s * s,
        1.0 + t * t * (1.5 * t - 2.5),
        1.0 + s * s * (1.5 * s - 2.5),
        -0.5 * s * t * t,
    )


@njit(cache=True, nogil=True)
def look_up(values: Any, valid: Any, matrix: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """Sample a plane by cubic convolution at the images of a grid of whole indices.

    Source: Keys, IEEE Trans. Acoustics, Speech and Signal Processing 29(6):1153-1160, 1981.

    Args:
        values: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        matrix: ``(3, 3)`` homogeneous, from an index ``(x, y)`` of the result to one of ``values``.
        rows: of the result.
        columns: of the result.

    Returns:
        The samples and whether each is valid: all sixteen around it are there and valid. Samples
        that are not are 0.
    """
    height, width = values.shape
    out = np.zeros((rows, columns), np.float32)
    ok = np.zeros((rows, columns), np.bool_)
    for row in range(rows):
        for column in range(columns):
            w = matrix[2, 0] * column + matrix[2, 1] * row + matrix[2, 2]
            if w <= 1e-12:
                continue
            x = (matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2]) / w
            y = (matrix[1, 0] * column + matrix[1, 1] * row + matrix[1, 2]) / w
            # Rounding must not cost the last row and column of a picture that is only copied.
            near_x, near_y = np.rint(x), np.rint(y)
            if abs(x - near_x) < 1e-6 and abs(y - near_y) < 1e-6:
                i, j = int(near_y), int(near_x)
                if 0 <= i < height and 0 <= j < width and valid[i, j]:
                    out[row, column] = values[i, j]
                    ok[row, column] = True
                continue
            if not (1.0 <= x < width - 2.0 and 1.0 <= y < height - 2.0):
                continue
            left, top = int(x), int(y)
            across, down = _weights(x - left), _weights(y - top)
            total, whole = 0.0, True
            for i in range(4):
                line = 0.0
                for j in range(4):
                    whole = whole and valid[top - 1 + i, left - 1 + j]
                    line += across[j] * values[top - 1 + i, left - 1 + j]
                total += down[i] * line
            if whole:
                out[row, column] = total
                ok[row, column] = True
    return out, ok
