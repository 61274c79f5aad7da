"""The loops of change detection, compiled by numba.

Every sum runs in the order of the pixels, without reassociation, so that no bit of a result depends
on threads, on the machine's vector width or on how a scene was divided.
"""

import math
from typing import Any

import numpy as np

from regflow.core.kernels import njit

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def sum_weighted_moments(rows: Any, weights: Any) -> Any:
    """Sum up weights, mean and scatter of ``rows (n, m)`` float64 with ``weights (n,)`` >= 0.

    Two passes: the scatter is taken about the mean, because the difference of large sums loses the
    digits on which a canonical correlation near 1 rests.

    Returns:
        The sum of the weights, the weighted mean ``(m,)``, and the sum of
        ``w (x - mean)(x - mean)'``, ``(m, m)``.
    """
    n, m = rows.shape
    total = 0.0
    mean = np.zeros(m)
    for i in range(n):
        total += weights[i]
        for j in range(m):
            mean[j] += weights[i] * rows[i, j]
    scatter = np.zeros((m, m))
    if total == 0.0:
        return total, mean, scatter
    for j in range(m):
        mean[j] /= total
    centered = np.empty(m)
    for i in range(n):
        weight = weights[i]
        if weight == 0.0:
            continue
        for j in range(m):
            centered[j] = rows[i, j] - mean[j]
        for j in range(m):
            scaled = weight * centered[j]
            for k in range(m):
                scatter[j, k] += scaled * centered[k]
    return total, mean, scatter


@njit(**_OPTIONS)
def project_values(values: Any, matrix: Any, offset: Any, out: Any) -> None:
    """Write ``matrix (p, c) @ values (c, n) + offset (p,)`` to ``out (p, n)``."""
    p, c = matrix.shape
    n = values.shape[1]
    for i in range(p):
        row = out[i]
        for x in range(n):
            row[x] = offset[i]
        for j in range(c):
            factor = matrix[i, j]
            source = values[j]
            for x in range(n):
                row[x] += factor * source[x]


@njit(**_OPTIONS)
def compute_chi_square_survival(statistic: Any, freedom: Any, out: Any) -> None:
    """Write the chance that a chi-square variable exceeds each ``statistic (n,)`` to ``out (n,)``.

    The closed forms for whole degrees of freedom: a finite sum for even ones, a finite sum beside
    the complementary error function for odd ones.
    """
    for x in range(statistic.size):
        half = 0.5 * max(statistic[x], 0.0)
        if freedom % 2 == 0:
            term = 1.0
            total = 1.0
            for k in range(1, freedom // 2):
                term *= half / k
                total += term
            out[x] = math.exp(-half) * total
        else:
            total = 0.0
            term = math.sqrt(half / math.pi) * 2.0
            for k in range(1, (freedom + 1) // 2):
                total += term
                term *= half / (k + 0.5)
            out[x] = math.erfc(math.sqrt(half)) + math.exp(-half) * total


@njit(**_OPTIONS)
def subtract_shift(difference: Any, slope_x: Any, slope_y: Any, radius: Any, out: Any) -> None:
    """Write what is left of each pixel's statistic after the small shift that explains most of it.

    Per pixel the shift ``d`` of at most ``radius`` minimizes the sum over the variates of
    ``(difference - slope . d) ** 2``, found along the stationary points of the disk.

    Args:
        difference: ``(p, n)`` variates of unit variance.
        slope_x: ``(p, n)`` change of the variates per unit of shift along x; ``slope_y`` along y.
        slope_y: see ``slope_x``.
        radius: the largest shift.
        out: ``(n,)``, written.
    """
    p, n = difference.shape
    for i in range(n):
        a = b = c = e = f = g = 0.0
        for k in range(p):
            sx, sy, m = slope_x[k, i], slope_y[k, i], difference[k, i]
            a += sx * sx
            b += sx * sy
            c += sy * sy
            e += sx * m
            f += sy * m
            g += m * m
        out[i] = g - _gain(a, b, c, e, f, radius)


@njit(**_OPTIONS)
def _gain(a: float, b: float, c: float, e: float, f: float, radius: float) -> float:
    """Return the largest ``2 h.d - d'Hd`` over ``|d| <= radius``, H = [[a, b], [b, c]], h = (e, f).

    With H + t I in place of H the best shift shrinks as t grows: t = 0 where it already lies within
    the disk, else bisection finds the t that puts it on the edge.
    """
    slope = math.sqrt(e * e + f * f)
    if slope == 0.0 or radius <= 0.0:
        return 0.0
    tiny = 1e-12 * (a + c) + 1e-300
    low, high = 0.0, slope / radius
    dx, dy = _shift(a + tiny, b, c + tiny, e, f)
    if dx * dx + dy * dy > radius * radius:
        for _ in range(40):
            middle = 0.5 * (low + high)
            dx, dy = _shift(a + middle, b, c + middle, e, f)
            if dx * dx + dy * dy > radius * radius:
                low = middle
            else:
                high = middle
        dx, dy = _shift(a + high, b, c + high, e, f)
    return 2.0 * (e * dx + f * dy) - (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)


@njit(**_OPTIONS)
def _shift(a: float, b: float, c: float, e: float, f: float) -> tuple[float, float]:
    determinant = a * c - b * b
    if determinant <= 0.0:
        return math.inf, math.inf
    return (c * e - b * f) / determinant, (a * f - b * e) / determinant
