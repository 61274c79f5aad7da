"""An agent that registers by steps along the modes of a statistical deformation model.

Source: Krebs et al., Robust non-rigid registration through agent-based action learning, MICCAI 2017.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from regflow.methods.refine.field_networks import count_inputs, make_convolution, show_matches
from regflow.methods.refine.velocity_torch import resize_channels, resize_field, sample_channels

NODES = 8
"""Of a mode, along each axis of the image."""
STRIDE = 0.25
"""Length of a step, in standard deviations of its mode."""
LEAST_VALUE = 0.15
"""Below this no step is worth taking."""
MOST_STEPS = 80


class ModeAgent(nn.Module):
    """From two images to the value of each step, and by the best of them to the displacement.

    Attributes:
        modes: ``(K, d, *(NODES,) * d)``, displacements of one standard deviation, in sides of the image.
    """

    multiple = 1
    modes: Tensor

    def __init__(self, ndim: int, side: int, channels: Sequence[int], modes: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("modes", torch.zeros(modes, ndim, *(NODES,) * ndim))
        layers: list[nn.Module] = []
        for before, after in pairwise([count_inputs(ndim), *channels]):
            layers.append(make_convolution(ndim, before, after, 2))
        self.features = nn.Sequential(*layers)
        left = side // 2 ** len(channels)
        self.values = nn.Sequential(
            nn.Linear(channels[-1] * left**ndim, 128), nn.LeakyReLU(0.2), nn.Linear(128, 2 * modes)
        )

    def forward(self, images: Tensor, values: bool = False) -> Tensor:
        """Return the displacement ``(N, d, *shape)`` between images ``(N, 2, *shape)``, in samples.

        With ``values`` the value of each step instead, ``(N, 2 K)``: ahead along each mode, then back.
        """
        if values:
            seen: Tensor = self.values(self.features(show_matches(images)).flatten(1))
            return seen
        return torch.cat([self._walk(pair) for pair in images.split(1)])

    def displace(self, coefficients: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the displacement ``(N, d, *shape)`` of coefficients ``(N, K)``, in samples."""
        with torch.autocast(coefficients.device.type, enabled=False):
            nodes = torch.tensordot(coefficients, self.modes, dims=1) * NODES
        return resize_field(nodes, shape)

    def _walk(self, pair: Tensor) -> Tensor:
        """Take the best step again and again."""
        seen = resize_channels(pair, (self.side,) * (pair.ndim - 2))
        found = torch.zeros(1, len(self.modes))
        visited: list[Tensor] = []
        for _ in range(MOST_STEPS):
            warped = sample_channels(seen[:, 1:], self.displace(found, seen.shape[2:]))
            worth = self(torch.cat([seen[:, :1], warped], dim=1), True)[0]
            best = int(worth.argmax())
            if float(worth[best]) < LEAST_VALUE:
                break
            found = found + list_steps(len(self.modes))[best]
            # Steps that undo each other end where they began.
            if any(bool((found - earlier).abs().max() < STRIDE / 2) for earlier in visited):
                break
            visited.append(found)
        return self.displace(found, pair.shape[2:])


def list_steps(modes: int) -> Tensor:
    """Return the steps ``(2 K, K)``: ahead along each mode, then back."""
    ahead = STRIDE * torch.eye(modes)
    return torch.cat([ahead, -ahead])


def compute_step_values(missing: Tensor) -> Tensor:
    """Return by how much each step comes nearer, in lengths of a step, -1 to 1.

    Args:
        missing: coefficients ``(..., K)`` that the truth is ahead by.
    """
    gains = [missing.abs() - (missing - sign * STRIDE).abs() for sign in (1, -1)]
    return torch.cat(gains, dim=-1) / STRIDE


def fit_modes(truths: Tensor, count: int) -> Tensor:
    """Return the principal modes of displacements, one standard deviation long.

    Args:
        truths: ``(N, d, *shape)`` in samples, every side alike.
        count: modes.
    """
    pool = functional.adaptive_avg_pool3d if truths.ndim == 5 else functional.adaptive_avg_pool2d
    nodes = pool(truths, NODES) / truths.shape[2]
    spread, directions = torch.linalg.svd(nodes.flatten(1), full_matrices=False)[1:]
    scaled = directions[:count] * (spread[:count, None] / len(nodes) ** 0.5)
    return scaled.reshape(count, *nodes.shape[1:])


def project_on_modes(truth: Tensor, modes: Tensor) -> Tensor:
    """Return the coefficients ``(K,)`` of a displacement ``(d, *shape)`` in samples."""
    pool = functional.adaptive_avg_pool3d if truth.ndim == 4 else functional.adaptive_avg_pool2d
    nodes, flat = (pool(truth[None], NODES) / truth.shape[1]).flatten(), modes.flatten(1)
    return (flat @ nodes) / flat.square().sum(dim=1)


def build_mode_agent(
    ndim: int, side: int, channels: Sequence[int], modes: int, spacing: float, passes: Sequence[float]
) -> nn.Module:
    """Return a :class:`ModeAgent` with fresh weights from torch's random numbers, its modes zero.

    Args:
        ndim: 2 or 3.
        side: samples along each axis of what it sees of an image.
        channels: of its convolutions.
        modes: how many there are.
        spacing: of the last pass when it is used; mm, or pixels. Kept with the network, as are
        passes: how much coarser each pass is.
    """
    return ModeAgent(ndim, side, channels, modes)
