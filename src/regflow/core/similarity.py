"""How alike two images on one grid are, inside a mask.

All functions take two arrays of one shape, ``(Z, Y, X)`` or ``(Y, X)``, and a boolean mask of the
samples that count (None: all), and return a float; NaN where the figure does not exist (an empty
mask, a constant image).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_] | None

SSIM_SIGMA = 1.5
SSIM_K = (0.01, 0.03)
INTENSITY_TAIL_PERCENT = 0.5


def ncc(a: Array, b: Array, mask: Mask = None) -> float:
    """Return the Pearson correlation of the intensities, -1 to 1."""
    x, y = _inside(a, mask), _inside(b, mask)
    if x.size == 0:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    # Not by dot products: those of long arrays depend, in the last bits, on the number of threads.
    spread = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / spread if spread > 0 else math.nan


def lncc(a: Array, b: Array, mask: Mask = None, radius: int = 4) -> float:
    """Return the mean squared local correlation, 0 to 1, over windows of ``2 radius + 1`` samples.

    Windows are cut at the image's edge; where one image is constant in a window the value is 0.
    Source: Avants et al., Medical Image Analysis 12(1):26-41, 2008.
    """
    a, b, mask = _cropped(a, b, mask, radius)
    if a.size == 0:
        return math.nan
    x, y = _centered(a), _centered(b)
    mean_x, mean_y = _box(x, radius), _box(y, radius)
    var_x = _box(x * x, radius) - mean_x**2
    var_y = _box(y * y, radius) - mean_y**2
    cov = _box(x * y, radius) - mean_x * mean_y
    # Below a millionth of the image's variance a window is flat, and its correlation rounding noise.
    floor = 1e-6 * float(x.var()) * float(y.var()) + 1e-30
    product = var_x * var_y
    flat = (product <= floor) | (var_x <= 0) | (var_y <= 0)
    local = np.where(flat, 0.0, np.minimum(cov * cov / np.where(flat, 1.0, product), 1.0))
    return float(_mean(local, mask))


def mutual_information(a: Array, b: Array, mask: Mask = None, bins: int = 48) -> float:
    """Return the mutual information of the intensities in nats, from a joint histogram.

    Each image's intensities are cut at their 0.5 and 99.5 percentiles inside the mask and divided
    into ``bins`` equal bins.
    """
    joint = _joint_histogram(a, b, mask, bins)
    return math.nan if joint is None else _entropy(joint.sum(1)) + _entropy(joint.sum(0)) - _entropy(joint)


def normalized_mutual_information(a: Array, b: Array, mask: Mask = None, bins: int = 48) -> float:
    """Return ``(H(a) + H(b)) / H(a, b)``, 1 (independent) to 2 (identical).

    Source: Studholme et al., Pattern Recognition 32(1):71-86, 1999.
    """
    joint = _joint_histogram(a, b, mask, bins)
    if joint is None:
        return math.nan
    together = _entropy(joint)
    return (_entropy(joint.sum(1)) + _entropy(joint.sum(0))) / together if together > 0 else math.nan


def ssim(a: Array, b: Array, mask: Mask = None) -> float:
    """Return the mean structural similarity, -1 to 1, with a Gaussian window of 1.5 samples.

    The data range is that of both images inside the mask.
    Source: Wang et al., IEEE Trans. Image Processing 13(4):600-612, 2004.
    """
    radius = math.ceil(4 * SSIM_SIGMA)
    a, b, mask = _cropped(a, b, mask, radius)
    if a.size == 0:
        return math.nan
    inside = [_inside(part, mask) for part in (a, b)]
    extent = max(float(v.max()) for v in inside) - min(float(v.min()) for v in inside)
    if extent <= 0:
        return math.nan
    x, y = a.astype(np.float32), b.astype(np.float32)
    c1, c2 = ((k * extent) ** 2 for k in SSIM_K)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return _mean(top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)), mask)


def _inside(a: Array, mask: Mask) -> NDArray[np.float64]:
    return np.asarray(a.ravel() if mask is None else a[mask], dtype=np.float64)


def _mean(values: Array, mask: Mask) -> float:
    return float(_inside(values, mask).mean())


def _cropped(a: Array, b: Array, mask: Mask, margin: int) -> tuple[Array, Array, Mask]:
    """Cut to the mask's bounding box and a margin: most of a volume is background."""
    if mask is None:
        return a, b, None
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        if used.size == 0:
            return a[:0], b[:0], mask[:0]
        box.append(slice(max(int(used[0]) - margin, 0), int(used[-1]) + margin + 1))
    return a[tuple(box)], b[tuple(box)], mask[tuple(box)]


def _centered(a: Array) -> NDArray[np.float32]:
    # Sums of squares lose digits in float32 when the mean is far above the spread.
    return np.asarray(a - a.mean(dtype=np.float64), dtype=np.float32)


def _box(a: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Return means over windows; those cut by the edge are divided by their true count."""
    from scipy.ndimage import uniform_filter1d

    width = 2 * radius + 1
    for axis, length in enumerate(a.shape):
        covered = uniform_filter1d(np.ones(length, np.float32), width, mode="constant")
        shape = [1] * a.ndim
        shape[axis] = length
        a = uniform_filter1d(a, width, axis=axis, mode="constant") / covered.reshape(shape)
    return a


def _blur(a: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(a, SSIM_SIGMA))


def _joint_histogram(a: Array, b: Array, mask: Mask, bins: int) -> NDArray[np.float64] | None:
    """Return the joint probabilities ``(bins, bins)``, or None where they do not exist."""
    x, y = _binned(_inside(a, mask), bins), _binned(_inside(b, mask), bins)
    if x is None or y is None:
        return None
    counts = np.bincount(x * bins + y, minlength=bins * bins).reshape(bins, bins)
    return np.asarray(counts / counts.sum())


def _binned(values: NDArray[np.float64], bins: int) -> NDArray[np.intp] | None:
    if values.size == 0:
        return None
    low, high = np.percentile(values, [INTENSITY_TAIL_PERCENT, 100 - INTENSITY_TAIL_PERCENT])
    if not high > low:
        return None
    scaled = (np.clip(values, low, high) - low) * (bins / (high - low))
    return np.minimum(scaled.astype(np.intp), bins - 1)


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
