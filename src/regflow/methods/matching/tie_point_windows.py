"""One window after another through search, half and full resolution, there and back: compiled.

What it is made of is in :mod:`regflow.methods.matching.tie_point_patches` and
:mod:`regflow.methods.matching.tie_point_kernels`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.kernels import njit
from regflow.methods.matching.tie_point_kernels import align_window, search_offsets
from regflow.methods.matching.tie_point_patches import (
    compute_features,
    crop_patch,
    erode_patch,
    fill_patch,
    filter_patch,
    pull_patch,
)

Array = NDArray[Any]
Raster = tuple[Array, Array, Array]
"""Float32 pixels ``(h, w)``, their validity, and row and column, in the scene, of the first."""
Spot = tuple[Raster, Array, Array]
"""A scene, ``(x, y)`` in its pixels, and a ``(2, 2)`` lattice: its pixels per pixel of a window."""
Recipe = tuple[Array, int, Array, Array, Array]
"""How windows are compared: the plan ``(3, 3)`` (radius in samples, pixels per sample, and farthest
shift in samples, of the search and of the two alignments; the last at full resolution), 0 for
intensities or the number of directions of gradients, and the taps of the smoothing, of the gradients'
smoothing and of the spline's prefilter."""

COLUMNS = (
    "shift_x",
    "shift_y",
    "zncc",
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
MARGIN = 1
"""Pixels around an invalid one that its filters reach and that therefore do not count; of coarser samples
none is left out, for those hold the mean of what is valid in them."""
FILL_REACH = 4
"""Samples by which what is known is carried into what is not, for the filters."""
SSIM_CELL = 7
LEAST_VALID = 0.15
"""Share of a window that must be valid in both scenes."""
LEAST_SEEN = 0.75
"""Share of the searched part below which finding nothing is for want of data."""
ROUNDS = 12
TOLERANCE = 0.01
"""Samples; an iteration that moves a window by less is its last."""
MOVED, TURNED, FULL = np.int64(2), np.int64(6), np.int64(1)
"""Parameters that are free where a window is moved alone and where its linear part follows; and the pixels
per sample of full resolution. Numba compiles a function anew for each number that is written in a call."""

_JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_JIT)
def match_windows(
    fixed: Raster,
    moving: Raster,
    points: Array,
    guesses: Array,
    jacobians: Array,
    recipe: Recipe,
    out: Array,
) -> None:
    """Match windows around points of the fixed scene with the moving scene.

    Args:
        fixed: the fixed scene's pixels around the points.
        moving: the moving scene's pixels, covering all that may be met.
        points: ``(N, 2)`` whole ``(x, y)`` of the fixed scene's pixels.
        guesses: ``(N, 2)`` where the initial transform puts them in the moving scene's pixels.
        jacobians: ``(N, 2, 2)`` of the initial transform, pixels to pixels.
        recipe: how to compare.
        out: ``(N, len(COLUMNS))`` float64, filled; rows of windows that failed are NaN but for
            ``valid``, the share of the window that could be compared.
    """
    for n in range(points.shape[0]):
        out[n, :] = np.nan
        _match(fixed, moving, points[n], guesses[n], jacobians[n], recipe, out[n])


@njit(**_JIT)
def _match(
    fixed: Raster,
    moving: Raster,
    point: Array,
    guess: Array,
    jacobian: Array,
    recipe: Recipe,
    row: Array,
) -> None:
    """Match one window there and back; fill its row."""
    still = np.eye(2)
    plain = np.abs(jacobian - still).max() <= PLAIN_WITHIN
    lattice, linear = (still, jacobian) if plain else (jacobian, still)
    here, aim = (fixed, point, still), (moving, guess, lattice)
    forth = np.full(9, np.nan)
    _track(here, aim, linear, recipe, TURNED, forth)
    row[11] = forth[7]
    if not forth[2] > -2.0:
        return
    way = _product(lattice, forth[:2])
    back = np.full(9, np.nan)
    undone = np.ascontiguousarray(np.linalg.inv(linear))
    _track((moving, guess + way, lattice), here, undone, recipe, MOVED, back)
    row[:2] = _product(np.linalg.inv(jacobian), way)
    row[2:7] = forth[2:7]
    row[7:9] = back[:2]
    row[9] = _before(here, aim, recipe)
    row[10] = forth[8]


