"""How the intensities of two images on one grid relate: what those of one say of the other's.

Intensities are of images scaled to about [0, 1]. Source: the correlation ratio of Roche et al., MICCAI
1998, LNCS 1496:1115-1124.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

BINS = 64
RANGE = (-0.25, 1.25)
"""Intensities that are told apart."""
BIN_SIGMA = 1.0
FEWEST = 1e-4
"""Share of all samples that weigh as much as what a bin's mean is drawn towards."""
BLUR_SIGMA = 0.7
"""Of both images before they are compared, in samples: noise flattens a mean by intensity."""
EXPLAINED = 0.25
"""Least part of the moving image's variance that the fixed one's intensities must explain to stand for it.
Two brains of two contrasts have 0.3 while they are half aligned, 0.65 in the end; noise has none."""
DEPTH = 2
"""Samples from the mask's border that intensities are related at. Nearer to it they are part background,
which is dark in any contrast: outlines make two contrasts look like one, and mix with what tissue means."""
DEEP_SHARE = 0.1
"""Least part of the mask that must lie so deep."""


def correlation_ratio(given: Array, told: Array) -> float:
    """Return the part of ``told``'s variance that ``given`` explains, 0 to 1.

    Args:
        given: intensities of one image at some samples.
        told: those of the other image at the same samples.
    """
    residual = told - map_intensities(average_by_intensity(given, told), given)
    total = float(np.var(told, dtype=np.float64))
    return 1 - float(np.mean(np.square(residual), dtype=np.float64)) / total if total > 0 else 0.0


def average_by_intensity(given: Array, told: Array, towards: Array | None = None) -> Array:
    """Return the mean of ``told`` at each of ``BINS + 1`` intensities of ``given``, both ``(n,)``.

    Where few samples are, it is drawn ``towards`` what is known of these intensities, ``(BINS + 1,)``;
    None for the mean of all samples.
    """
    from scipy.ndimage import gaussian_filter1d

    low, share = _split(given)
    counts, sums = (
        np.bincount(low, (1 - share) * values, BINS + 1) + np.bincount(low + 1, share * values, BINS + 1)
        for values in (np.ones_like(told), told)
    )
    counts, sums = (gaussian_filter1d(part, BIN_SIGMA, mode="constant") for part in (counts, sums))
    prior, usual = FEWEST * counts.sum(), sums.sum() / counts.sum() if towards is None else towards
    return np.asarray((sums + prior * usual) / (counts + prior), np.float32)


def map_intensities(means: Array, image: NDArray[Any]) -> Array:
    """Return the mean that belongs to each of an image's intensities, of the image's shape."""
    low, share = _split(image)
    return np.asarray(means[low] * (1 - share) + means[low + 1] * share, np.float32)


def erode_deeply(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the samples of a mask that lie ``DEPTH`` samples deep; all where those are too few."""
    from scipy.ndimage import minimum_filter1d

    deep = mask.astype(np.uint8)
    for axis, count in enumerate(mask.shape):
        if count > 1:
            deep = minimum_filter1d(deep, 2 * DEPTH + 1, axis=axis, mode="nearest")
    return deep > 0 if deep.sum() >= DEEP_SHARE * mask.sum() else mask


def _split(values: NDArray[Any]) -> tuple[NDArray[np.int32], Array]:
    """Return each value's lower bin and its share of the upper one."""
    position = np.clip((values - RANGE[0]) * (BINS / (RANGE[1] - RANGE[0])), 0, BINS - 1e-3)
    low = position.astype(np.int32)
    return low, np.asarray(position - low, np.float32)
