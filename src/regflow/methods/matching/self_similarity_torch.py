"""Self-similarity in torch, in two and three dimensions, and sums that no number of threads changes."""

from itertools import product
from typing import Any

import torch
from torch import Tensor

from regflow.methods.matching.self_similarity import MIND_VARIANCE_RANGE, list_perpendicular_pairs


def compute_mind(image: Tensor, radius: int = 1, dilation: int = 2) -> Tensor:
    """Return the MIND-SSC descriptor (Heinrich et al., 2013): alike whatever the modality.

    Each channel compares two patches around neighbors of a sample that stand at a right angle to
    each other: 12 such pairs in three dimensions, 4 in two.

    Args:
        image: ``(N, 1, *shape)``.
        radius: of the patch, samples.
        dilation: distance of the neighbors, samples.

    Returns:
        ``(N, 12 or 4, *shape)`` from 0 to 1.
    """
    patches = (2 * radius + 1) ** (image.ndim - 2)
    pairs = list_perpendicular_pairs(image.ndim - 2)
    ways = product(range(image.ndim - 2), (-1, 1))
    neighbors = {(axis, step): _shift(image, axis, step * dilation) for axis, step in ways}
    # One by one: a channel stays in the cache, all of them do not.
    distances = [_full_box_sum((neighbors[a] - neighbors[b]).square(), radius) / patches for a, b in pairs]
    stacked = torch.cat(distances, dim=1)
    stacked = stacked - stacked.amin(dim=1, keepdim=True)
    variance = stacked.mean(dim=1, keepdim=True)
    typical = sum_over_space(variance) / variance[0].numel()
    typical = typical.clamp(min=torch.finfo(torch.float32).tiny).detach()
    low, high = (bound * typical.view(-1, *[1] * (image.ndim - 1)) for bound in MIND_VARIANCE_RANGE)
    return torch.exp(-stacked / variance.clamp(low, high))


def sum_box(image: Tensor, radius: int) -> Tensor:
    """Sum ``(N, C, *shape)`` over the part of a box of ``2 radius + 1`` samples inside the image."""
    result: Tensor = _BoxSum.apply(image, radius)
    return result


def sum_over_space(values: Tensor) -> Tensor:
    """Sum over space, ``(N, C, *shape)`` to ``(N, C)``, one axis at a time.

    torch splits a sum to one number among threads, but never a sum along an axis.
    """
    for _ in range(values.ndim - 2):
        values = values.sum(dim=-1)
    return values


def _shift(image: Tensor, axis: int, step: int) -> Tensor:
    """Return ``image(x + step)`` along a spatial axis, its border going on outside."""
    count = image.shape[2 + axis]
    index = (torch.arange(count, device=image.device) + step).clamp(0, count - 1)
    return image.index_select(2 + axis, index)


def _full_box_sum(image: Tensor, radius: int) -> Tensor:
    """Box sum scaled, at the border, as if all of the box had lain inside."""
    ones = torch.ones_like(image[:1, :1])
    full = (2 * radius + 1) ** (image.ndim - 2)
    return sum_box(image, radius) * (full / sum_box(ones, radius))


class _BoxSum(torch.autograd.Function):
    """A box with zeros outside is its own transpose, so one filter serves both directions."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radius: int) -> Tensor:
        ctx.radius = radius
        return _separable_box(image, radius)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _separable_box(gradients[0], ctx.radius), None


def _separable_box(image: Tensor, radius: int) -> Tensor:
    """Add shifted images up, axis by axis: several times faster than torch's pooling on a CPU."""
    for axis in range(2, image.ndim):
        total, count = image.clone(), image.shape[axis]
        for step in range(1, min(radius, count - 1) + 1):
            left = count - step
            total.narrow(axis, step, left).add_(image.narrow(axis, 0, left))
            total.narrow(axis, 0, left).add_(image.narrow(axis, step, left))
        image = total
    return image
