"""Random smooth deformations of a patch, whose exact relation is known.

Fields are float32 torch tensors ``(1, d, *shape)`` in samples, components in array order, as in
:mod:`regflow.methods.refine.velocity_torch`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.methods.refine.velocity_torch import compose_velocities, integrate_velocity, resize_field

NODE_SPACINGS = (5.0, 9.0, 16.0, 28.0)
"""Distances of the spline's nodes, samples: from a fold's to a lobe's size."""
STEEPEST = 0.45
"""Longest velocity of one octave, as a part of its nodes' distance: bends without tearing."""
SHRINK = 2
"""Velocities are integrated on a grid this much coarser: no octave holds finer detail."""


@dataclass(frozen=True)
class RelatedDeformations:
    """Two deformations of one anatomy, and what relates their images.

    Attributes:
        fixed: where each sample of the fixed patch looks in the anatomy, ``(1, d, *shape)``.
        moving: the same for the moving patch.
        truth: from a fixed sample to the moving sample that shows the same place.
    """

    fixed: Tensor
    moving: Tensor
    truth: Tensor


DrawDeformations = Callable[[Sequence[int], float, np.random.Generator], RelatedDeformations]
"""Of the shape of a patch, the bound of a deformation's velocity and random numbers, two deformations."""


def draw_velocity(shape: Sequence[int], longest: float, rng: np.random.Generator) -> Tensor:
    """Draw a velocity of several octaves of cubic B-splines with random coefficients.

    Args:
        shape: of the patch.
        longest: bound of the sum of the octaves' longest vectors, samples.
        rng: source of randomness.

    Returns:
        ``(1, d, *shape)`` samples per unit time.
    """
    shares = rng.dirichlet(np.full(len(NODE_SPACINGS), 0.7))
    total = torch.zeros(1, len(shape), *shape)
    for spacing, share in zip(NODE_SPACINGS, shares, strict=True):
        if spacing >= max(shape):
            continue
        octave = _spline_noise(shape, len(shape), spacing, rng)
        length = float(octave.square().sum(dim=1).max().sqrt())
        total += octave * (min(share * longest, STEEPEST * spacing) / max(length, 1e-6))
    return total


def draw_shift(ndim: int, longest: float, rng: np.random.Generator) -> Tensor:
    """Draw one displacement for all samples, ``(1, d, 1...)``, uniform in a box."""
    shift = rng.uniform(-longest, longest, ndim).astype(np.float32)
    return torch.from_numpy(shift).view(1, ndim, *[1] * ndim)


def draw_related_deformations(
    shape: Sequence[int], longest: float, rng: np.random.Generator
) -> RelatedDeformations:
    """Draw two deformations of one anatomy.

    Args:
        shape: of the patch, each side even.
        longest: bound of either deformation's velocity, samples.
        rng: source of randomness.
    """
    coarse = [count // SHRINK for count in shape]
    one, other = (_velocity(coarse, longest, rng) for _ in range(2))
    fixed, moving = integrate_velocity(one), integrate_velocity(other)
    truth = compose_velocities(fixed, integrate_velocity(-other))
    return RelatedDeformations(*(resize_field(field, shape) for field in (fixed, moving, truth)))


def find_places_seen(
    field: Tensor, matrix: NDArray[np.floating], center: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return where samples look that a field moves first, in a source that a patch is posed in.

    Args:
        field: ``(1, d, *shape)``.
        matrix: ``(d, d)``, from samples of the patch to samples of the source.
        center: ``(d,)``, the place in the source at the patch's middle.

    Returns:
        ``(d, *shape)`` positions in the source.
    """
    shape = tuple(field.shape[2:])
    column = (-1, *[1] * len(shape))
    local = np.indices(shape, np.float32) + field[0].numpy()
    local -= ((np.array(shape, np.float32) - 1) / 2).reshape(column)
    places = np.tensordot(matrix.astype(np.float32), local, axes=1)
    return np.asarray(places + center.astype(np.float32).reshape(column))


def draw_smooth_noise(shape: Sequence[int], spacing: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random image of unit variance whose features are ``spacing`` samples apart."""
    values = _spline_noise(shape, 1, spacing, rng)[0, 0]
    return np.asarray((values / values.std().clamp(min=1e-6)).numpy())


def _velocity(coarse: Sequence[int], longest: float, rng: np.random.Generator) -> Tensor:
    """A velocity in samples of the coarse grid; part of it is one shift, as a bad start leaves."""
    bound = longest / SHRINK * rng.uniform(0.1, 1.0)
    shift = rng.uniform(0, 0.5)
    steady = draw_shift(len(coarse), shift * bound, rng)
    return draw_velocity(coarse, (1 - shift) * bound, rng) + steady


def _spline_noise(shape: Sequence[int], channels: int, spacing: float, rng: np.random.Generator) -> Tensor:
    """Evaluate the tensor product of cubic B-splines with normal random coefficients."""
    bases = [_basis(count, spacing, rng.uniform(0, 1)) for count in shape]
    size = (1, channels, *(basis.shape[1] for basis in bases))
    values = torch.from_numpy(rng.standard_normal(size, dtype=np.float32))
    for basis in bases:
        # The axis that is evaluated goes last, so that the next one comes to its place.
        values = torch.tensordot(values, basis, dims=([2], [1]))
    return values


def _basis(count: int, spacing: float, offset: float) -> Tensor:
    """Cubic B-splines of nodes ``spacing`` samples apart, at ``count`` samples: ``(count, nodes)``."""
    places = torch.arange(count, dtype=torch.float32) / spacing + offset
    nodes = torch.arange(-1, int(count / spacing + offset) + 3, dtype=torch.float32)
    distance = (places[:, None] - nodes[None]).abs()
    near = 2 / 3 - distance.square() + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)
