"""The inner loops of :mod:`regflow.core.warp`, compiled.

Everything is computed in float64 from absolute indices, so a pixel has the same bits in whichever
window it is computed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.kernels import njit

BILINEAR, CUBIC, LANCZOS = 1, 2, 3

Array = NDArray[Any]
Mask = NDArray[np.bool_]
IndexPair = tuple[int, int]
Bounds = tuple[float, float, bool]
"""Lowest and highest value of a type, and whether it is an integer type."""
WarpPlace = tuple[Array, IndexPair, int, IndexPair, IndexPair, IndexPair]
"""Lattice nodes, first node, step, first pixel, first sample (row, column), size of the source."""

_SINES = np.sin(np.arange(-2, 4) * np.pi / 3)
_COSINES = np.cos(np.arange(-2, 4) * np.pi / 3)


def resample_window(
    samples: Array,
    known: Mask,
    place: WarpPlace,
    shape: IndexPair,
    kind: int,
    widening: tuple[float, float],
) -> tuple[Array, Mask]:
    """Resample one channel of a window.

    Args:
        samples: ``(h, w)`` window of the source.
        known: validity of ``samples``.
        place: where the window lies and looks.
        shape: rows and columns of the result.
        kind: 0 for the nearest sample, or the kernel's number, which is its radius.
        widening: of the kernel along columns and rows, 1 or more.

    Returns:
        Values and validity, ``shape``; values are 0 where invalid.
    """
    result = np.zeros(shape, dtype=samples.dtype)
    valid = np.zeros(shape, dtype=np.bool_)
    bounds = _bounds(samples.dtype)
    if kind == 0:
        sample_nearest(samples, known, place, result, valid)
    elif max(widening) > 1:
        resample_widened(samples, known, kind, widening, place, bounds, result, valid)
    else:
        kernel = {BILINEAR: sample_bilinear, CUBIC: sample_cubic, LANCZOS: sample_lanczos}[kind]
        kernel(samples, known, bool(known.all()), place, bounds, result, valid)
    return result, valid


def _bounds(dtype: np.dtype[Any]) -> Bounds:
    if not np.issubdtype(dtype, np.integer):
        limits = np.finfo(dtype)
        return float(limits.min), float(limits.max), False
    low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    if int(high) > np.iinfo(dtype).max:
        high = float(np.nextafter(high, 0.0))
    return low, high, True


@njit(cache=True, nogil=True)
def _coordinates(
    nodes: Array, first: IndexPair, step: int, row: int, col: int, line: Array, x: Array, y: Array
) -> None:
    """Fill the source columns and rows of the pixels of ``row`` from ``col`` on."""
    n = row // step - first[0]
    down = (row % step) / step
    for m in range(nodes.shape[1]):
        for axis in range(2):
            line[m, axis] = nodes[n, m, axis] + down * (nodes[n + 1, m, axis] - nodes[n, m, axis])
    for j in range(x.size):
        m = (col + j) // step - first[1]
        across = ((col + j) % step) / step
        x[j] = line[m, 0] + across * (line[m + 1, 0] - line[m, 0])
        y[j] = line[m, 1] + across * (line[m + 1, 1] - line[m, 1])


@njit(cache=True, nogil=True)
def _inside(x: float, y: float, size: IndexPair) -> bool:
    """Tell whether a position lies on a sample of the source; not-a-number does not."""
    return x >= -0.5 and y >= -0.5 and x < size[1] - 0.5 and y < size[0] - 0.5


@njit(cache=True, nogil=True)
def _fitted(value: float, bounds: Bounds) -> float:
    """Keep a value within its type's range, whole for integers."""
    low, high, integer = bounds
    if integer:
        value = np.floor(value + 0.5)
    return min(max(value, low), high)


@njit(cache=True, nogil=True)
def _all_known(known: Mask, row: int, col: int, count: int) -> bool:
    """Tell whether ``count`` x ``count`` samples are in the window and valid."""
    if row < 0 or col < 0 or row + count > known.shape[0] or col + count > known.shape[1]:
        return False
    for r in range(row, row + count):
        for c in range(col, col + count):
            if not known[r, c]:
                return False
    return True


@njit(cache=True, nogil=True)
def _from_four(samples: Array, known: Mask, x: float, y: float) -> float:
    """Interpolate bilinearly between the valid ones of the four nearest samples."""
    left, top = int(np.floor(x)), int(np.floor(y))
    total = weight = 0.0
    for r in range(max(top, 0), min(top + 2, samples.shape[0])):
        for c in range(max(left, 0), min(left + 2, samples.shape[1])):
            if known[r, c]:
                w = (1 - abs(x - c)) * (1 - abs(y - r))
                total += w * samples[r, c]
                weight += w
    return total / weight


