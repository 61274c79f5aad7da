"""One window after another through search, half and full resolution, there and back: compiled.

The kernels it is made of are in :mod:`regflow.methods.refine.tie_point_kernels`.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from regflow.methods.refine.tie_point_kernels import (
    align,
    crop,
    eroded,
    features,
    fill,
    filtered,
    pull,
    search,
)

Array = NDArray[Any]

COLUMNS = (
    "shift_x",
    "shift_y",
    "zncc",
    "zncc_before",
    "peak",
    "rival",
    "error_x",
    "error_y",
    "back_x",
    "back_y",
    "ssim_before",
    "ssim_after",
    "valid",
)
"""Of the rows that :func:`match_windows` fills. Shifts are in pixels of the fixed scene."""

PLAIN_WITHIN = 0.03
"""Largest entry of the initial map's linear part less the identity for which the moving window is cut
as it is recorded; beyond, it is sampled on a turned lattice, at the price of a second interpolation."""

SLACK = 4
"""Samples by which a window may still move after the search."""
MARGIN = 2
"""Samples around an invalid one that its filters reach and that therefore do not count."""
SSIM_CELL = 7

_JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_JIT)
def match_windows(
    fixed: tuple[Array, Array, Array],
    moving: tuple[Array, Array, Array],
    points: Array,
    guesses: Array,
    jacobians: Array,
    plan: Array,
    channels: int,
    taps: tuple[Array, Array, Array],
    out: Array,
) -> None:
    """Match windows around points of the fixed scene with the moving scene.

    Args:
        fixed: pixels ``(h, w)``, their validity, and row and column of the first in the scene.
        moving: the same of the moving scene, covering all that may be met.
        points: ``(N, 2)`` whole ``(x, y)`` of the fixed scene's pixels.
        guesses: ``(N, 2)`` where the initial transform puts them in the moving scene's pixels.
        jacobians: ``(N, 2, 2)`` of the initial transform, pixels to pixels.
        plan: ``(3, 2)`` whole numbers: radius in samples, and, in the first row, the farthest
            shift, for the samples of 4, 2 and 1 pixels.
        channels: 0 for intensities, else the number of directions of gradients.
        taps: of the smoothing, of the gradients' smoothing and of the spline's prefilter.
        out: ``(N, len(COLUMNS))`` float64, filled; rows of windows that failed are NaN but for
            ``valid``, the share of the window that could be compared.
    """
    for n in range(points.shape[0]):
        out[n, :] = np.nan
        _match(fixed, moving, points[n], guesses[n], jacobians[n], plan, channels, taps, out[n])


@njit(**_JIT)
def _match(
    fixed: tuple[Array, Array, Array],
    moving: tuple[Array, Array, Array],
    point: Array,
    guess: Array,
    jacobian: Array,
    plan: Array,
    channels: int,
    taps: tuple[Array, Array, Array],
    row: Array,
) -> None:
    plain = True
    for a in range(2):
        for b in range(2):
            if abs(jacobian[a, b] - (1.0 if a == b else 0.0)) > PLAIN_WITHIN:
                plain = False
    still = np.eye(2)
    lattice = np.eye(2) if plain else jacobian
    linear = jacobian if plain else still
    forth = np.full(12, np.nan)
    _track(fixed, moving, point, guess, still, lattice, linear, plan, channels, taps, 6, forth)
    row[12] = forth[9]
    if not forth[2] > -2.0:
        return
    sx, sy = forth[0], forth[1]
    there = np.empty(2)
    for k in range(2):
        there[k] = guess[k] + lattice[k, 0] * sx + lattice[k, 1] * sy
    back = np.full(12, np.nan)
    undone = np.linalg.inv(linear) if plain else still
    _track(moving, fixed, there, point, lattice, still, undone, plan, channels, taps, 2, back)
    inverse = np.linalg.inv(jacobian)
    dx, dy = there[0] - guess[0], there[1] - guess[1]
    row[0] = inverse[0, 0] * dx + inverse[0, 1] * dy
    row[1] = inverse[1, 0] * dx + inverse[1, 1] * dy
    row[2], row[3], row[4], row[5] = forth[2], forth[3], forth[4], forth[5]
    row[6], row[7] = forth[6], forth[7]
    row[8], row[9] = back[0], back[1]
    row[10], row[11] = forth[10], forth[11]


@njit(**_JIT)
def _track(
    source: tuple[Array, Array, Array],
    target: tuple[Array, Array, Array],
    middle: Array,
    guess: Array,
    source_lattice: Array,
    target_lattice: Array,
    linear: Array,
    plan: Array,
    channels: int,
    taps: tuple[Array, Array, Array],
    free: int,
    found: Array,
) -> None:
    """Follow one window; fill shift x, y on the target's lattice, correlation and the rest."""
    shift = np.zeros(2)
    radius, most = plan[0, 0], plan[0, 1]
    part, inside, off = _window(source, middle, source_lattice, 4, radius, channels, taps)
    there, seen, end = _window(target, guess, target_lattice, 4, radius + most, channels, taps)
    size = 2 * radius + 1
    shares = 0
    for i in range(size):
        for j in range(size):
            shares += 1 if inside[i, j] else 0
    found[9] = shares / (size * size)
    if 2 * shares < size * size:
        return
    dx, dy, peak, rival = search(part, inside, there, seen, most)
    if peak <= 0.0:
        return
    found[4], found[5] = peak, rival
    shift[0] = end[0] + 4.0 * dx - (linear[0, 0] * off[0] + linear[0, 1] * off[1])
    shift[1] = end[1] + 4.0 * dy - (linear[1, 0] * off[0] + linear[1, 1] * off[1])
    warp = np.zeros((2, 3))
    warp[:, :2] = linear
    _level(source, target, middle, guess, source_lattice, target_lattice, warp, shift, 2, plan[1, 0], channels, taps, 2, found)
    if found[2] > -2.0:
        _level(source, target, middle, guess, source_lattice, target_lattice, warp, shift, 1, plan[2, 0], channels, taps, free, found)
    found[0], found[1] = shift[0], shift[1]


