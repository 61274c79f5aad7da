"""Least-squares matching of windows, compiled: search and Gauss-Newton.

Arrays of one window are ``(C, n, n)`` float32; positions are ``(x, y)`` in samples of the window.

Sources: Gruen, South African J. Photogrammetry 14(3):175-187, 1985 (least-squares matching); Pan et
al., Experimental Mechanics 53(7):1277-1289, 2013 (inverse-compositional Gauss-Newton with the
zero-mean normalized criterion); Unser, IEEE Signal Processing Magazine 16(6):22-38, 1999 (cubic
B-splines).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.kernels import njit

Array = NDArray[Any]

LEAST_COMPARED = 0.15
"""Share of a window that must be valid in both scenes for the search to compare it."""

_JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_JIT)
def search_offsets(
    template: Array, inside: Array, target: Array, seen: Array, most: int
) -> tuple[int, int, float, float]:
    """Find a template in a larger patch by whole samples.

    Args:
        template: ``(C, n, n)``.
        inside: ``(n, n)`` bool, its valid samples.
        target: ``(C, n + 2 most, n + 2 most)``.
        seen: its valid samples.
        most: farthest shift along each axis.

    Returns:
        Shift along x and y, the normalized correlation there, and the highest one more than 2
        samples away; -1 where less than :data:`LEAST_COMPARED` of the window can be compared.
    """
    shifts = 2 * most + 1
    score = np.empty((shifts, shifts), np.float32)
    known = seen.astype(np.float32)
    best, at_y, at_x = -2.0, 0, 0
    for dy in range(shifts):
        _score_row(template, inside, target, known, dy, score[dy])
        for dx in range(shifts):
            if score[dy, dx] > best:
                best, at_y, at_x = score[dy, dx], dy, dx
    rival = -1.0
    for dy in range(shifts):
        for dx in range(shifts):
            if max(abs(dy - at_y), abs(dx - at_x)) > 2 and score[dy, dx] > rival:
                rival = score[dy, dx]
    return at_x - most, at_y - most, best, rival


@njit(**_JIT)
def _score_row(template: Array, inside: Array, target: Array, known: Array, dy: int, out: Array) -> None:
    """Correlate a template at one vertical shift and all horizontal ones, side by side."""
    channels, size = template.shape[0], template.shape[1]
    shifts = out.size
    top, spread_a, spread_b = np.zeros(shifts), np.zeros(shifts), np.zeros(shifts)
    sums = np.empty((6, shifts), np.float32)
    for c in range(channels):
        sums[:] = 0.0
        for i in range(size):
            for j in range(size):
                if not inside[i, j]:
                    continue
                a = template[c, i, j]
                for k in range(shifts):
                    w = known[i + dy, j + k]
                    b = w * target[c, i + dy, j + k]
                    sums[0, k] += w
                    sums[1, k] += w * a
                    sums[2, k] += w * a * a
                    sums[3, k] += b
                    sums[4, k] += b * b
                    sums[5, k] += a * b
        for k in range(shifts):
            count = max(sums[0, k], 1.0)
            spread_a[k] += sums[2, k] - sums[1, k] * sums[1, k] / count
            spread_b[k] += sums[4, k] - sums[3, k] * sums[3, k] / count
            top[k] += sums[5, k] - sums[1, k] * sums[3, k] / count
    for k in range(shifts):
        product = spread_a[k] * spread_b[k]
        usable = product > 1e-12 and sums[0, k] >= LEAST_COMPARED * size * size
        out[k] = top[k] / math.sqrt(product) if usable else -1.0


@njit(**_JIT)
def align_window(
    template: Array,
    weight: Array,
    coefs: Array,
    warp: Array,
    free: int,
    rounds: int,
    tolerance: float,
    sampled: Array,
) -> tuple[float, float, float]:
    """Align a window by inverse-compositional Gauss-Newton on the normalized residual.

    Args:
        template: ``(C, n + 2, n + 2)``: the window and one sample around it, for gradients.
        weight: ``(n, n)``; zero where a sample does not count.
        coefs: ``(C, m, m)`` cubic B-spline coefficients of the patch to sample; m > n, both odd.
        warp: ``(2, 3)``, changed in place: position in the patch, from its middle, of a position in
            the window, from its middle.
        free: 2 to move the window, 6 to let its linear part follow too.
        rounds: most iterations.
        tolerance: samples; a change below it ends the iterations.
        sampled: ``(C, n, n)``, filled with the patch where the last iteration began.

    Returns:
        The correlation at the end (-2 when the window left the patch or has too little texture), and
        the standard errors along x and y that the residual predicts.
    """
    slopes = _slopes(template, weight)
    half = weight.shape[0] // 2
    total = 0.0
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            total += weight[i, j]
    lower, means, goal, spread = _prepare(template, slopes, weight, free, total)
    if spread <= 1e-12 or lower[0, 0] == 0.0:
        return -2.0, 0.0, 0.0
    step = np.empty(free)
    projected = np.empty((template.shape[0], 6))
    sums = np.empty((template.shape[0], 2))
    for _ in range(rounds):
        if not _sample(coefs, warp, sampled):
            return -2.0, 0.0, 0.0
        spread_s = _project(sampled, slopes, weight, total, projected, sums)
        if spread_s <= 1e-12:
            return -2.0, 0.0, 0.0
        gain = math.sqrt(spread / spread_s)
        for k in range(free):
            step[k] = -goal[k]
            for c in range(template.shape[0]):
                step[k] += gain * (projected[c, k] - means[c, k] * sums[c, 0] / total)
        _solve(lower, step)
        if _compose(warp, step, half) < tolerance:
            break
    found = _agreement(template, sampled, weight, total)
    left = max(1.0 - found * found, 0.0) * spread / max(total * template.shape[0] - free, 1.0)
    return found, _error(lower, left, 0), _error(lower, left, 1)


@njit(**_JIT)
def _slopes(template: Array, weight: Array) -> Array:
    """Return the weighted gradients along x and y, ``(C, 2, n, n)``."""
    size = weight.shape[0]
    out = np.empty((template.shape[0], 2, size, size), np.float32)
    half = np.float32(0.5)
    for c in range(template.shape[0]):
        for i in range(size):
            for j in range(size):
                w = half * weight[i, j]
                out[c, 0, i, j] = w * (template[c, i + 1, j + 2] - template[c, i + 1, j])
                out[c, 1, i, j] = w * (template[c, i + 2, j + 1] - template[c, i, j + 1])
    return out


@njit(**_JIT)
def _prepare(
    template: Array, slopes: Array, weight: Array, free: int, total: float
) -> tuple[Array, Array, Array, float]:
    """Return what stays the same over the iterations.

    That is the Cholesky factor of the normal matrix with each channel's mean eliminated (first entry 0
    when it is singular), the summed slopes, the template's projection on the slopes, and its spread.
    """
    channels, size = template.shape[0], weight.shape[0]
    inner = template[:, 1 : 1 + size, 1 : 1 + size]
    means, goal = np.empty((channels, 6)), np.zeros(6)
    sums, projected = np.empty((channels, 2)), np.empty((channels, 6))
    spread = _project(inner, slopes, weight, total, projected, sums)
    hessian = np.zeros((6, 6))
    for c in range(channels):
        _moments(slopes[c], weight, hessian)
        _first(slopes[c], means[c])
        for a in range(6):
            goal[a] += projected[c, a] - means[c, a] * sums[c, 0] / total
            for b in range(a + 1):
                hessian[a, b] -= means[c, a] * means[c, b] / total
    lower = np.zeros((free, free))
    if not _cholesky(hessian[:free, :free], lower):
        lower[0, 0] = 0.0
    return lower, means, goal, spread


@njit(**_JIT)
def _project(part: Array, slopes: Array, weight: Array, total: float, projected: Array, sums: Array) -> float:
    """Project a window on the slopes of the six parameters; return its spread about its means.

    Sums run down the columns first: side by side, in an order that does not change.
    """
    channels, size = part.shape[0], weight.shape[0]
    half = size // 2
    columns = np.empty((6, size), np.float32)
    spread = 0.0
    for c in range(channels):
        columns[:] = 0.0
        for i in range(size):
            y = np.float32(i - half)
            for j in range(size):
                value = part[c, i, j]
                heavy = weight[i, j] * value
                gx, gy = slopes[c, 0, i, j] * value, slopes[c, 1, i, j] * value
                columns[0, j] += gx
                columns[1, j] += gy
                columns[2, j] += y * gx
                columns[3, j] += y * gy
                columns[4, j] += heavy
                columns[5, j] += heavy * value
        _collect(columns, projected[c])
        first, second = 0.0, 0.0
        for j in range(size):
            first += columns[4, j]
            second += columns[5, j]
        sums[c, 0], sums[c, 1] = first, second
        spread += second - first * first / total
    return spread


@njit(**_JIT)
def _collect(columns: Array, out: Array) -> None:
    """Add up columns of gx, gy, y gx and y gy into the order of the six parameters."""
    half = columns.shape[1] // 2
    out[:] = 0.0
    for j in range(columns.shape[1]):
        x = float(j - half)
        out[0] += columns[0, j]
        out[1] += columns[1, j]
        out[2] += x * columns[0, j]
        out[3] += columns[2, j]
        out[4] += x * columns[1, j]
        out[5] += columns[3, j]


@njit(**_JIT)
def _first(slopes: Array, out: Array) -> None:
    """Sum the slopes of the six parameters over a window."""
    size = slopes.shape[1]
    half = size // 2
    columns = np.zeros((4, size), np.float32)
    for i in range(size):
        y = np.float32(i - half)
        for j in range(size):
            columns[0, j] += slopes[0, i, j]
            columns[1, j] += slopes[1, i, j]
            columns[2, j] += y * slopes[0, i, j]
            columns[3, j] += y * slopes[1, i, j]
    _collect(columns, out)


@njit(**_JIT)
def _moments(slopes: Array, weight: Array, hessian: Array) -> None:
    """Add the products of the slopes of the six parameters to the lower half of a normal matrix."""
    size = weight.shape[0]
    half = size // 2
    columns = np.zeros((9, size), np.float32)
    for i in range(size):
        y = np.float32(i - half)
        for j in range(size):
            w = weight[i, j]
            # Slopes carry the weight already: one of the two has to give it back.
            scale = np.float32(1.0) / w if w > 0 else np.float32(0.0)
            gx, gy = slopes[0, i, j], slopes[1, i, j]
            xx, xy, yy = scale * gx * gx, scale * gx * gy, scale * gy * gy
            columns[0, j] += xx
            columns[1, j] += xy
            columns[2, j] += yy
            columns[3, j] += y * xx
            columns[4, j] += y * xy
            columns[5, j] += y * yy
            columns[6, j] += y * y * xx
            columns[7, j] += y * y * xy
            columns[8, j] += y * y * yy
    sums = np.zeros((9, 3))
    for k in range(9):
        for j in range(size):
            x = float(j - half)
            sums[k, 0] += columns[k, j]
            sums[k, 1] += x * columns[k, j]
            sums[k, 2] += x * x * columns[k, j]
    # Parameter = (gradient, power of x, power of y).
    for a in range(6):
        for b in range(a + 1):
            gradients = (0 if a in (0, 2, 3) else 1) + (0 if b in (0, 2, 3) else 1)
            of_x = (1 if a in (2, 4) else 0) + (1 if b in (2, 4) else 0)
            of_y = (1 if a in (3, 5) else 0) + (1 if b in (3, 5) else 0)
            hessian[a, b] += sums[3 * of_y + gradients, of_x]


@njit(**_JIT)
def _agreement(template: Array, sampled: Array, weight: Array, total: float) -> float:
    """Return the weighted normalized correlation, channels taken together."""
    size = weight.shape[0]
    top, spread_a, spread_b = 0.0, 0.0, 0.0
    columns = np.empty((5, size), np.float32)
    sums = np.empty(5)
    for c in range(template.shape[0]):
        columns[:] = 0.0
        for i in range(size):
            for j in range(size):
                w, a, b = weight[i, j], template[c, i + 1, j + 1], sampled[c, i, j]
                columns[0, j] += w * a
                columns[1, j] += w * b
                columns[2, j] += w * a * a
                columns[3, j] += w * b * b
                columns[4, j] += w * a * b
        sums[:] = 0.0
        for k in range(5):
            for j in range(size):
                sums[k] += columns[k, j]
        spread_a += sums[2] - sums[0] * sums[0] / total
        spread_b += sums[3] - sums[1] * sums[1] / total
        top += sums[4] - sums[0] * sums[1] / total
    product = spread_a * spread_b
    return top / math.sqrt(product) if product > 1e-24 else -1.0


@njit(**_JIT)
def _cholesky(matrix: Array, lower: Array) -> bool:
    """Factor a small symmetric matrix; tell whether it is positive definite by a margin."""
    for a in range(matrix.shape[0]):
        for b in range(a + 1):
            value = matrix[a, b]
            for k in range(b):
                value -= lower[a, k] * lower[b, k]
            if a == b:
                if value <= 1e-6 * matrix[a, a] or value <= 1e-20:
                    return False
                lower[a, a] = math.sqrt(value)
            else:
                lower[a, b] = value / lower[b, b]
    return True


@njit(**_JIT)
def _solve(lower: Array, right: Array) -> None:
    size = right.size
    for a in range(size):
        for k in range(a):
            right[a] -= lower[a, k] * right[k]
        right[a] /= lower[a, a]
    for a in range(size - 1, -1, -1):
        for k in range(a + 1, size):
            right[a] -= lower[k, a] * right[k]
        right[a] /= lower[a, a]


@njit(**_JIT)
def _error(lower: Array, variance: float, axis: int) -> float:
    """Return the standard error of one parameter from the normal matrix and a sample's variance."""
    unit = np.zeros(lower.shape[0])
    unit[axis] = 1.0
    _solve(lower, unit)
    return math.sqrt(variance * max(unit[axis], 0.0))


