"""Self-similarity descriptors: what an image looks like whatever its contrast.

Source: Heinrich et al., MIND: modality independent neighbourhood descriptor for multi-modal
deformable registration, Medical Image Analysis 16(7):1423-1435, 2012.
"""

import numpy as np
from numpy.typing import NDArray

from regflow.methods.refine import greedy_kernels as kernels
from regflow.methods.refine.greedy_level import make_half_gaussian

PATCH_SIGMA = 0.8
"""Size of the compared patches, in samples of the finest axis."""
LIMITS = (0.1, 10.0)
"""Bounds of the local variance in units of its mean: tame flat and busy places."""


def compute_descriptors(image: NDArray[np.float32], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """Compare each sample's patch with those of its neighbors along each axis.

    Args:
        image: ``(Z, Y, X)``.
        spacing: of the samples in array order, in units of the finest axis.

    Returns:
        ``(2 n, Z, Y, X)`` in 0 to 1, two channels for each of the ``n`` axes longer than one sample:
        1 where the patches are most alike.
    """
    axes = [axis for axis in range(image.ndim) if image.shape[axis] > 1]
    shifted = [_shifted(image, axis, shift) for axis in axes for shift in (-1, 1)]
    distances = np.stack([np.square(image - other) for other in shifted])
    stack = np.empty_like(distances)
    taps = [make_half_gaussian(PATCH_SIGMA / width) for width in spacing]
    kernels.smooth_channels(distances, *taps, kernels.make_full_spans(stack.shape[1:]), stack)
    stack -= stack.min(axis=0)
    variance = stack.mean(axis=0)
    middle = float(variance.mean(dtype=np.float64))
    if middle > 0:
        stack /= np.clip(variance, LIMITS[0] * middle, LIMITS[1] * middle)
    return np.asarray(np.exp(-stack, out=stack))


def _shifted(image: NDArray[np.float32], axis: int, shift: int) -> NDArray[np.float32]:
    index = np.clip(np.arange(image.shape[axis]) + shift, 0, image.shape[axis] - 1)
    return np.take(image, index, axis=axis)
