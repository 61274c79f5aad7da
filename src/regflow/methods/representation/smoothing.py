"""Gaussian smoothing that leaves invalid samples out and looks no farther than its kernel."""

import math

import numpy as np
from numpy.typing import NDArray

_SIGMAS = 3.0


def find_reach(sigma: float) -> int:
    """Return the radius of the kernel in samples."""
    return math.ceil(_SIGMAS * sigma)


def make_kernel(sigma: float) -> NDArray[np.float64]:
    """Return the samples of a Gaussian of sum 1."""
    steps = np.arange(-find_reach(sigma), find_reach(sigma) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def smooth_valid(samples: NDArray[np.float32], valid: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Return the average of the valid samples around each; 0 where there are none.

    Args:
        samples: ``(h, w)``, 0 where invalid. Beyond the window nothing is valid.
        valid: ``(h, w)``.
        sigma: of the Gaussian, in samples.
    """
    weights = filter_separable(valid.astype(np.float32), make_kernel(sigma), make_kernel(sigma))
    sums = filter_separable(np.where(valid, samples, np.float32(0)), make_kernel(sigma), make_kernel(sigma))
    # In float32 a weight below this is rounding, not a sample.
    known = weights > 1e-6
    return np.where(known, sums / np.where(known, weights, 1), np.float32(0))


def filter_separable(
    samples: NDArray[np.float32], down: NDArray[np.float64], across: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Correlate with a kernel along rows and one along columns; outside there are zeros."""
    from scipy.ndimage import correlate1d

    lines = correlate1d(samples, down, axis=0, mode="constant")
    return np.asarray(correlate1d(lines, across, axis=1, mode="constant"))
