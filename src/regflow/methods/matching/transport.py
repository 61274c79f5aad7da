"""Unbalanced optimal transport between clouds of points, in the log domain.

Sources: Cuturi, NIPS 2013 (entropy); Chizat et al., Mathematics of Computation 87(314):2563-2609, 2018
(unbalanced: mass may be left behind).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def solve_transport(costs: Array, blur: float, reach: float, rounds: int) -> Array:
    """Return the plan ``(N, M)`` of least cost between two clouds of equal mass 1.

    Args:
        costs: ``(N, M)`` of moving a unit of mass.
        blur: weight of the entropy, in units of costs: how soft the matches are.
        reach: weight of the mass left behind, in units of costs: what costs more is not moved.
        rounds: most iterations of Sinkhorn.

    Returns:
        Float64, its rows sum up to at most about ``1 / N``.
    """
    count, others = costs.shape
    first, second = -np.log(count), -np.log(others)
    relax = reach / (reach + blur)
    scaled = -np.asarray(costs, np.float64) / blur
    f, g = np.zeros(count), np.zeros(others)
    for _ in range(rounds):
        f = -relax * _log_sum(scaled + (g + second)[None], 1)
        new = -relax * _log_sum(scaled + (f + first)[:, None], 0)
        done = float(np.abs(new - g).max()) < 1e-3
        g = new
        if done:
            break
    return np.asarray(np.exp(scaled + f[:, None] + g[None] + first + second))


def _log_sum(values: Array, axis: int) -> Array:
    """Return the logarithm of the sum of exponentials along an axis."""
    highest = values.max(axis=axis, keepdims=True)
    total = np.exp(values - highest).sum(axis=axis)
    return np.asarray(np.log(total) + np.squeeze(highest, axis))
