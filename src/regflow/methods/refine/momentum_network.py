"""Initial momenta predicted patch by patch, and the geodesic shooting that makes diffeomorphisms of them.

Fields are as in :mod:`regflow.methods.refine.velocity_torch`: ``(N, d, *shape)`` in samples of their grid.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from regflow.methods.refine.field_networks import make_block, make_head, show_matches
from regflow.methods.refine.velocity_torch import compose_velocities, resize_field, sample_channels

SHRINK = 2
"""Momenta live on a grid this much coarser than the images."""
KERNEL = (1.5, 4.0)
"""Standard deviations of the Gaussians, coarse samples, whose mean makes a velocity of a momentum."""
STEPS = 6
"""Of the shooting."""
PATCH, STRIDE = 32, 24
"""Side of a patch, and from one to the next, samples of the images."""

PATCHES = 16
"""That a network is asked about at a time."""


def smooth_momentum(momentum: Tensor) -> Tensor:
    """Return the velocity of a momentum: a mean of Gaussians, whose operator is its own transpose."""
    total = torch.zeros_like(momentum)
    for sigma in KERNEL:
        smooth = momentum
        for axis in range(2, momentum.ndim):
            smooth = _smooth_axis(smooth, axis, sigma)
        total = total + smooth / len(KERNEL)
    return total


def _smooth_axis(field: Tensor, axis: int, sigma: float) -> Tensor:
    """Multiply by a symmetric matrix: nothing lies outside."""
    index = torch.arange(field.shape[axis], dtype=field.dtype, device=field.device)
    weights = torch.exp(-((index[:, None] - index[None]) ** 2) / (2 * sigma**2))
    weights = weights / (sigma * (2 * torch.pi) ** 0.5)
    return torch.tensordot(field.movedim(axis, -1), weights, dims=([-1], [0])).movedim(-1, axis)


def integrate_momentum(momentum: Tensor) -> tuple[Tensor, Tensor]:
    """Follow the geodesic that begins with a momentum, for unit time.

    The momentum is carried along by the flow: ``m(t) = |D psi| (D psi)^T m(0) o psi`` with ``psi`` the
    inverse of the flow (EPDiff; Miller et al., J. Mathematical Imaging and Vision 24:209-228, 2006).

    Args:
        momentum: at the beginning.

    Returns:
        The displacements of the flow and of its inverse.
    """
    forward, inverse = torch.zeros_like(momentum), torch.zeros_like(momentum)
    carried = momentum
    with torch.autocast(momentum.device.type, enabled=False):
        for _ in range(STEPS):
            step = smooth_momentum(carried) / STEPS
            # A midpoint step back: otherwise both maps drift apart.
            back = -sample_channels(step, -step / 2)
            ahead = sample_channels(step, step / 2)
            forward = compose_velocities(forward, ahead)
            inverse = compose_velocities(back, inverse)
            carried = _carry(momentum, inverse)
    return forward, inverse


def _carry(momentum: Tensor, inverse: Tensor) -> Tensor:
    """Return where the flow has brought a momentum."""
    ndim = momentum.shape[1]
    slopes = torch.stack([torch.gradient(inverse, dim=axis + 2)[0] for axis in range(ndim)], dim=2)
    identity = torch.eye(ndim, dtype=inverse.dtype, device=inverse.device)
    jacobian = slopes + identity.view(1, ndim, ndim, *[1] * ndim)
    last = jacobian.movedim((1, 2), (-2, -1))
    there = sample_channels(momentum, inverse).movedim(1, -1)
    turned = (last.transpose(-1, -2) @ there.unsqueeze(-1)).squeeze(-1)
    return (torch.linalg.det(last).unsqueeze(-1) * turned).movedim(-1, 1)


class MomentumNetwork(nn.Module):
    """An encoder for each image of a patch, and a decoder that answers with the momentum there.

    Source: Yang et al., NeuroImage 158:378-396, 2017.
    """

    def __init__(self, ndim: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, second = channels
        self.encoders = nn.ModuleList(
            nn.Sequential(make_block(ndim, 2 + ndim, first, 2), make_block(ndim, first, second, 2))
            for _ in range(2)
        )
        self.middle = make_block(ndim, 2 * second, 2 * second, 1)
        self.decoder = make_block(ndim, 2 * second, first, 1)
        self.head = make_head(ndim, first)

    def forward(self, patches: Tensor) -> Tensor:
        """Return momenta ``(N, d, *side / 2)`` of patches ``(N, 3 + d, *side)``."""
        matches = patches[:, 2:]
        seen = [
            encoder(torch.cat([patches[:, k : k + 1], matches], dim=1))
            for k, encoder in enumerate(self.encoders)
        ]
        middle = functional.interpolate(self.middle(torch.cat(seen, dim=1)), scale_factor=2.0)
        momenta: Tensor = self.head(self.decoder(middle))
        return momenta


class MomentumPair(nn.Module):
    """A network that predicts momenta, and one that predicts what is missing once they have been shot."""

    multiple = 8

    def __init__(self, ndim: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.prediction = MomentumNetwork(ndim, channels)
        self.correction = MomentumNetwork(ndim, channels)

    def forward(self, images: Tensor, unshot: bool = False) -> Tensor:
        """Return the displacement ``(N, d, *shape)`` between images ``(N, 2, *shape)``, in samples.

        With ``unshot`` the predicted momentum and its correction instead, ``(2, N, d, *shape / 2)``. No
        gradient goes from the correction to the prediction: it learns what the other leaves.
        """
        predicted = predict_by_patches(self.prediction, images)
        with torch.no_grad():
            field = resize_field(integrate_momentum(predicted)[0], images.shape[2:])
            warped = torch.cat([images[:, :1], sample_channels(images[:, 1:], field)], dim=1)
        momenta = torch.stack([predicted, predict_by_patches(self.correction, warped)])
        return (
            momenta if unshot else resize_field(integrate_momentum(momenta.sum(dim=0))[0], images.shape[2:])
        )


def predict_by_patches(network: nn.Module, images: Tensor) -> Tensor:
    """Ask a network about each patch of images, and average where patches overlap.

    Args:
        network: from patches ``(P, 3 + d, *side)`` to momenta of half the side.
        images: ``(N, 2, *shape)``, sides even.

    Returns:
        ``(N, d, *shape / 2)``.
    """
    shape = images.shape[2:]
    extra = [max(PATCH - count, -(count - PATCH) % STRIDE) for count in shape]
    sides = [side for more in reversed(extra) for side in (0, more)]
    padded = functional.pad(show_matches(images), sides, mode="replicate")
    places = list(product(*(range(0, count - PATCH + 1, STRIDE) for count in padded.shape[2:])))
    total = images.new_zeros((len(images), len(shape), *(count // SHRINK for count in padded.shape[2:])))
    weight = torch.zeros_like(total[:1, :1])
    for group in range(0, len(places), PATCHES):
        some = places[group : group + PATCHES]
        patches = [padded[_find_window(place, PATCH)] for place in some]
        found = network(torch.cat(patches)).float().split(len(images))
        for place, momentum in zip(some, found, strict=True):
            window = _find_window([first // SHRINK for first in place], PATCH // SHRINK)
            total[window] = total[window] + momentum
            weight[window] += 1
    for axis, count in enumerate(shape, start=2):
        total, weight = (part.narrow(axis, 0, count // SHRINK) for part in (total, weight))
    return total / weight


def _find_window(place: Sequence[int], side: int) -> tuple[slice, ...]:
    """Return where a patch lies in ``(N, C, *shape)``."""
    return slice(None), slice(None), *(slice(first, first + side) for first in place)


def build_momentum_pair(
    ndim: int, channels: Sequence[int], spacing: float, passes: Sequence[float]
) -> nn.Module:
    """Return a :class:`MomentumPair` with fresh weights from torch's random numbers.

    Args:
        ndim: 2 or 3.
        channels: of both levels, two numbers.
        spacing: of the last pass when it is used; mm, or pixels. Kept with the network, as are
        passes: how much coarser each pass is.
    """
    return MomentumPair(ndim, channels)
