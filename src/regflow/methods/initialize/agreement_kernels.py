"""A Numba kernel that compares two pictures at some shifts of one against the other."""

from typing import Any

import numpy as np

from regflow.core.kernels import njit


@njit(cache=True, nogil=True)
def compare_at_shifts(
    fixed: Any, fixed_bins: Any, moving: Any, moving_bins: Any, shifts: Any, levels: int
) -> tuple[Any, Any]:
    """Add up products of edges, and count pairs of gray levels, where both pictures are valid.

    Args:
        fixed: ``(H, W)`` complex64 directions of edges.
        fixed_bins: ``(H, W)`` int16 gray levels below ``levels``; negative where it is not valid.
        moving: likewise, on the same grid.
        moving_bins: likewise.
        shifts: ``(K, 2)`` whole pixels, down and right, by which the moving picture's samples lie off.
        levels: how many gray levels there are.

    Returns:
        ``(K,)`` sums of the products, and ``(K, levels, levels)`` counts of pairs, the fixed level first.
    """
    height, width = fixed.shape
    sums = np.zeros(len(shifts), np.float64)
    joint = np.zeros((len(shifts), levels, levels), np.int64)
    for k in range(len(shifts)):
        down, right = shifts[k]
        counts = joint[k]
        total = 0.0
        for row in range(max(down, 0), height + min(down, 0)):
            for column in range(max(right, 0), width + min(right, 0)):
                level = fixed_bins[row, column]
                other = moving_bins[row - down, column - right]
                if level < 0 or other < 0:
                    continue
                p, q = fixed[row, column], moving[row - down, column - right]
                total += p.real * q.real + p.imag * q.imag
                counts[level, other] += 1
        sums[k] = total
    return sums, joint
