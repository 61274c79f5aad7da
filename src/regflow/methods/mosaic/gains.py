"""One factor for each tile, under which overlapping tiles are equally bright."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regflow.methods.groupwise.normal_equations import NormalEquations

Array = NDArray[np.float64]

MOST_RATIO = math.log(4.0)
"""Overlaps that differ by more say nothing of the tiles as wholes."""
EVEN = 0.02
"""Weight of a factor of 1 beside one overlap's: it holds what no overlap does."""


def estimate_gains(count: int, pairs: Sequence[tuple[int, int]], log_ratios: Sequence[float]) -> Array:
    """Return factors ``(count,)``, 1 on geometric average about.

    Args:
        count: of tiles.
        pairs: numbers of the tiles of each overlap.
        log_ratios: logarithm of the first tile's mean over the second's, for each overlap.
    """
    used = [index for index, ratio in enumerate(log_ratios) if abs(ratio) <= MOST_RATIO]
    first = np.array([pairs[index][0] for index in used], np.intp)
    second = np.array([pairs[index][1] for index in used], np.intp)
    ratios = np.array([log_ratios[index] for index in used], np.float64)
    every = np.arange(count)
    ones = np.ones((len(used), 1, 1))
    blocks = np.concatenate([ones, ones, -ones, -ones, np.full((count, 1, 1), EVEN)])
    rows = np.concatenate([first, second, first, second, every])
    columns = np.concatenate([first, second, second, first, every])
    right = np.zeros((count, 1))
    np.add.at(right, first, -ratios[:, None])
    np.add.at(right, second, ratios[:, None])
    return np.exp(NormalEquations(rows, columns, count, 1).solve(blocks, right)[:, 0])
