"""Stationary velocity fields in torch, in two and three dimensions.

Fields are ``(N, d, *shape)`` float32: components in array order, in voxels OF THEIR OWN GRID. A
field on a coarser grid of the same extent is the same field with smaller numbers, and
:func:`resize_field` converts between the two. Samples are cell centers: a grid of half the shape
has its samples between pairs of the finer one.

Everything here has a deterministic backward pass on the CPU and on a GPU, and runs in float32 also
inside autocast: a sampling position in half precision is off by a good part of a voxel.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from regflow.core import fields
from regflow.core.boxes import Box, extend_field
from regflow.core.grid import Grid
from regflow.core.transform import DisplacementField

SQUARINGS = 6
"""With a midpoint first step, six squarings leave the interpolation as the only visible error."""


def integrate_velocity(velocity: Tensor, squarings: int = SQUARINGS) -> Tensor:
    """Return the displacement that flowing along a velocity for unit time gives.

    Scaling and squaring (Arsigny et al., 2006) from a midpoint first step. The inverse
    displacement is ``integrate(-velocity)``.

    Args:
        velocity: ``(N, d, *shape)`` in voxels per unit time.
        squarings: the flow is followed in ``2 ** squarings`` steps.

    Returns:
        ``(N, d, *shape)`` displacement in voxels.
    """
    step = velocity.float() / 2**squarings
    displacement = sample_channels(step, step / 2)
    for _ in range(squarings):
        displacement = compose_velocities(displacement, displacement)
    return displacement


def compose_velocities(first: Tensor, second: Tensor) -> Tensor:
    """Return the displacement of ``x -> x + first(x) -> ... + second`` of the place reached."""
    return first + sample_channels(second, first)


def follow_displacement(step: Tensor, total: Tensor | None) -> Tensor:
    """Return a step, on its own grid, followed by a displacement of any grid of the same extent.

    Args:
        step: ``(N, d, *shape)``.
        total: ``(N, d, *)``; None for none.
    """
    return step if total is None else compose_velocities(step, resize_field(total, step.shape[2:]))


def sample_channels(image: Tensor, displacement: Tensor) -> Tensor:
    """Sample an image where a displacement leads, linearly, with its border going on outside.

    Args:
        image: ``(N, C, *shape)``.
        displacement: ``(N, d, *shape)`` in voxels, array order.

    Returns:
        ``(N, C, *shape)`` float32; value at ``x`` is ``image(x + displacement(x))``.
    """
    with torch.autocast(displacement.device.type, enabled=False):
        image, displacement = image.float(), displacement.float()
        if displacement.is_cuda and torch.are_deterministic_algorithms_enabled():
            return _OrderedSample.apply(image, displacement)
        return _sample(image, displacement)


def resize_channels(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Interpolate ``(N, C, *)`` linearly onto another number of samples over the same extent."""
    if tuple(image.shape[2:]) == tuple(shape):
        return image
    if not (image.is_cuda and torch.are_deterministic_algorithms_enabled()):
        mode = "trilinear" if len(shape) == 3 else "bilinear"
        return functional.interpolate(image, tuple(shape), mode=mode, align_corners=False)
    return _ordered_resize(image, shape)


def resize_field(field: Tensor, shape: Sequence[int]) -> Tensor:
    """Convert a field ``(N, d, *)`` to another grid of the same extent, in voxels of that grid."""
    ratios = [new / old for new, old in zip(shape, field.shape[2:], strict=True)]
    return resize_channels(field, shape) * _per_component(ratios, field)