@njit(**_JIT)
def _level(
    source: tuple[Array, Array, Array],
    target: tuple[Array, Array, Array],
    middle: Array,
    guess: Array,
    source_lattice: Array,
    target_lattice: Array,
    warp: Array,
    shift: Array,
    step: int,
    radius: int,
    channels: int,
    taps: tuple[Array, Array, Array],
    free: int,
    found: Array,
) -> None:
    """Align one window at one resolution; change ``warp`` and ``shift`` in place."""
    part, inside, off = _window(source, middle, source_lattice, step, radius + 1, channels, taps)
    center = np.empty(2)
    for k in range(2):
        center[k] = guess[k] + target_lattice[k, 0] * shift[0] + target_lattice[k, 1] * shift[1]
    reach = taps[2].size - 1
    there, seen, end = _window(target, center, target_lattice, step, radius + SLACK + reach, channels, taps)
    coefs = np.empty((there.shape[0], there.shape[1] - 2 * reach, there.shape[2] - 2 * reach), np.float32)
    for c in range(there.shape[0]):
        coefs[c] = filtered(there[c], taps[2])
    size = 2 * radius + 1
    # The start: where the shift so far, seen from this patch's middle, puts the window's middle.
    for k in range(2):
        warp[k, 2] = (warp[k, 0] * off[0] + warp[k, 1] * off[1] - end[k]) / step
    weight = np.zeros((size, size), np.float32)
    count = 0
    for i in range(size):
        for j in range(size):
            y = int(round(there.shape[1] // 2 + warp[1, 2])) + i - radius
            x = int(round(there.shape[1] // 2 + warp[0, 2])) + j - radius
            if inside[i + 1, j + 1] and seen[y, x]:
                weight[i, j] = 1.0
                count += 1
    found[2] = -2.0
    found[9] = count / (size * size)
    if 2 * count < size * size:
        return
    sampled = np.empty((part.shape[0], size, size), np.float32)
    inner = part[:, 1 : 1 + size, 1 : 1 + size]
    found[2], found[6], found[7] = align(part, weight, coefs, warp, free, 12, 0.003, sampled)
    if found[2] <= -2.0:
        return
    for k in range(2):
        shift[k] += end[k] + step * warp[k, 2] - (warp[k, 0] * off[0] + warp[k, 1] * off[1])
    if step == 1:
        found[11] = _ssim(inner, sampled, weight)


@njit(**_JIT)
def _window(
    scene: tuple[Array, Array, Array],
    center: Array,
    lattice: Array,
    step: int,
    radius: int,
    channels: int,
    taps: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:
    """Return a window's features ``(C, n, n)``, their validity, and where its middle is.

    The last is the middle's offset from ``center`` in pixels of the lattice.
    """
    around = taps[0].size - 1
    if channels > 0:
        around += taps[1].size
    size = 2 * (radius + around) + 1
    raw = np.empty((size, size), np.float32)
    seen = np.empty((size, size), np.bool_)
    off = np.zeros(2)
    straight = lattice[0, 0] == 1.0 and lattice[1, 1] == 1.0 and lattice[0, 1] == 0.0 and lattice[1, 0] == 0.0
    if straight:
        at_x = int(math.floor(math.floor(center[0] + 0.5) / step))
        at_y = int(math.floor(math.floor(center[1] + 0.5) / step))
        off[0] = at_x * step + 0.5 * (step - 1) - center[0]
        off[1] = at_y * step + 0.5 * (step - 1) - center[1]
        crop(scene[0], scene[1], scene[2], at_y - size // 2, at_x - size // 2, step, raw, seen)
    else:
        pull(scene[0], scene[1], scene[2], center, lattice, step, raw, seen)
    fill(raw, seen)
    return features(raw, channels, taps[0], taps[1]), eroded(seen, MARGIN, around), off


@njit(**_JIT)
def _ssim(a: Array, b: Array, weight: Array) -> float:
    """Return the mean structural similarity over cells, after the means and spreads are made equal."""
    size = weight.shape[0]
    mean_a, scale_a = _standard(a[0], weight)
    mean_b, scale_b = _standard(b[0], weight)
    total, cells = 0.0, 0
    for top in range(0, size - SSIM_CELL + 1, SSIM_CELL):
        for left in range(0, size - SSIM_CELL + 1, SSIM_CELL):
            n, sa, sb, saa, sbb, sab = 0, 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(top, top + SSIM_CELL):
                for j in range(left, left + SSIM_CELL):
                    if weight[i, j] > 0.0:
                        x = (a[0, i, j] - mean_a) * scale_a
                        y = (b[0, i, j] - mean_b) * scale_b
                        n += 1
                        sa += x
                        sb += y
                        saa += x * x
                        sbb += y * y
                        sab += x * y
            if n < SSIM_CELL:
                continue
            ma, mb = sa / n, sb / n
            va, vb, ab = saa / n - ma * ma, sbb / n - mb * mb, sab / n - ma * mb
            # A range of six standard deviations.
            c1, c2 = (0.01 * 6.0) ** 2, (0.03 * 6.0) ** 2
            total += (2 * ma * mb + c1) * (2 * ab + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
            cells += 1
    return total / cells if cells else 0.0


@njit(**_JIT)
def _standard(part: Array, weight: Array) -> tuple[float, float]:
    """Return the weighted mean and the inverse of the standard deviation."""
    count, first, second = 0.0, 0.0, 0.0
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            count += weight[i, j]
            first += weight[i, j] * part[i, j]
            second += weight[i, j] * part[i, j] * part[i, j]
    variance = second / count - (first / count) ** 2
    return first / count, 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0
