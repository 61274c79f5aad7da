"""Where each neighborhood of one image seems to lie in the other, whatever their contrasts.

Descriptors that do not depend on contrast (MIND-SSC; Heinrich et al., MICCAI 2013) are compared at
every offset of a small search window, as in discrete registration (Heinrich et al., deeds, 2013).
What comes out is rough, ambiguous along edges and wrong in places: evidence for a network.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from regflow.methods.matching.self_similarity_torch import compute_mind

SHARPNESS = 12.0
"""Of the soft minimum, on costs that run from 0 at the least to 1 at their mean."""
DILATION = 1
"""Of the descriptors, coarse samples."""
SMOOTHING = 1
"""Samples to either side over which costs are averaged."""


def count_evidence_channels(ndim: int) -> int:
    """Return how many channels :func:`compute_matching_evidence` has: an even number, for the network."""
    return ndim + 1 + (ndim + 1) % 2


def compute_coarse_descriptors(image: Tensor, factor: int) -> Tensor:
    """Describe ``(N, 1, *shape)`` on a grid ``factor`` times coarser: ``(N, 12 or 4, *coarse)``."""
    return compute_mind(pool_blocks(image, factor), dilation=DILATION)


def compute_matching_evidence(fixed: Tensor, moving: Tensor, search: int, factor: int = 1) -> Tensor:
    """Compare neighborhoods at every offset of a window.

    Args:
        fixed: descriptors ``(N, C, *shape)``.
        moving: of the same shape.
        search: offsets from ``-search`` to ``search`` samples along each axis.
        factor: how much coarser the evidence is than the descriptors: costs are averaged over blocks.
            Beyond 1 only offsets along one axis are compared, a quarter in 3-D: there are many samples.

    Returns:
        ``(N, count_evidence_channels(d), *shape / factor)``: the offset that fits best, in samples of the
        evidence and array order, by how much its cost is below the mean, and in 2-D its cost.
    """
    offsets = list_search_offsets(fixed.ndim - 2, search, factor)
    costs = _costs(fixed, moving, offsets, search, factor)
    box = {"kernel_size": 2 * SMOOTHING + 1, "stride": 1, "padding": SMOOTHING, "count_include_pad": False}
    return find_least_offset(_pool(fixed)(costs, **box), offsets, factor)


def join_batches(parts: Sequence[Tensor]) -> Tensor:
    """Put ``(1, ...)`` tensors together along the first axis; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def pool_blocks(image: Tensor, factor: int) -> Tensor:
    """Average ``(N, C, *shape)`` over blocks of ``factor`` samples a side."""
    return image if factor == 1 else _pool(image)(image, factor)


def list_search_offsets(ndim: int, search: int, factor: int) -> list[tuple[int, ...]]:
    """Return the offsets that :func:`compute_matching_evidence` compares at, samples of the descriptors."""
    offsets = list(product(range(-search, search + 1), repeat=ndim))
    if factor > 1:
        offsets = [offset for offset in offsets if sum(step != 0 for step in offset) < 2]
    return offsets


def _pool(samples: Tensor) -> Callable[..., Tensor]:
    return functional.avg_pool3d if samples.ndim == 5 else functional.avg_pool2d


def _costs(fixed: Tensor, moving: Tensor, offsets: list[tuple[int, ...]], search: int, factor: int) -> Tensor:
    """Mean squared difference of descriptors for each offset: ``(N, offsets, *shape / factor)``."""
    shape = fixed.shape[2:]
    padded = functional.pad(moving, [search] * (2 * len(shape)), mode="replicate")
    costs, difference = [], torch.empty_like(fixed)
    for offset in offsets:
        part = padded
        for axis, step in enumerate(offset):
            part = part.narrow(2 + axis, search + step, shape[axis])
        squared = torch.sub(fixed, part, out=difference).square_()
        costs.append(_pool(fixed)(squared.mean(dim=1, keepdim=True), factor))
    return torch.cat(costs, dim=1)


def find_least_offset(costs: Tensor, offsets: Sequence[tuple[int, ...]], factor: int) -> Tensor:
    """Find the offset of the least cost, between samples too, and the depth of the minimum.

    Args:
        costs: ``(N, offsets, *coarse)``; overwritten, so that no more memory of this size is needed.
        offsets: samples of the descriptors, which are ``factor`` times finer than the costs.
        factor: see ``offsets``.

    Returns:
        As :func:`compute_matching_evidence`.
    """
    lengths = torch.tensor(offsets, dtype=torch.float32, device=costs.device) / factor
    least = costs.amin(dim=1, keepdim=True)
    depth = costs.mean(dim=1, keepdim=True) - least
    weights = costs.sub_(least).mul_(-SHARPNESS / depth.clamp(min=1e-6)).exp_()
    offset = torch.einsum("nk...,kd->nd...", weights, lengths) / weights.sum(dim=1, keepdim=True)
    found = torch.cat([offset, depth, least], dim=1)
    return found[:, : count_evidence_channels(lengths.shape[1])]