@njit(**_JIT)
def _compose(warp: Array, step: Array, half: int) -> float:
    """Put the inverse of a step before the warp; return how far the window's rim moves by it."""
    a, b, c, d = 1.0, 0.0, 0.0, 1.0
    if step.size == 6:
        a, b, c, d = 1.0 + step[2], step[3], step[4], 1.0 + step[5]
    determinant = max(a * d - b * c, 0.25)
    p, q, r, s = d / determinant, -b / determinant, -c / determinant, a / determinant
    tx, ty = -(p * step[0] + q * step[1]), -(r * step[0] + s * step[1])
    for k in range(2):
        m0, m1 = warp[k, 0], warp[k, 1]
        warp[k, 0] = m0 * p + m1 * r
        warp[k, 1] = m0 * q + m1 * s
        warp[k, 2] += m0 * tx + m1 * ty
    return abs(tx) + abs(ty) + half * (abs(p - 1.0) + abs(q) + abs(r) + abs(s - 1.0))


@njit(**_JIT)
def _sample(coefs: Array, warp: Array, out: Array) -> bool:
    """Evaluate the spline at every sample of the window; False when that leaves the patch."""
    size, middle = out.shape[1], coefs.shape[1] // 2
    half = size // 2
    last = coefs.shape[1] - 2.5
    for a in (-half, half):
        for b in (-half, half):
            x = middle + warp[0, 0] * b + warp[0, 1] * a + warp[0, 2]
            y = middle + warp[1, 0] * b + warp[1, 1] * a + warp[1, 2]
            if not (1.5 <= x < last and 1.5 <= y < last):
                return False
    for c in range(out.shape[0]):
        for i in range(size):
            x0 = np.float32(middle + warp[0, 1] * (i - half) + warp[0, 2] - warp[0, 0] * half)
            y0 = np.float32(middle + warp[1, 1] * (i - half) + warp[1, 2] - warp[1, 0] * half)
            _sample_row(coefs[c], x0, y0, np.float32(warp[0, 0]), np.float32(warp[1, 0]), out[c, i])
    return True