def halve_field(field: Tensor) -> Tensor:
    """Average a field ``(N, d, *shape)`` over cells of two samples along each axis.

    Returns:
        ``(N, d, *shape / 2)`` in voxels of the coarser grid. Every axis must be even.
    """
    cells: list[int] = []
    for count in field.shape[2:]:
        cells += [count // 2, 2]
    averaged = field.reshape(*field.shape[:2], *cells).mean(dim=tuple(range(3, 2 + len(cells), 2)))
    return averaged / 2


def to_displacement_field(displacement: Tensor, grid: Grid, box: Box | None = None) -> DisplacementField:
    """Convert one displacement ``(1, d, *)`` to world units on a grid.

    Args:
        displacement: over the extent of the grid, or of the box.
        grid: of the result.
        box: part of the grid; outside it the displacement goes on as at its border. None for all.
    """
    shape = grid.shape if box is None else tuple(part.stop - part.start for part in box)
    voxels = resize_field(displacement.detach().float(), shape)[0].cpu().numpy()
    whole = voxels if box is None else extend_field(voxels, box, grid.shape)
    return DisplacementField(fields.to_world(whole, grid), grid)


def _sample(image: Tensor, displacement: Tensor) -> Tensor:
    shape = image.shape[2:]
    axes = []
    for axis, count in enumerate(shape):
        position = displacement[:, axis] + _ramp(displacement, axis)
        axes.append(position * (2 / max(1, count - 1)) - 1)
    # torch wants (x, y, z) order, last.
    where = torch.stack(axes[::-1], dim=-1)
    return functional.grid_sample(image, where, mode="bilinear", padding_mode="border", align_corners=True)


def _ramp(like: Tensor, axis: int) -> Tensor:
    """Index along one spatial axis, shaped to broadcast over ``(N, *shape)``."""
    shape = like.shape[2:]
    view = [1] * (1 + len(shape))
    view[1 + axis] = shape[axis]
    return torch.arange(shape[axis], dtype=torch.float32, device=like.device).view(view)


def _per_component(factors: Sequence[float], like: Tensor) -> Tensor:
    values = torch.tensor(factors, dtype=like.dtype, device=like.device)
    return values.view(1, -1, *[1] * (like.ndim - 2))


def _ordered_resize(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Do the same with a backward pass whose sums have one order, which torch's lacks on a GPU."""
    for axis, count in enumerate(shape, start=2):
        image = _resize_axis(image, axis, count)
    return image


def _resize_axis(image: Tensor, axis: int, count: int) -> Tensor:
    old = image.shape[axis]
    centers = (torch.arange(count, dtype=torch.float64, device=image.device) + 0.5) * (old / count) - 0.5
    centers = centers.clamp(0, old - 1)
    lower = centers.floor().long().clamp(max=max(0, old - 2))
    view = [1] * image.ndim
    view[axis] = count
    weight = (centers - lower).to(image.dtype).view(view)
    upper = (lower + 1).clamp(max=old - 1)
    return torch.lerp(image.index_select(axis, lower), image.index_select(axis, upper), weight)


class _OrderedSample(torch.autograd.Function):
    """The same sampling with a backward pass whose sums have one order.

    torch's own adds with atomics on a GPU, in an order that changes from run to run. ``index_add``
    sorts first when deterministic algorithms are asked for.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, displacement: Tensor) -> Tensor:
        ctx.save_for_backward(image, displacement)
        return _sample(image, displacement)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, displacement = ctx.saved_tensors
        shape, channels = image.shape[2:], image.shape[1]
        lower, fraction, free = _cells(displacement)
        flat_image = image.movedim(1, 0).reshape(channels, -1)
        flat_gradient = gradients[0].movedim(1, 0).reshape(channels, -1)
        to_image = torch.zeros_like(flat_image) if ctx.needs_input_grad[0] else None
        to_displacement = torch.zeros_like(fraction)
        for corner in product((0, 1), repeat=len(shape)):
            index = _flat_index(lower, corner, shape)
            sides = [fraction[k] if bit else 1 - fraction[k] for k, bit in enumerate(corner)]
            if to_image is not None:
                weight = torch.stack(sides).prod(dim=0).flatten()
                to_image.index_add_(1, index.flatten(), flat_gradient * weight)
            pull = (flat_gradient * flat_image[:, index.flatten()]).sum(dim=0).view(index.shape)
            for k, bit in enumerate(corner):
                others = [side for axis, side in enumerate(sides) if axis != k]
                slope = torch.stack(others).prod(dim=0) * (1.0 if bit else -1.0)
                to_displacement[k] += pull * slope
        if to_image is not None:
            to_image = to_image.view(channels, len(image), *shape).movedim(0, 1)
        return to_image, (to_displacement * free).movedim(0, 1)


def _cells(displacement: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lower corner, fraction and whether inside, each ``(d, N, *shape)``, of every sampled place."""
    lowers, fractions, free = [], [], []
    for axis, count in enumerate(displacement.shape[2:]):
        position = displacement[:, axis] + _ramp(displacement, axis)
        kept = position.clamp(0, count - 1)
        lower = kept.floor().clamp(max=max(0, count - 2))
        lowers.append(lower.long())
        fractions.append(kept - lower)
        free.append((kept == position).to(position.dtype))
    return torch.stack(lowers), torch.stack(fractions), torch.stack(free)


def _flat_index(lower: Tensor, corner: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Index ``(N, *shape)`` of one corner of each cell in the flattened batch of images."""
    batch = torch.arange(lower.shape[1], device=lower.device).view(-1, *[1] * len(shape))
    index = batch.expand(lower.shape[1:])
    for axis, count in enumerate(shape):
        index = index * count + (lower[axis] + corner[axis]).clamp(max=count - 1)
    return index
