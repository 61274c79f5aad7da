"""What :mod:`matching_torch` computes, on the CPU, by the kernels of :mod:`matching_kernels`.

Torch makes a pass over the memory for each step of a descriptor and of a comparison; here a plane
stays in the cache until it is done. Nothing has a gradient, and none is needed: a network is shown
this, no loss is.

The kernels take volumes and run in parallel over their first axis: an image ``(Y, X)`` is a volume
``(Y, 1, X)``.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.methods.refine import matching_kernels as kernels
from regflow.methods.refine.losses_torch import MIND_VARIANCE_RANGE, list_perpendicular_pairs
from regflow.methods.refine.matching_torch import (
    DILATION,
    SMOOTHING,
    find_least_offset,
    join_batches,
    list_search_offsets,
    pool_blocks,
)

Array = NDArray[np.float32]

SMALLEST = np.finfo(np.float32).tiny
PATCH = 1
"""Samples from the middle of a descriptor's patch to its border."""


def compute_coarse_descriptors(image: Tensor, factor: int) -> Tensor:
    """Describe as :func:`matching_torch.compute_coarse_descriptors` does, to rounding, without a gradient."""
    return join_batches([_described(each)[None] for each in pool_blocks(image, factor)[:, 0]])


def compute_matching_evidence(fixed: Tensor, moving: Tensor, search: int, factor: int = 1) -> Tensor:
    """Compare as :func:`matching_torch.compute_matching_evidence` does, to rounding, without a gradient."""
    offsets = list_search_offsets(fixed.ndim - 2, search, factor)
    pairs = zip(fixed, moving, strict=True)
    costs = join_batches([_compared(one, other, offsets, factor)[None] for one, other in pairs])
    return find_least_offset(costs, offsets, factor)


def _described(image: Tensor) -> Tensor:
    """Return the descriptor ``(12 or 4, *shape)`` of one image ``shape``."""
    ndim = image.ndim
    volume = _volumes(image.numpy(), ndim)
    around = _along(ndim, DILATION)
    padded = np.pad(volume, [(count, count) for count in around], mode="edge")
    pairs = np.array(
        [[_neighbor(ndim, *one), _neighbor(ndim, *other)] for one, other in list_perpendicular_pairs(ndim)]
    )
    distances = np.empty((len(pairs), *volume.shape), np.float32)
    variance = np.empty(volume.shape, np.float32)
    kernels.compute_patch_distances(padded, pairs + around, _along(ndim, PATCH), distances, variance)
    typical = float(variance.mean(dtype=np.float64))
    # A constant image's distances are all 0; what they are divided by must not be.
    low, high = (max(np.float32(bound * typical), SMALLEST) for bound in MIND_VARIANCE_RANGE)
    kernels.scale_distances(distances, variance, low, high)
    return torch.from_numpy(distances.reshape(-1, *image.shape)).exp_()


def _compared(fixed: Tensor, moving: Tensor, offsets: Sequence[tuple[int, ...]], factor: int) -> Tensor:
    """Return each offset's cost ``(O, *shape / factor)`` for descriptors ``(C, *shape)``, smoothed."""
    ndim = fixed.ndim - 1
    one, other = _volumes(fixed.numpy(), ndim), _volumes(moving.numpy(), ndim)
    steps = np.stack([_along(ndim, *offset) for offset in offsets])
    blocks = np.maximum(_along(ndim, factor), 1)
    costs = np.empty((len(offsets), *(one.shape[1:] // blocks)), np.float32)
    kernels.compute_costs(one, other, steps, blocks, costs)
    smooth = np.empty_like(costs)
    kernels.average_around(costs, _along(ndim, SMOOTHING), smooth)
    return torch.from_numpy(smooth.reshape(len(offsets), *(count // factor for count in fixed.shape[1:])))


def _volumes(samples: Array, ndim: int) -> Array:
    """Return ``(*channels, *shape)`` as volumes."""
    volumes = samples if ndim == 3 else samples[..., None, :]
    return np.ascontiguousarray(volumes)


def _along(ndim: int, *counts: int) -> NDArray[np.int64]:
    """Return ``(3,)``: counts along an image's axes, or the same one along all, as along a volume's."""
    along = np.zeros(3, np.int64)
    along[:: 4 - ndim] = counts
    return along


def _neighbor(ndim: int, axis: int, step: int) -> NDArray[np.int64]:
    """Return where a neighbor along an image's axis is in a volume, from the sample."""
    return _along(ndim, *(step * DILATION * (each == axis) for each in range(ndim)))