@njit(cache=True, nogil=True)
def sample_nearest(samples: Array, known: Mask, place: WarpPlace, result: Array, valid: Mask) -> None:
    """Take the nearest sample."""
    nodes, first, step, start, origin, size = place
    line = np.empty((nodes.shape[1], 2))
    x, y = np.empty(result.shape[1]), np.empty(result.shape[1])
    for i in range(result.shape[0]):
        _coordinates(nodes, first, step, start[0] + i, start[1], line, x, y)
        for j in range(result.shape[1]):
            if _inside(x[j], y[j], size):
                r, c = int(np.floor(y[j] + 0.5)) - origin[0], int(np.floor(x[j] + 0.5)) - origin[1]
                if known[r, c]:
                    valid[i, j] = True
                    result[i, j] = samples[r, c]


@njit(cache=True, nogil=True)
def sample_bilinear(
    samples: Array, known: Mask, clean: bool, place: WarpPlace, bounds: Bounds, result: Array, valid: Mask
) -> None:
    """Interpolate linearly between four samples."""
    nodes, first, step, start, origin, size = place
    line = np.empty((nodes.shape[1], 2))
    x, y = np.empty(result.shape[1]), np.empty(result.shape[1])
    for i in range(result.shape[0]):
        _coordinates(nodes, first, step, start[0] + i, start[1], line, x, y)
        for j in range(result.shape[1]):
            if not _inside(x[j], y[j], size):
                continue
            u, v = x[j] - origin[1], y[j] - origin[0]
            if not known[int(np.floor(v + 0.5)), int(np.floor(u + 0.5))]:
                continue
            valid[i, j] = True
            c, r = int(np.floor(u)), int(np.floor(v))
            inner = r >= 0 and c >= 0 and r + 2 <= known.shape[0] and c + 2 <= known.shape[1]
            if not (inner and (clean or _all_known(known, r, c, 2))):
                result[i, j] = _fitted(_from_four(samples, known, u, v), bounds)
                continue
            a, b = u - c, v - r
            upper = (1 - a) * samples[r, c] + a * samples[r, c + 1]
            lower = (1 - a) * samples[r + 1, c] + a * samples[r + 1, c + 1]
            result[i, j] = _fitted((1 - b) * upper + b * lower, bounds)


@njit(cache=True, nogil=True)
def sample_cubic(
    samples: Array, known: Mask, clean: bool, place: WarpPlace, bounds: Bounds, result: Array, valid: Mask
) -> None:
    """Interpolate between 4 x 4 samples with Keys' kernel (a = -0.5)."""
    nodes, first, step, start, origin, size = place
    line = np.empty((nodes.shape[1], 2))
    x, y = np.empty(result.shape[1]), np.empty(result.shape[1])
    for i in range(result.shape[0]):
        _coordinates(nodes, first, step, start[0] + i, start[1], line, x, y)
        for j in range(result.shape[1]):
            if not _inside(x[j], y[j], size):
                continue
            u, v = x[j] - origin[1], y[j] - origin[0]
            if not known[int(np.floor(v + 0.5)), int(np.floor(u + 0.5))]:
                continue
            valid[i, j] = True
            c, r = int(np.floor(u)) - 1, int(np.floor(v)) - 1
            inner = r >= 0 and c >= 0 and r + 4 <= known.shape[0] and c + 4 <= known.shape[1]
            if not (inner and (clean or _all_known(known, r, c, 4))):
                result[i, j] = _fitted(_from_four(samples, known, u, v), bounds)
                continue
            a0, a1, a2, a3 = _keys(u - (c + 1))
            b0, b1, b2, b3 = _keys(v - (r + 1))
            value = (
                b0 * (_sum4(samples, r, c, a0, a1, a2, a3))
                + b1 * (_sum4(samples, r + 1, c, a0, a1, a2, a3))
                + b2 * (_sum4(samples, r + 2, c, a0, a1, a2, a3))
                + b3 * (_sum4(samples, r + 3, c, a0, a1, a2, a3))
            )
            result[i, j] = _fitted(value, bounds)


@njit(cache=True, nogil=True)
def _keys(t: float) -> tuple[float, float, float, float]:
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


@njit(cache=True, nogil=True)
def _sum4(samples: Array, r: int, c: int, a0: float, a1: float, a2: float, a3: float) -> float:
    return a0 * samples[r, c] + a1 * samples[r, c + 1] + a2 * samples[r, c + 2] + a3 * samples[r, c + 3]


