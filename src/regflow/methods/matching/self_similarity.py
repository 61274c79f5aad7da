"""Self-similarity descriptors (MIND-SSC) of arrays: what neighborhoods look like whatever the contrast.

Source: Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using
self-similarities, MICCAI 2013.
"""

from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from regflow.methods.matching import self_similarity_kernels as kernels

Array = NDArray[np.float32]

MIND_VARIANCE_RANGE = (1e-3, 1e3)
"""A patch's noise estimate is held within these multiples of the image's mean."""
SMALLEST = np.finfo(np.float32).tiny
PATCH = 1
"""Samples from the middle of a descriptor's patch to its border."""


def compute_self_similarity(image: Array, dilation: int = 1) -> Array:
    """Compare patches around pairs of each sample's neighbors that stand at a right angle to each other.

    Args:
        image: ``(Y, X)`` or ``(Z, Y, X)``.
        dilation: distance of the neighbors, samples.

    Returns:
        ``(4, Y, X)`` or ``(12, Z, Y, X)`` from 0 to 1, 1 where the patches are most alike.
    """
    exponents = compute_exponents(image, dilation)
    return np.exp(exponents, out=exponents)


def compute_exponents(image: Array, dilation: int = 1) -> Array:
    """Return the logarithms of :func:`compute_self_similarity`."""
    ndim = image.ndim
    volume = view_as_volumes(image, ndim)
    around = spread_along(ndim, dilation)
    padded = np.pad(volume, [(count, count) for count in around], mode="edge")
    pairs = np.array(
        [
            [_neighbor(ndim, dilation, *one), _neighbor(ndim, dilation, *other)]
            for one, other in list_perpendicular_pairs(ndim)
        ]
    )
    distances = np.empty((len(pairs), *volume.shape), np.float32)
    variance = np.empty(volume.shape, np.float32)
    kernels.compute_patch_distances(padded, pairs + around, spread_along(ndim, PATCH), distances, variance)
    typical = float(variance.mean(dtype=np.float64))
    # A constant image's distances are all 0; what they are divided by must not be.
    low, high = (max(np.float32(bound * typical), SMALLEST) for bound in MIND_VARIANCE_RANGE)
    kernels.scale_distances(distances, variance, low, high)
    return distances.reshape(-1, *image.shape)


def list_perpendicular_pairs(ndim: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return pairs of neighbors ``(axis, step)`` on different axes: 12 in 3-D, 4 in 2-D."""
    steps = list(product((-1, 1), repeat=2))
    return [((a, i), (b, j)) for a, b in combinations(range(ndim), 2) for i, j in steps]


def view_as_volumes(samples: Array, ndim: int) -> Array:
    """Return ``(*channels, *shape)`` of ``ndim`` axes as volumes: an image ``(Y, X)`` as ``(Y, 1, X)``."""
    return np.ascontiguousarray(samples if ndim == 3 else samples[..., None, :], np.float32)


def spread_along(ndim: int, *counts: int) -> NDArray[np.int64]:
    """Return ``(3,)``: counts along an image's axes, or the same one along all, as along a volume's."""
    along = np.zeros(3, np.int64)
    along[:: 4 - ndim] = counts
    return along


def _neighbor(ndim: int, dilation: int, axis: int, step: int) -> NDArray[np.int64]:
    """Return where a neighbor along an image's axis is in a volume, from the sample."""
    return spread_along(ndim, *(step * dilation * (each == axis) for each in range(ndim)))
