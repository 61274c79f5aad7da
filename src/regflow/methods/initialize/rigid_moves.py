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

Array = NDArray[np.float64]

STRIDES = (0.24, 0.08, 0.026)
"""Root mean square displacement of the object by a move of each size."""
LEVER = 0.5
"""Root mean square distance of the object's points from an axis through its center."""


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


def value_moves(misfit: NDArray[np.floating], moves: Array, strides: Array) -> Array:
    """Return by how much each move lessens a misfit, in units of its stride: at most about 1.

    Args:
        misfit: ``(d + 1, d + 1)``: where the warped moving image shows what the fixed one shows.
        moves: ``(K, d + 1, d + 1)``.
        strides: ``(K,)``.
    """
    return np.asarray((measure_misfit(misfit) - measure_misfit(misfit @ moves)) / strides)


class MoveValues(nn.Module):
    """From a fixed and a warped moving image to the value of each move, in units of its stride."""

    def __init__(self, ndim: int, side: int, channels: Sequence[int]) -> None:
        super().__init__()
        convolution = nn.Conv3d if ndim == 3 else nn.Conv2d
        layers: list[nn.Module] = []
        widths = [2, *channels]
        for before, after in pairwise(widths):
            layers += [convolution(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        left = -(-side // 2 ** len(channels))
        self.values = nn.Sequential(
            nn.Linear(channels[-1] * left**ndim, 128), nn.ReLU(), nn.Linear(128, len(list_moves(ndim)[1]))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return values ``(N, K)`` for images ``(N, 2, *shape)``, 0 to 1."""
        found: Tensor = self.values(torch.flatten(self.features(images), 1))
        return found


def build_move_values(ndim: int, side: int, channels: Sequence[int]) -> nn.Module:
    """Return the network with fresh weights from torch's random numbers.

    Args:
        ndim: 2 or 3.
        side: samples along each axis of what it sees.
        channels: of its convolutions, each of which halves the samples along each axis.
    """
    return MoveValues(ndim, side, channels)
