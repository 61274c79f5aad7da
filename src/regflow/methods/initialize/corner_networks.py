"""Networks that tell from two square crops where the corners of the first lie in the second."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from regflow.methods.initialize.plane_maps_torch import fit_affine_shifts, standardize_locally

FOLD = 2
"""Pixels along each axis that become channels: next to nothing is lost, and much time is saved."""
GROUPS = 4
SHRINK = 16
"""Pixels along each axis that share one of the last features."""
NEIGHBORHOOD = 12
"""Pixels either way whose brightness and contrast are taken away."""


class StackedCorners(nn.Module):
    """Sees both crops at once, and answers with the shifts of four corners.

    Source: DeTone et al., Deep Image Homography Estimation, arXiv:1606.03798, 2016, at a reduced scale.
    """

    def __init__(self, side: int, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.side = side
        self.encoder = _build_encoder(2 * FOLD**2, widths)
        self.head = _build_head(widths[-1] * (side // SHRINK) ** 2, hidden, 8)

    def forward(self, crops: Tensor, valid: Tensor) -> Tensor:
        """Return the shifts ``(N, 4, 2)`` of the corners, in normalized coordinates.

        Args:
            crops: ``(N, 2, side, side)``, fixed and moving.
            valid: of the same shape, 0 or 1.
        """
        seen = functional.pixel_unshuffle(_standardize(crops, valid), FOLD)
        return self.head(self.encoder(seen).flatten(1)).float().reshape(-1, 4, 2)


class TwinCorners(nn.Module):
    """Encodes each crop by itself with the same weights, and answers with an affine map or a box.

    Source: Held et al., Learning to Track at 100 FPS with Deep Regression Networks, ECCV 2016, at a reduced
    scale.
    """

    def __init__(self, side: int, widths: Sequence[int], hidden: int, answer: str) -> None:
        super().__init__()
        self.side = side
        self.answer = answer
        self.encoder = _build_encoder(FOLD**2, widths)
        self.head = _build_head(2 * widths[-1] * (side // SHRINK) ** 2, hidden, 8)

    def forward(self, crops: Tensor, valid: Tensor) -> Tensor:
        """Return the shifts ``(N, 4, 2)`` of the corners by the answer; see :class:`StackedCorners`."""
        seen = functional.pixel_unshuffle(_standardize(crops, valid).flatten(0, 1)[:, None], FOLD)
        shifts = self.head(self.encoder(seen).reshape(len(crops), -1)).float().reshape(-1, 4, 2)
        return fit_affine_shifts(shifts) if self.answer == "affine" else _fit_box_shifts(shifts)


def build_stacked(side: int, widths: Sequence[int], hidden: int) -> nn.Module:
    """Build a network that sees both crops at once."""
    return StackedCorners(side, widths, hidden)


def build_twin(side: int, widths: Sequence[int], hidden: int, answer: str) -> nn.Module:
    """Build a network of two encoders of the same weights.

    Args:
        side: of the crops, pixels.
        widths: channels at 1/4, 1/8 and 1/16 of the resolution, and of the last features.
        hidden: numbers between the features and the answer.
        answer: ``affine`` or ``box``.
    """
    return TwinCorners(side, widths, hidden, answer)


def _build_encoder(channels: int, widths: Sequence[int]) -> nn.Module:
    first, second, third, last = widths
    return nn.Sequential(
        *_block(channels, first, 5, 2),
        *_block(first, first, 3, 1),
        *_block(first, second, 3, 2),
        *_block(second, second, 3, 1),
        *_block(second, third, 3, 2),
        *_block(third, last, 3, 1),
    )


def _block(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, kernel, stride, kernel // 2),
        nn.GroupNorm(GROUPS, after),
        nn.ReLU(),
    ]


def _build_head(features: int, hidden: int, numbers: int) -> nn.Module:
    last = nn.Linear(hidden, numbers)
    # Begins near the answer "nothing moved".
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), last)


def _standardize(crops: Tensor, valid: Tensor) -> Tensor:
    flat = standardize_locally(crops.flatten(0, 1)[:, None], valid.flatten(0, 1)[:, None], NEIGHBORHOOD)
    return flat.reshape(crops.shape)


def _fit_box_shifts(shifts: Tensor) -> Tensor:
    """Return the shifts by the shift and the two factors of size that fit best."""
    middle = shifts.mean(dim=1, keepdim=True)
    sides = torch.tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]], dtype=shifts.dtype, device=shifts.device)
    return middle + sides * (sides * shifts).mean(dim=1, keepdim=True)
