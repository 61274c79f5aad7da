"""How well two images explain each other within small windows, and whether one alignment does better.

A window's figure is the share of one image's variance that a linear function of the other's intensity
and of the size of its gradient explains: it asks for no relation of intensities over the whole image,
and it knows that an ultrasound shows the borders of what an MR shows. Source: the linear correlation of
linear combination of Wein et al., Medical Image Analysis 12(5):577-585, 2008, and Fuerst et al., Medical
Image Analysis 18(8):1312-1319, 2014, taken in both directions.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.core.resample import coarsen_image, resample_array
from regflow.core.transform import Transform

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

RADIUS = 2
"""Of a window, in samples."""
LEAST_SEEN = 0.5
"""Part of a window that both images must hold."""
BLOCK = 6
"""Samples along a block's side: windows overlap, and what neighboring ones say is not independent."""
LEAST_BLOCKS = 6
SURE_SIGMAS = 4.0
"""A gain of so many standard errors is no chance, not even the best of many tries."""
FLAT = 1e-4
"""A window whose variance is below this part of the image's is flat, and explains nothing."""


def measure_local_fit(fixed: NDArray[Any], moved: NDArray[Any], both: Mask) -> Array:
    """Return how well the images explain each other around each sample, 0 to 1; 0 where not seen.

    Args:
        fixed: the fixed image.
        moved: the moving image on its grid.
        both: samples that both images hold.
    """
    if not both.any():
        return np.zeros(fixed.shape)
    box = _Windows(both)
    images = [_standardized(image, both) for image in (fixed, moved)]
    parts = [*images, *(_gradient_size(image) for image in images)]
    covariances = _covariances(box, parts)
    there, back = (_explained(covariances, *order) for order in ((0, 2, 1), (1, 3, 0)))
    return np.where(both & (box.share >= LEAST_SEEN), (there + back) / 2, 0.0)


def compute_gain_sigmas(before: Array, after: Array, region: Mask) -> float:
    """Return the mean gain of :func:`measure_local_fit` in standard errors of that mean.

    The error comes from how the gains of blocks differ; NaN where there are too few to tell.

    Args:
        before: of one alignment.
        after: of another.
        region: samples that count.
    """
    used = region & ((before > 0) | (after > 0))
    counts, sums = (
        _block_sums(part) for part in (used.astype(np.float64), np.where(used, after - before, 0))
    )
    filled = counts >= 0.1 * BLOCK**region.ndim
    if int(filled.sum()) < LEAST_BLOCKS:
        return math.nan
    weights, gains = counts[filled], sums[filled]
    mean = float(gains.sum() / weights.sum())
    rest = gains - mean * weights
    error = math.sqrt(float((rest**2).sum()) * len(rest) / (len(rest) - 1)) / float(weights.sum())
    return mean / error if error > 0 else 0.0


class WindowEvidence:
    """Compares alignments of one pair with the one it starts from, on coarse copies of its images."""

    def __init__(self, fixed: Image, moving: Image, start: Transform, across: int) -> None:
        """Prepare the pair.

        Args:
            fixed: its mask says which samples count; all without.
            moving: its mask says which samples can be seen; all without.
            start: from fixed to moving world points.
            across: samples along the fixed image's longest side; finer images are coarsened.
        """
        spacing = float((np.array(fixed.grid.size) * fixed.grid.spacing).max()) / across
        self._fixed, self._moving = coarsen_image(fixed, spacing), coarsen_image(moving, spacing)
        self._region, self._known = (
            np.ones(image.grid.shape, bool) if image.mask is None else image.mask
            for image in (self._fixed, self._moving)
        )
        self._start = self._fit(start)

    def measure_gain(self, transform: Transform) -> dict[str, float]:
        """Return ``gain_sigmas`` of an alignment; nothing where too few windows can tell."""
        gain = compute_gain_sigmas(self._start, self._fit(transform), self._region)
        return {} if math.isnan(gain) else {"gain_sigmas": gain}

    def _fit(self, transform: Transform) -> Array:
        places = self._moving.grid, self._fixed.grid, transform
        low = float(self._moving.channel.min())
        moved = resample_array(self._moving.channel, *places, "linear", low)
        seen = resample_array(self._known, *places, "nearest", 0.0)
        return measure_local_fit(self._fixed.channel, moved, self._region & seen)


class _Windows:
    """Means over windows of the samples that both images hold."""

    def __init__(self, both: Mask) -> None:
        self._both = both.astype(np.float64)
        self.share = self._box(self._both)
        self._divisor = np.maximum(self.share, 1e-9)

    def mean(self, values: Array) -> Array:
        return self._box(values * self._both) / self._divisor

    @staticmethod
    def _box(values: Array) -> Array:
        from scipy.ndimage import uniform_filter

        return np.asarray(uniform_filter(values, 2 * RADIUS + 1, mode="constant"))


def _covariances(box: _Windows, parts: Sequence[Array]) -> dict[tuple[int, int], Array]:
    """Return the covariances within windows of all pairs of parts, by their numbers in either order."""
    means = [box.mean(part) for part in parts]
    found = {}
    for one, other in combinations_with_replacement(range(len(parts)), 2):
        value = box.mean(parts[one] * parts[other]) - means[one] * means[other]
        found[one, other] = found[other, one] = value
    return found


def _explained(covariance: Mapping[tuple[int, int], Array], image: int, slope: int, other: int) -> Array:
    """Return the share of the other image's variance that an image and its slope explain."""
    own, steep = covariance[image, image] + FLAT, covariance[slope, slope] + FLAT
    mixed, all_of_it = covariance[image, slope], covariance[other, other]
    by_own, by_slope = covariance[image, other], covariance[slope, other]
    determinant = np.maximum(own * steep - mixed**2, FLAT**2)
    fit = (steep * by_own**2 - 2 * mixed * by_own * by_slope + own * by_slope**2) / determinant
    return np.where(all_of_it > FLAT, np.clip(fit / np.maximum(all_of_it, FLAT), 0, 1), 0.0)


def _standardized(image: NDArray[Any], both: Mask) -> Array:
    values = np.asarray(image, dtype=np.float64)
    inside = values[both]
    return (values - inside.mean()) / max(float(inside.std()), 1e-12)


def _gradient_size(image: Array) -> Array:
    axes = [axis for axis in range(image.ndim) if image.shape[axis] > 1]
    parts = np.gradient(image, axis=axes)
    return np.sqrt(sum(part**2 for part in (parts if isinstance(parts, (list, tuple)) else [parts])))


def _block_sums(values: Array) -> Array:
    pad = [(0, -length % BLOCK) for length in values.shape]
    padded = np.pad(values, pad)
    shape = [part for length in padded.shape for part in (length // BLOCK, BLOCK)]
    return np.asarray(padded.reshape(shape).sum(axis=tuple(range(1, 2 * values.ndim, 2))).ravel())
