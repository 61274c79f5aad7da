"""The mean of images that lie on one grid, sample by sample, and its sharpening."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import SettingError

STATISTICS = ("mean", "median", "trimmed")
SHARPENINGS = ("none", "laplacian", "unsharp")
UNSHARP_SIGMA = 1.0
"""Samples of the Gaussian whose difference from the image the unsharp mask adds."""
HALF = 0.5 - 1e-9
"""What a median trims at either end: of an even number, the mean of the two in the middle is left."""


def average_intensities(
    values: NDArray[Any], weights: ArrayLike, statistic: str = "mean", trim: float = 0.1
) -> NDArray[np.float64]:
    """Return the mean of images, sample by sample; those that saw nothing there (NaN) do not count.

    Args:
        values: ``(N, ...)`` samples of the images; sums are taken in their order.
        weights: ``(N,)``, not negative.
        statistic: ``mean``; ``median``; or ``trimmed``: the mean without the lowest and highest parts.
        trim: of the weights, left out at either end, 0 to less than 0.5.

    Returns:
        ``(...)`` float64, NaN where no image saw anything.

    Raises:
        SettingError: an unknown statistic.
    """
    if statistic not in STATISTICS:
        raise SettingError(f"average is '{statistic}'; choose one of {', '.join(STATISTICS)}")
    samples = np.asarray(values, dtype=np.float64)
    shares = np.broadcast_to(
        np.reshape(np.asarray(weights, dtype=np.float64), (-1, *[1] * (samples.ndim - 1))), samples.shape
    )
    seen = np.isfinite(samples)
    shares = np.where(seen, shares, 0.0)
    if statistic != "mean":
        shares, samples = _keep_middle(samples, shares, HALF if statistic == "median" else trim)
    total = shares.sum(axis=0)
    added = (shares * np.where(np.isfinite(samples), samples, 0.0)).sum(axis=0)
    return np.divide(added, total, out=np.full(total.shape, np.nan), where=total > 0)


def _keep_middle(
    samples: NDArray[np.float64], shares: NDArray[np.float64], trim: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights that are left in the middle of the values' order, and the values so ordered."""
    order = np.argsort(samples, axis=0, kind="stable")
    ordered = np.take_along_axis(samples, order, axis=0)
    weights = np.take_along_axis(shares, order, axis=0)
    upper = np.cumsum(weights, axis=0)
    total = np.where(upper[-1:] > 0, upper[-1:], 1.0)
    upper = upper / total
    lower = upper - weights / total
    return np.maximum(np.minimum(upper, 1.0 - trim) - np.maximum(lower, trim), 0.0), ordered


def apply_sharpening(
    values: NDArray[np.float32], how: str = "none", amount: float = 0.5
) -> NDArray[np.float32]:
    """Return a mean image with its edges restored, within the range of its values.

    Args:
        values: samples, 2-D or 3-D.
        how: ``none``; ``laplacian``: the image less a part of its Laplacian; ``unsharp``: with a part of
            its difference from a blurred copy added.
        amount: that part.

    Raises:
        SettingError: an unknown sharpening.
    """
    from scipy.ndimage import gaussian_filter, laplace

    if how not in SHARPENINGS:
        raise SettingError(f"sharpen is '{how}'; choose one of {', '.join(SHARPENINGS)}")
    if how == "none":
        return values
    if how == "laplacian":
        # Each axis adds up to 4 of a sample's own: a sixth of it keeps amounts below 1 from ringing.
        sharp = values - np.float32(amount / (2 * values.ndim)) * laplace(values, mode="nearest")
    else:
        sharp = values + np.float32(amount) * (
            values - gaussian_filter(values, UNSHARP_SIGMA, mode="nearest")
        )
    return np.asarray(np.clip(sharp, values.min(), values.max()), dtype=np.float32)
