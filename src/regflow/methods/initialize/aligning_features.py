"""Learned features and the inverse-compositional Gauss-Newton steps that align by them, all differentiable.

The steps are those of Lucas and Kanade in the form of Baker and Matthews. Gradients flow through them, so
that features are learned for which they lead home.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from regflow.methods.initialize.plane_maps_torch import (
    list_corners,
    list_pixels,
    look_up,
    move_points,
    standardize_locally,
)

FOLD = 2
GROUPS = 4
NEIGHBORHOOD = 12
PARAMETERS = {"homography": 8, "affine": 6}
"""By what is sought, how many of the eight parameters move: those of an affine map come first."""
LONGEST_STEP = 0.25
"""Of a corner, in half sides of the square: longer steps are shortened to it."""
LEAST_SHARE = 0.02
"""Part of the pixels that must meet for a step."""


class AligningFeatures(nn.Module):
    """Describes each image by a pyramid of features, and aligns two images by them.

    Sources: Chang et al., CLKN, CVPR 2017; Wang et al., Deep-LK, ICRA 2018; Lv et al., Taking a Deeper Look
    at the Inverse Compositional Algorithm, CVPR 2019.

    Attributes:
        side: of the crops, pixels.
        iterations: at each level, the coarsest first.
    """

    def __init__(self, side: int, widths: Sequence[int], features: int, iterations: Sequence[int]) -> None:
        super().__init__()
        self.side = side
        self.iterations = tuple(iterations)
        before = [FOLD**2, *widths[:-1]]
        self.encoders = nn.ModuleList(
            _build_encoder(a, b, 1 if level == 0 else 2)
            for level, (a, b) in enumerate(zip(before, widths, strict=True))
        )
        compared = list(widths[::-1][: len(iterations)])
        self.laterals = nn.ModuleList(nn.Conv2d(width, features, 1) for width in compared)
        self.mixers = nn.ModuleList(nn.Conv2d(features, features + 1, 3, padding=1) for _ in compared)
        self.damping = nn.Parameter(torch.full((len(compared), 8), -3.0))

    def forward(self, crops: Tensor, valid: Tensor, model: str, start: Tensor | None = None) -> list[Tensor]:
        """Return the maps ``(N, 3, 3)`` after each step, the last one last.

        Args:
            crops: ``(N, 2, side, side)``, fixed and moving.
            valid: of the same shape, 0 or 1.
            model: of :data:`PARAMETERS`.
            start: maps to begin with; None for the identity.
        """
        flat = standardize_locally(crops.flatten(0, 1)[:, None], valid.flatten(0, 1)[:, None], NEIGHBORHOOD)
        described = self._describe(functional.pixel_unshuffle(flat, FOLD))
        with torch.autocast(crops.device.type, enabled=False):
            found = torch.eye(3).expand(len(crops), 3, 3).to(crops) if start is None else start
            steps: list[Tensor] = []
            for level, features in enumerate(described):
                damping = self.damping[level].exp()
                fixed, moving = features.reshape(len(crops), 2, *features.shape[1:]).unbind(dim=1)
                shape = features.shape[-2], features.shape[-1]
                seen = functional.adaptive_avg_pool2d(valid, shape)
                steps += take_steps(
                    (fixed, moving),
                    (seen[:, :1], seen[:, 1:]),
                    found,
                    damping,
                    PARAMETERS[model],
                    self.iterations[level],
                )
                found = steps[-1].detach()
        return steps

    def _describe(self, images: Tensor) -> list[Tensor]:
        """Return features and the logit of their worth, the coarsest level first."""
        sides = []
        for encode in self.encoders:
            images = encode(images)
            sides.append(images)
        described, above = [], None
        for level, side in enumerate(sides[::-1][: len(self.iterations)]):
            here = self.laterals[level](side)
            if above is not None:
                here = here + functional.interpolate(
                    above, scale_factor=2.0, mode="bilinear", align_corners=False
                )
            above = here
            described.append(self.mixers[level](functional.relu(here)).float())
        return described


def build_aligning(side: int, widths: Sequence[int], features: int, iterations: Sequence[int]) -> nn.Module:
    """Build a network that aligns by learned features.

    Args:
        side: of the crops, pixels.
        widths: channels of the encoder at 1/2, 1/4, ... of the resolution.
        features: compared at each level.
        iterations: steps at each level, the coarsest first; levels finer than these only describe.
    """
    return AligningFeatures(side, widths, features, iterations)


def _build_encoder(before: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(
        # Four pixels for two: what they say belongs to the middle of the larger pixel.
        nn.Conv2d(before, after, 2 + stride, stride, 1),
        nn.GroupNorm(GROUPS, after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, 1, 1),
        nn.GroupNorm(GROUPS, after),
        nn.ReLU(),
    )


def take_steps(
    images: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    found: Tensor,
    damping: Tensor,
    parameters: int,
    iterations: int,
) -> Iterator[Tensor]:
    """Yield the maps ``(N, 3, 3)`` after each step, by the slopes of the fixed image, which stay the same.

    Source: Baker and Matthews, Int. J. Computer Vision 56(3):221-255, 2004: inverse-compositional.

    Args:
        images: features ``(N, C + 1, H, W)`` of both, the last one the logit of what a pixel is worth.
        valid: ``(N, 1, H, W)`` of both, 0 to 1.
        found: maps ``(N, 3, 3)`` to begin with.
        damping: ``(8,)``, added to the diagonal of the normal equations, in units of its mean.
        parameters: how many of the eight move, see :data:`PARAMETERS`.
        iterations: how many steps.
    """
    fixed, moving = (part[:, :-1] for part in images)
    worth, worth_there = (part[:, -1:].sigmoid() * seen for part, seen in zip(images, valid, strict=True))
    places = list_pixels((fixed.shape[-2], fixed.shape[-1]), fixed)
    steepest = _steepest(fixed, places)[..., :parameters]
    flat, worth = fixed.flatten(2), worth.flatten(2)
    there = torch.cat([moving, worth_there], dim=1)
    for _ in range(iterations):
        seen = look_up(there, move_points(found, places).expand(len(found), -1, -1))
        weights = worth * seen[:, -1:]
        residual = seen[:, :-1] - flat
        step = _solve(steepest, residual, weights, damping[:parameters])
        found = found @ torch.linalg.inv(_compose_step(step))
        found = found / found[:, 2:, 2:]
        yield found


def _steepest(fixed: Tensor, places: Tensor) -> Tensor:
    """Return how features ``(N, C, H, W)`` change with the parameters: ``(N, C, P, 8)``."""
    rows, columns = fixed.shape[-2:]
    padded = functional.pad(fixed, (1, 1, 1, 1), mode="replicate")
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).flatten(2) * (columns / 4)
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]).flatten(2) * (rows / 4)
    x, y = places.unbind(dim=-1)
    inward = -(along_x * x + along_y * y)
    return torch.stack(
        [
            *(along_x * x, along_x * y, along_x, along_y * x, along_y * y, along_y),
            *(inward * x, inward * y),
        ],
        dim=-1,
    )


def _solve(steepest: Tensor, residual: Tensor, weights: Tensor, damping: Tensor) -> Tensor:
    """Return the damped Gauss-Newton step ``(N, parameters)``; none where too few pixels meet."""
    weighted = steepest * weights[..., None]
    flat, flat_weighted = steepest.flatten(1, 2), weighted.flatten(1, 2)
    normal = flat_weighted.transpose(1, 2) @ flat
    against = flat_weighted.transpose(1, 2) @ residual.flatten(1)[..., None]
    scale = normal.diagonal(dim1=1, dim2=2)
    lifted = normal + torch.diag_embed(damping * scale.mean(dim=1, keepdim=True) + 1e-6)
    step = torch.linalg.solve(lifted, against)[..., 0]
    meets = (weights > 1e-3).float().mean(dim=(1, 2)) > LEAST_SHARE
    return torch.where(meets[:, None], step, torch.zeros_like(step))


def _compose_step(step: Tensor) -> Tensor:
    """Return the maps ``I + step`` ``(N, 3, 3)``, shortened where they move a corner too far."""
    whole = functional.pad(step, (0, 9 - step.shape[1]))
    change = whole.reshape(-1, 3, 3)
    corners = list_corners(step)
    identity = torch.eye(3).to(step)
    # To first order: a long step's own map may fold.
    shift = (corners @ change[:, :2, :2].transpose(1, 2) + change[:, None, :2, 2]) - corners * (
        corners @ change[:, 2, :2, None]
    ).reshape(len(step), -1, 1)
    longest = torch.linalg.vector_norm(shift, dim=-1).amax(dim=1).clamp(min=1e-9)
    return identity + change * (LONGEST_STEP / longest).clamp(max=1.0)[:, None, None]
