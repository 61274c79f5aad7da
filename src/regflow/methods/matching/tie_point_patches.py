"""What is cut out of a scene around a point, and what of it is compared: patches and features, compiled.

Every window is cut and filtered by itself from the raw pixels around it, so no result depends on how a
scene is divided into blocks or how many threads work.

Sources: Keys, IEEE Trans. ASSP 29(6):1153-1160, 1981 (cubic convolution); Ye et al., IEEE Trans.
Geoscience and Remote Sensing 57(11):9059-9070, 2019 (channels of oriented gradients).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.kernels import njit

Array = NDArray[Any]

_JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_JIT)
def crop_patch(
    block: Array, valid: Array, corner: Array, row: int, col: int, step: int, out: Array, seen: Array
) -> None:
    """Cut a patch at a resolution of ``step`` pixels.

    Sample ``q`` of a resolution covers the pixels ``q * step`` up to ``(q + 1) * step`` of the scene,
    wherever the block begins; it is the mean of the valid ones and is valid when half of them are.

    Args:
        block: ``(h, w)`` float32 pixels, finite everywhere.
        valid: ``(h, w)`` bool.
        corner: row and column, in the scene, of the block's first pixel.
        row: of the patch's first sample at the resolution of ``step``.
        col: the same.
        step: pixels per sample.
        out: ``(n, m)`` float32, filled; 0 where not valid.
        seen: ``(n, m)`` bool, filled.
    """
    height, width = block.shape
    rows, cols = out.shape
    first_y, first_x = row * step - corner[0], col * step - corner[1]
    begin, end = max(0, -first_x), min(cols * step, width - first_x)
    sums, counts = np.empty(cols * step, np.float32), np.empty(cols * step, np.float32)
    for i in range(rows):
        sums[:] = 0.0
        counts[:] = 0.0
        for y in range(max(first_y + i * step, 0), min(first_y + (i + 1) * step, height)):
            for x in range(begin, end):
                known = np.float32(valid[y, first_x + x])
                sums[x] += known * block[y, first_x + x]
                counts[x] += known
        for j in range(cols):
            value, found = np.float32(0.0), np.float32(0.0)
            for x in range(j * step, (j + 1) * step):
                value += sums[x]
                found += counts[x]
            seen[i, j] = 2 * found >= step * step
            out[i, j] = value / found if seen[i, j] else np.float32(0.0)


@njit(**_JIT)
def fill_patch(patch: Array, seen: Array, reach: int) -> None:
    """Take the mean of the valid samples from all of them, and carry their values into the others.

    An invalid sample within ``reach`` of valid ones gets what lies beside it, ring by ring, the rest 0.
    So filters meet no step at the border of what is known, and float32 keeps its digits.
    """
    total, count = 0.0, 0
    for i in range(patch.shape[0]):
        row = np.float32(0.0)
        for j in range(patch.shape[1]):
            if seen[i, j]:
                row += patch[i, j]
                count += 1
        total += float(row)
    mean = np.float32(total / count) if count else np.float32(0.0)
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            patch[i, j] = patch[i, j] - mean if seen[i, j] else np.float32(0.0)
    if 0 < count < patch.size:
        known = seen.copy()
        for _ in range(reach):
            known = _grow(patch, known)


@njit(**_JIT)
def _grow(patch: Array, known: Array) -> Array:
    """Give the unknown samples beside known ones the mean of these; return what is known then."""
    rows, cols = patch.shape
    after = known.copy()
    for i in range(rows):
        for j in range(cols):
            if known[i, j]:
                continue
            total, count = np.float32(0.0), 0
            for y in range(max(i - 1, 0), min(i + 2, rows)):
                for x in range(max(j - 1, 0), min(j + 2, cols)):
                    if known[y, x]:
                        total += patch[y, x]
                        count += 1
            if count:
                patch[i, j] = total / np.float32(count)
                after[i, j] = True
    return after


@njit(**_JIT)
def filter_patch(patch: Array, taps: Array) -> Array:
    """Return a patch ``(n, m)`` convolved along both axes by symmetric taps, shrunk by their reach.

    ``taps[0]`` is the middle one.
    """
    reach = taps.size - 1
    rows, cols = patch.shape
    across = np.empty((rows, cols - 2 * reach), np.float32)
    for i in range(rows):
        for j in range(cols - 2 * reach):
            across[i, j] = taps[0] * patch[i, j + reach]
        for k in range(1, reach + 1):
            for j in range(cols - 2 * reach):
                across[i, j] += taps[k] * (patch[i, j + reach - k] + patch[i, j + reach + k])
    out = np.empty((rows - 2 * reach, cols - 2 * reach), np.float32)
    for i in range(rows - 2 * reach):
        for j in range(cols - 2 * reach):
            out[i, j] = taps[0] * across[i + reach, j]
        for k in range(1, reach + 1):
            for j in range(cols - 2 * reach):
                out[i, j] += taps[k] * (across[i + reach - k, j] + across[i + reach + k, j])
    return out


@njit(**_JIT)
def erode_patch(seen: Array, margin: int, cut: int) -> Array:
    """Return which samples have only valid ones within ``margin``, shrunk by ``cut`` on each side."""
    rows, cols = seen.shape
    bad_row = np.zeros((rows, cols), np.bool_)
    for i in range(rows):
        for j in range(cols):
            if not seen[i, j]:
                for x in range(max(j - margin, 0), min(j + margin + 1, cols)):
                    bad_row[i, x] = True
    out = np.ones((rows - 2 * cut, cols - 2 * cut), np.bool_)
    for i in range(rows):
        for j in range(cut, cols - cut):
            if bad_row[i, j]:
                for y in range(max(i - margin, cut), min(i + margin + 1, rows - cut)):
                    out[y - cut, j - cut] = False
    return out


@njit(**_JIT)
def pull_patch(
    block: Array,
    valid: Array,
    corner: Array,
    center: Array,
    jacobian: Array,
    step: int,
    out: Array,
    seen: Array,
) -> None:
    """Sample a patch on a turned or scaled lattice; else as :func:`crop_patch`.

    Args:
        block: ``(h, w)`` pixels.
        valid: ``(h, w)`` bool.
        corner: row and column, in the scene, of the block's first pixel.
        center: ``(x, y)``, in the scene, of the middle of the patch's middle sample.
        jacobian: ``(2, 2)``, pixels of the scene per pixel of the lattice.
        step: lattice pixels per sample.
        out: ``(n, m)`` float32, filled; n and m are odd.
        seen: ``(n, m)`` bool, filled.
    """
    height, width = block.shape
    rows, cols = out.shape
    for i in range(rows):
        for j in range(cols):
            value, found = 0.0, 0
            for k in range(step * step):
                v = (i - rows // 2) * step + k // step - 0.5 * (step - 1)
                u = (j - cols // 2) * step + k % step - 0.5 * (step - 1)
                x = center[0] + jacobian[0, 0] * u + jacobian[0, 1] * v - corner[1]
                y = center[1] + jacobian[1, 0] * u + jacobian[1, 1] * v - corner[0]
                left, top = math.floor(x), math.floor(y)
                if left < 1 or top < 1 or left > width - 3 or top > height - 3:
                    continue
                if not (valid[top, left] and valid[top, left + 1]):
                    continue
                if not (valid[top + 1, left] and valid[top + 1, left + 1]):
                    continue
                value += _keys(block, x - left, y - top, left, top)
                found += 1
            seen[i, j] = 2 * found >= step * step and found > 0
            out[i, j] = value / found if seen[i, j] else 0.0


@njit(**_JIT)
def _keys(block: Array, fx: float, fy: float, left: int, top: int) -> float:
    """Interpolate by cubic convolution (Keys, IEEE Trans. ASSP 29(6):1153-1160, 1981)."""
    value = 0.0
    for a in range(-1, 3):
        wy = _keys_weight(fy - a)
        row = 0.0
        for b in range(-1, 3):
            row += _keys_weight(fx - b) * block[top + a, left + b]
        value += wy * row
    return value


@njit(**_JIT)
def _keys_weight(distance: float) -> float:
    t = abs(distance)
    if t < 1.0:
        return (1.5 * t - 2.5) * t * t + 1.0
    return ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0


@njit(**_JIT)
def compute_oriented_gradients(patch: Array, count: int, taps: Array) -> Array:
    """Return ``count`` channels of oriented gradients, smoothed and normalized at each sample.

    A channel is the gradient's length along its direction, whatever its sign, so that a contrast
    that is turned over gives the same channels. Each axis shrinks by the taps' reach and one.
    """
    rows, cols = patch.shape[0] - 2, patch.shape[1] - 2
    reach = taps.size - 1
    out = np.empty((count, rows - 2 * reach, cols - 2 * reach), np.float32)
    raw = np.empty((rows, cols), np.float32)
    for k in range(count):
        cosine, sine = math.cos(math.pi * k / count), math.sin(math.pi * k / count)
        for i in range(rows):
            for j in range(cols):
                gx = patch[i + 1, j + 2] - patch[i + 1, j]
                gy = patch[i + 2, j + 1] - patch[i, j + 1]
                raw[i, j] = abs(cosine * gx + sine * gy)
        out[k] = filter_patch(raw, taps)
    # The floor keeps noise in flat places from counting as much as an edge.
    floor = 0.2 * _mean_length(out)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            length = 0.0
            for k in range(count):
                length += out[k, i, j] * out[k, i, j]
            scale = 1.0 / (math.sqrt(length) + floor + 1e-20)
            for k in range(count):
                out[k, i, j] *= scale
    return out


@njit(**_JIT)
def _mean_length(channels: Array) -> float:
    total = 0.0
    for i in range(channels.shape[1]):
        for j in range(channels.shape[2]):
            length = 0.0
            for k in range(channels.shape[0]):
                length += channels[k, i, j] * channels[k, i, j]
            total += math.sqrt(length)
    return total / (channels.shape[1] * channels.shape[2])


@njit(**_JIT)
def compute_features(patch: Array, channels: int, soft: Array, blur: Array) -> Array:
    """Return what is compared, ``(C, n, n)``: smoothed intensities, or channels of oriented gradients.

    Each axis shrinks by twice the reach of the taps, for gradients by 2 more.
    """
    if channels == 0:
        smooth = filter_patch(patch, soft)
        out = np.empty((1, smooth.shape[0], smooth.shape[1]), np.float32)
        out[0] = smooth
        return out
    return compute_oriented_gradients(filter_patch(patch, soft), channels, blur)