@njit(cache=True, nogil=True)
def sample_lanczos(
    samples: Array, known: Mask, clean: bool, place: WarpPlace, bounds: Bounds, result: Array, valid: Mask
) -> None:
    """Interpolate between 6 x 6 samples with Lanczos' kernel of three lobes, weights summing to 1."""
    nodes, first, step, start, origin, size = place
    line = np.empty((nodes.shape[1], 2))
    x, y = np.empty(result.shape[1]), np.empty(result.shape[1])
    a, b = np.empty(6), np.empty(6)
    for i in range(result.shape[0]):
        _coordinates(nodes, first, step, start[0] + i, start[1], line, x, y)
        for j in range(result.shape[1]):
            if not _inside(x[j], y[j], size):
                continue
            u, v = x[j] - origin[1], y[j] - origin[0]
            if not known[int(np.floor(v + 0.5)), int(np.floor(u + 0.5))]:
                continue
            valid[i, j] = True
            c, r = int(np.floor(u)) - 2, int(np.floor(v)) - 2
            inner = r >= 0 and c >= 0 and r + 6 <= known.shape[0] and c + 6 <= known.shape[1]
            if not (inner and (clean or _all_known(known, r, c, 6))):
                result[i, j] = _fitted(_from_four(samples, known, u, v), bounds)
                continue
            _lobes(u - (c + 2), a)
            _lobes(v - (r + 2), b)
            value = 0.0
            for k in range(6):
                value += b[k] * (
                    a[0] * samples[r + k, c]
                    + a[1] * samples[r + k, c + 1]
                    + a[2] * samples[r + k, c + 2]
                    + a[3] * samples[r + k, c + 3]
                    + a[4] * samples[r + k, c + 4]
                    + a[5] * samples[r + k, c + 5]
                )
            result[i, j] = _fitted(value, bounds)


@njit(cache=True, nogil=True)
def _lobes(t: float, weights: Array) -> None:
    """Fill the six weights at distances ``t + 2 .. t - 3``."""
    if t < 1e-9:
        weights[:] = 0.0
        weights[2] = 1.0
        return
    sine, third_sine, third_cosine = np.sin(np.pi * t), np.sin(np.pi * t / 3), np.cos(np.pi * t / 3)
    total = 0.0
    for k in range(6):
        d = t - (k - 2)
        # The sine of pi d and of pi d / 3, by the addition theorems: signs and thirds are constants.
        sign = 1.0 if k % 2 == 0 else -1.0
        third = third_sine * _COSINES[k] - third_cosine * _SINES[k]
        weights[k] = sign * sine * third / (d * d)
        total += weights[k]
    for k in range(6):
        weights[k] /= total


@njit(cache=True, nogil=True)
def _weight(kind: int, d: float) -> float:
    """Return a kernel's weight at distance ``d``."""
    d = abs(d)
    if kind == BILINEAR:
        return max(0.0, 1.0 - d)
    if kind == CUBIC:
        if d < 1.0:
            return (1.5 * d - 2.5) * d * d + 1.0
        return ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0 if d < 2.0 else 0.0
    if d < 1e-9:
        return 1.0
    return np.sin(np.pi * d) * np.sin(np.pi * d / 3) / (d * d) * 3 / np.pi**2 if d < 3.0 else 0.0


@njit(cache=True, nogil=True)
def resample_widened(
    samples: Array,
    known: Mask,
    kind: int,
    widening: tuple[float, float],
    place: WarpPlace,
    bounds: Bounds,
    result: Array,
    valid: Mask,
) -> None:
    """Resample to coarser pixels: kernels stretched over as many samples as a pixel spans."""
    nodes, first, step, start, origin, size = place
    line = np.empty((nodes.shape[1], 2))
    x, y = np.empty(result.shape[1]), np.empty(result.shape[1])
    wide, tall = widening
    # A kernel's number is its radius.
    across, down = kind * wide, kind * tall
    weights = np.empty(2 * int(np.ceil(across)) + 3)
    for i in range(result.shape[0]):
        _coordinates(nodes, first, step, start[0] + i, start[1], line, x, y)
        for j in range(result.shape[1]):
            if not _inside(x[j], y[j], size):
                continue
            u, v = x[j] - origin[1], y[j] - origin[0]
            if not known[int(np.floor(v + 0.5)), int(np.floor(u + 0.5))]:
                continue
            valid[i, j] = True
            left, right = max(int(np.ceil(u - across)), 0), min(int(np.floor(u + across)) + 1, known.shape[1])
            for c in range(left, right):
                weights[c - left] = _weight(kind, (c - u) / wide)
            total = mass = 0.0
            for r in range(max(int(np.ceil(v - down)), 0), min(int(np.floor(v + down)) + 1, known.shape[0])):
                weight = _weight(kind, (r - v) / tall)
                for c in range(left, right):
                    if known[r, c]:
                        total += weight * weights[c - left] * samples[r, c]
                        mass += weight * weights[c - left]
            # Negative lobes alone, beside invalid samples, say nothing.
            if mass < 0.5 * wide * tall:
                result[i, j] = _fitted(_from_four(samples, known, u, v), bounds)
            else:
                result[i, j] = _fitted(total / mass, bounds)
