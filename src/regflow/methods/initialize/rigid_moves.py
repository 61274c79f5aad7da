"""The moves of an agent that brings two images together, and the network that values them.

Moves are small rotations and shifts of the moving image in the frame of the fixed one, in units of half the
side of the cube or square in which both are seen, about its center; components in array order.
"""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regflow.methods.matching.matching_torch import (
    compute_coarse_descriptors,
    compute_matching_evidence,
    pool_blocks,
)

Array = NDArray[np.float64]

STRIDES = (0.24, 0.08, 0.026)
"""Root mean square displacement of the object by a move of each size."""
LEVER = 0.5
"""Root mean square distance of the object's points from an axis through its center."""

COARSEST = 4
SEARCHES = {2: 1, 4: 2}
"""By how much coarser neighborhoods are compared, offsets up to so many samples there."""


def list_moves(ndim: int) -> tuple[Array, Array]:
    """Return all moves of an image of two or three dimensions.

    Returns:
        Homogeneous matrices ``(K, d + 1, d + 1)``, and the stride of each ``(K,)``.
    """
    matrices, strides = [], []
    for stride in STRIDES:
        for sign in (1.0, -1.0):
            for axis in range(ndim):
                shift = np.eye(ndim + 1)
                shift[axis, ndim] = sign * stride * np.sqrt(ndim / 3)
                matrices.append(shift)
            matrices += [
                turn_in_plane(ndim, plane, sign * stride / LEVER) for plane in combinations(range(ndim), 2)
            ]
            strides += [stride] * (ndim + ndim * (ndim - 1) // 2)
    return np.stack(matrices), np.array(strides)


def turn_in_plane(ndim: int, plane: tuple[int, ...], angle: float) -> Array:
    """Return the rotation by an angle in radians that turns the first axis of a plane to the second."""
    matrix = np.eye(ndim + 1)
    one, other = plane
    matrix[one, one] = matrix[other, other] = np.cos(angle)
    matrix[other, one], matrix[one, other] = np.sin(angle), -np.sin(angle)
    return matrix


def measure_misfit(matrix: NDArray[np.floating]) -> Array:
    """Return the root mean square displacement of an object of uniform spread.

    Args:
        matrix: ``(..., d + 1, d + 1)``, homogeneous.
    """
    ndim = matrix.shape[-1] - 1
    spread = LEVER / np.sqrt(2)
    linear = spread * (matrix[..., :ndim, :ndim] - np.eye(ndim))
    squares = (linear**2).sum(axis=(-2, -1)) + (matrix[..., :ndim, ndim] ** 2).sum(axis=-1)
    return np.asarray(np.sqrt(squares))


def measure_gains(misfit: NDArray[np.floating], moves: Array, strides: Array) -> Array:
    """Return by how much each move lessens a misfit, in units of its stride: at most about 1.

    Args:
        misfit: ``(d + 1, d + 1)``: where the warped moving image shows what the fixed one shows.
        moves: ``(K, d + 1, d + 1)``.
        strides: ``(K,)``.
    """
    return np.asarray((measure_misfit(misfit) - measure_misfit(misfit @ moves)) / strides)


class MoveValues(nn.Module):
    """From a fixed and a warped moving image to the value of each move, in units of its stride.

    It is shown no intensities but where neighborhoods fit best, at two scales: the contrasts of both
    images do not matter, and what has to be learned is small.
    """

    def __init__(self, ndim: int, side: int, channels: Sequence[int]) -> None:
        super().__init__()
        convolution = nn.Conv3d if ndim == 3 else nn.Conv2d
        layers: list[nn.Module] = []
        for before, after in pairwise([len(SEARCHES) * (ndim + 1), *channels]):
            layers += [convolution(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.pool = (nn.AvgPool3d if ndim == 3 else nn.AvgPool2d)(2)
        left = side // COARSEST // 2
        self.values = nn.Sequential(
            nn.Linear(channels[-1] * left**ndim, 128), nn.ReLU(), nn.Linear(128, len(list_moves(ndim)[1]))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return values ``(N, K)`` for images ``(N, 2, *shape)``, 0 to 1."""
        found: Tensor = self.values(torch.flatten(self.pool(self.features(_compare(images))), 1))
        return found


def _compare(images: Tensor) -> Tensor:
    """Return where neighborhoods fit best ``(N, C, *shape / COARSEST)``, weighted by how clearly they do."""
    ndim, seen = images.ndim - 2, []
    with torch.no_grad():
        for factor, search in SEARCHES.items():
            fixed, moving = (compute_coarse_descriptors(part, factor) for part in images.split(1, dim=1))
            found = compute_matching_evidence(fixed, moving, search)
            offset, depth = found[:, :ndim], found[:, ndim : ndim + 1]
            weight = depth / depth.flatten(1).amax(dim=1).clamp(min=1e-6).view(-1, 1, *[1] * ndim)
            seen.append(pool_blocks(torch.cat([offset * weight / search, weight], dim=1), COARSEST // factor))
    return torch.cat(seen, dim=1)


def build_move_values(ndim: int, side: int, channels: Sequence[int]) -> nn.Module:
    """Return the network with fresh weights from torch's random numbers.

    Args:
        ndim: 2 or 3.
        side: samples along each axis of what it sees, a multiple of 8.
        channels: of its convolutions.
    """
    return MoveValues(ndim, side, channels)