@njit(**_JIT)
def _sample_row(coefs: Array, x0: float, y0: float, along_x: float, along_y: float, out: Array) -> None:
    one, sixth, half, two_thirds = np.float32(1.0), np.float32(1 / 6), np.float32(0.5), np.float32(2 / 3)
    two = np.float32(2.0)
    for j in range(out.size):
        x, y = x0 + along_x * np.float32(j), y0 + along_y * np.float32(j)
        left, top = np.uint32(x), np.uint32(y)
        s, t = x - np.float32(left), y - np.float32(top)
        rs, rt = one - s, one - t
        ax, bx = sixth * rs * rs * rs, two_thirds - half * s * s * (two - s)
        cx, dx = two_thirds - half * rs * rs * (two - rs), sixth * s * s * s
        ay, by = sixth * rt * rt * rt, two_thirds - half * t * t * (two - t)
        cy, dy = two_thirds - half * rt * rt * (two - rt), sixth * t * t * t
        k, v = left - np.uint32(1), top - np.uint32(1)
        row_a = _blend(coefs, v, k, ax, bx, cx, dx)
        row_b = _blend(coefs, v + np.uint32(1), k, ax, bx, cx, dx)
        row_c = _blend(coefs, v + np.uint32(2), k, ax, bx, cx, dx)
        row_d = _blend(coefs, v + np.uint32(3), k, ax, bx, cx, dx)
        out[j] = ay * row_a + by * row_b + cy * row_c + dy * row_d


@njit(**_JIT)
def _blend(coefs: Array, row: int, col: int, a: float, b: float, c: float, d: float) -> float:
    # Unsigned indices: numba then looks for no negative ones.
    return (
        a * coefs[row, col]
        + b * coefs[row, col + np.uint32(1)]
        + c * coefs[row, col + np.uint32(2)]
        + d * coefs[row, col + np.uint32(3)]
    )
