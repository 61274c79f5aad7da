"""What :mod:`matching_torch` computes, on the CPU, by the kernels of self-similarities.

Torch makes a pass over the memory for each step of a descriptor and of a comparison; here a plane
stays in the cache until it is done. Nothing has a gradient, and none is needed: a network is shown
this, no loss is.

The kernels take volumes and run in parallel over their first axis: an image ``(Y, X)`` is a volume
``(Y, 1, X)``.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from regflow.methods.matching import self_similarity_kernels as kernels
from regflow.methods.matching.matching_torch import (
    DILATION,
    SMOOTHING,
    find_least_offset,
    join_batches,
    list_search_offsets,
    pool_blocks,
)
from regflow.methods.matching.self_similarity import compute_exponents, spread_along, view_as_volumes


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
    return torch.from_numpy(compute_exponents(image.numpy(), DILATION)).exp_()


def _compared(fixed: Tensor, moving: Tensor, offsets: Sequence[tuple[int, ...]], factor: int) -> Tensor:
    """Return each offset's cost ``(O, *shape / factor)`` for descriptors ``(C, *shape)``, smoothed."""
    ndim = fixed.ndim - 1
    one, other = view_as_volumes(fixed.numpy(), ndim), view_as_volumes(moving.numpy(), ndim)
    steps = np.stack([spread_along(ndim, *offset) for offset in offsets])
    blocks = np.maximum(spread_along(ndim, factor), 1)
    costs = np.empty((len(offsets), *(one.shape[1:] // blocks)), np.float32)
    kernels.compute_costs(one, other, steps, blocks, costs)
    smooth = np.empty_like(costs)
    kernels.average_around(costs, spread_along(ndim, SMOOTHING), smooth)
    return torch.from_numpy(smooth.reshape(len(offsets), *(count // factor for count in fixed.shape[1:])))
