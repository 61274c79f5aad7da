"""Networks of one architecture that describe small square patches by numbers of unit length."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

FOLD = 2
"""Pixels along each axis that become channels: little is lost, and much time is saved."""
GROUPS = 4
SHRINK = 8
"""Pixels along each axis that share one of the last features."""
FAINTEST = 1e-4
"""Standard deviation below which a patch shows nothing."""


class PatchDescriptor(nn.Module):
    """Describes a patch by the branch of its kind: all branches answer in one space.

    Source: the layers are those of HardNet (Mishchuk et al., NeurIPS 2017) at a reduced scale.

    Attributes:
        side: of a patch, pixels.
    """

    def __init__(self, side: int, widths: Sequence[int], numbers: int, branches: Sequence[str]) -> None:
        super().__init__()
        self.side = side
        self.branches = nn.ModuleDict({name: _build_branch(side, widths, numbers) for name in branches})

    def forward(self, patches: Tensor, branch: str) -> Tensor:
        """Return descriptors ``(N, numbers)`` of unit length.

        Args:
            patches: ``(N, side, side)``, of any brightness and contrast.
            branch: that describes them.
        """
        flat = patches - patches.mean(dim=(1, 2), keepdim=True)
        spread = flat.square().mean(dim=(1, 2), keepdim=True).sqrt()
        seen = functional.pixel_unshuffle((flat / (spread + FAINTEST))[:, None], FOLD)
        return functional.normalize(self.branches[branch](seen).float(), dim=1)


def build_patch_descriptor(
    side: int, widths: Sequence[int], numbers: int, branches: Sequence[str]
) -> PatchDescriptor:
    """Build a network that describes patches.

    Args:
        side: of a patch, pixels, a multiple of 8.
        widths: channels at 1/2, 1/4 and 1/8 of the resolution.
        numbers: of a descriptor.
        branches: names of the networks, each for patches of one kind.
    """
    return PatchDescriptor(side, widths, numbers, branches)


def _build_branch(side: int, widths: Sequence[int], numbers: int) -> nn.Module:
    first, second, third = widths
    return nn.Sequential(
        *_block(FOLD**2, first, 1),
        *_block(first, first, 1),
        *_block(first, second, 2),
        *_block(second, second, 1),
        *_block(second, third, 2),
        nn.Flatten(),
        nn.Linear(third * (side // SHRINK) ** 2, numbers),
    )


def _block(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(GROUPS, after), nn.ReLU()]