@njit(**_JIT)
def _track(source: Spot, target: Spot, linear: Array, recipe: Recipe, free: int, found: Array) -> None:
    """Follow one window from a place to near another.

    Args:
        source: where the window is.
        target: where its partner should be.
        linear: linear part of the map between their lattices, to start from.
        recipe: how to compare.
        free: 2 to move the window, 6 to let its linear part follow.
        found: filled with the shift along x and y on the target's lattice, correlation, the search's
            peak and rival, standard errors along x and y, the share of the window that is valid, and
            the SSIM.
    """
    plan = recipe[0]
    radius, step, most = plan[0, 0], plan[0, 1], plan[0, 2]
    part, inside, off = _window(source, step, radius, recipe)
    there, seen, end = _window(target, step, radius + most, recipe)
    found[7] = inside.mean()
    if found[7] < LEAST_VALID:
        return
    dx, dy, peak, rival = search_offsets(part, inside, there, seen, most)
    if peak <= -1.0 and seen.mean() < LEAST_SEEN:
        found[7] = 0.0
    if peak <= 0.0:
        return
    found[3], found[4] = peak, rival
    shift = end - _product(linear, off) + float(step) * np.array([dx, dy])
    warp = np.zeros((2, 3))
    warp[:, :2] = linear
    _level(source, target, warp, shift, plan[1, 1], plan[1, 0], recipe, MOVED, found)
    if found[2] > -2.0:
        _level(source, target, warp, shift, plan[2, 1], plan[2, 0], recipe, free, found)
    found[:2] = shift


@njit(**_JIT)
def _level(
    source: Spot,
    target: Spot,
    warp: Array,
    shift: Array,
    step: int,
    radius: int,
    recipe: Recipe,
    free: int,
    found: Array,
) -> None:
    """Align one window at one resolution; change ``warp`` and ``shift`` in place."""
    part, inside, off = _window(source, step, radius + 1, recipe)
    moved = (target[0], target[1] + _product(target[2], shift), target[2])
    taps = recipe[4]
    there, seen, end = _window(moved, step, radius + SLACK + taps.size - 1, recipe)
    cut = 2 * (taps.size - 1)
    coefs = np.empty((there.shape[0], there.shape[1] - cut, there.shape[2] - cut), np.float32)
    for c in range(there.shape[0]):
        coefs[c] = filter_patch(there[c], taps)
    # The start: where the shift so far, seen from this patch's middle, puts the window's middle.
    warp[:, 2] = (_product(warp[:, :2], off) - end) / step
    size = 2 * radius + 1
    weight = np.zeros((size, size), np.float32)
    at_x = round(there.shape[1] // 2 + warp[0, 2]) - radius
    at_y = round(there.shape[1] // 2 + warp[1, 2]) - radius
    for i in range(size):
        for j in range(size):
            if inside[i + 1, j + 1] and seen[at_y + i, at_x + j]:
                weight[i, j] = 1.0
    found[2] = -2.0
    found[7] = weight.mean()
    if found[7] < LEAST_VALID:
        return
    sampled = np.empty((part.shape[0], size, size), np.float32)
    found[2], found[5], found[6] = align_window(part, weight, coefs, warp, free, ROUNDS, TOLERANCE, sampled)
    if found[2] <= -2.0:
        return
    shift += end + step * warp[:, 2] - _product(warp[:, :2], off)
    if step == 1:
        found[8] = _ssim(part[:, 1 : 1 + size, 1 : 1 + size], sampled, weight)


@njit(**_JIT)
def _window(place: Spot, step: int, radius: int, recipe: Recipe) -> tuple[Array, Array, Array]:
    """Return a window's features ``(C, n, n)``, their validity, and where its middle is.

    The last is the middle's offset from the place, in pixels of its lattice.
    """
    scene, center, lattice = place
    channels, soft, blur = recipe[1], recipe[2], recipe[3]
    around = soft.size - 1 + (blur.size if channels > 0 else 0)
    size = 2 * (radius + around) + 1
    raw = np.empty((size, size), np.float32)
    seen = np.empty((size, size), np.bool_)
    off = np.zeros(2)
    if np.abs(lattice - np.eye(2)).max() == 0.0:
        at_x = math.floor(math.floor(center[0] + 0.5) / step)
        at_y = math.floor(math.floor(center[1] + 0.5) / step)
        off[0] = at_x * step + 0.5 * (step - 1) - center[0]
        off[1] = at_y * step + 0.5 * (step - 1) - center[1]
        crop_patch(scene[0], scene[1], scene[2], at_y - size // 2, at_x - size // 2, step, raw, seen)
    else:
        pull_patch(scene[0], scene[1], scene[2], center, lattice, step, raw, seen)
    fill_patch(raw, seen, FILL_REACH)
    margin = MARGIN if step == 1 else 0
    return compute_features(raw, channels, soft, blur), erode_patch(seen, margin, around), off


@njit(**_JIT)
def _product(matrix: Array, vector: Array) -> Array:
    """Return a 2x2 matrix times a vector."""
    out = np.empty(2)
    for k in range(2):
        out[k] = matrix[k, 0] * vector[0] + matrix[k, 1] * vector[1]
    return out


@njit(**_JIT)
def _before(source: Spot, target: Spot, recipe: Recipe) -> float:
    """Return the SSIM of the windows where the initial transform puts them, to the nearest pixel."""
    radius = recipe[0][2, 0]
    here, inside, _ = _window(source, FULL, radius, recipe)
    there, seen, _ = _window(target, FULL, radius, recipe)
    return _ssim(here, there, (inside & seen).astype(np.float32))


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
