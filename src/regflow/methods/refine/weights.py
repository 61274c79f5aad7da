"""The network of VoxelMorph: its description, and the file that carries both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regflow.core.errors import InputError
from regflow.methods.matching.matching_torch import count_evidence_channels
from regflow.methods.weight_files import check_description, fill_network, read_tensors, write_tensors

if TYPE_CHECKING:
    from monai.networks.nets import VoxelMorphUNet

_CHANNELS = {"type": "array", "items": {"type": "integer", "minimum": 1}}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["ndim", "channels", "unet_out_channels", "final_channels", "spacing", "intensity"],
    "additionalProperties": False,
    "properties": {
        "ndim": {"enum": [2, 3]},
        "channels": {**_CHANNELS, "minItems": 2},
        "unet_out_channels": {"type": "integer", "minimum": 1},
        "final_channels": _CHANNELS,
        "spacing": {"type": "number", "exclusiveMinimum": 0},
        "intensity": {"type": "object", "required": ["method"]},
        "masked": {"type": "boolean"},
        "half_resolution": {"type": "boolean"},
        "fold": {"type": "integer", "minimum": 1},
        "search": {"type": "integer", "minimum": 0},
        "fine_search": {"type": "integer", "minimum": 0},
        "passes": {"type": "array", "minItems": 1, "items": {"type": "number", "exclusiveMinimum": 0}},
        "relaxation": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}},
        "notes": {"type": "object"},
    },
}


@dataclass(frozen=True)
class NetworkDescription:
    """What must be known to rebuild a network and to feed it as in its training.

    Attributes:
        ndim: 2 or 3.
        channels: of MONAI's VoxelMorphUNet, a pair (down, up) per level.
        unet_out_channels: channels between the U-Net and the final convolutions.
        final_channels: of the final convolutions.
        spacing: of its training images, world units.
        intensity: ``method`` of the preprocess stage's intensity table, and its options.
        masked: whether images were zero outside their masks.
        half_resolution: whether the answer is averaged to half resolution before integration.
        fold: how many samples along each axis are laid side by side as channels: the network then
            computes, and answers, on a grid that much coarser, and sees every sample.
        search: samples of the coarser grid around each that are compared beforehand, along each axis,
            for the network to see which fits best; 0 for none.
        fine_search: the same for samples of the images; their costs are averaged over those of a block.
        passes: how much coarser than ``spacing`` the images are in each pass, coarsest first; every
            pass sees the moving image as the passes before have moved it. One below 1 is finer than
            the network was trained on, and only for images that are as fine.
        relaxation: how far each pass goes, times the velocity that the network answers; empty for 1. A
            network that was trained on what is uncertain answers too little, and more than 1
            (over-relaxation) makes up for it.
        notes: title, training data, license: for the report.
    """

    ndim: int
    channels: tuple[int, ...]
    unet_out_channels: int
    final_channels: tuple[int, ...]
    spacing: float
    intensity: dict[str, Any]
    masked: bool = False
    half_resolution: bool = True
    fold: int = 1
    search: int = 0
    fine_search: int = 0
    passes: tuple[float, ...] = (1.0,)
    relaxation: tuple[float, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def multiple(self) -> int:
        """What the number of samples along each axis must be a multiple of."""
        return int(self.fold * 2 ** (len(self.channels) // 2))

    @property
    def in_channels(self) -> int:
        """Channels that the network sees."""
        comparisons = (self.search > 0) + (self.fine_search > 0)
        return 2 * self.fold**self.ndim + comparisons * count_evidence_channels(self.ndim)

    @property
    def cascade(self) -> tuple[tuple[float, float], ...]:
        """Each pass and its relaxation."""
        return tuple(zip(self.passes, self.relaxation or (1.0,) * len(self.passes), strict=True))

    @property
    def shrink(self) -> int:
        """How much coarser than the images the network's velocity is."""
        return self.fold * (2 if self.half_resolution else 1)


def build_network(description: NetworkDescription) -> "VoxelMorphUNet":
    """Return the network with fresh weights from torch's random numbers."""
    from monai.networks.nets import VoxelMorphUNet

    return VoxelMorphUNet(
        spatial_dims=description.ndim,
        in_channels=description.in_channels,
        unet_out_channels=description.unet_out_channels,
        channels=description.channels,
        final_conv_channels=description.final_channels,
    )


def save_weights(path: str | Path, network: nn.Module, description: NetworkDescription) -> None:
    """Write a network with its description, whole or not at all; equal networks give equal bytes."""
    write_tensors(path, network.state_dict(), asdict(description))


def load_network(path: str | Path, device: torch.device) -> tuple["VoxelMorphUNet", NetworkDescription]:
    """Read what :func:`save_weights` wrote, ready to answer.

    Raises:
        InputError: the file is none of ours, damaged, or describes another network.
    """
    tensors, description = read_weights(path)
    network = build_network(description)
    fill_network(path, network, tensors)
    return use_channels_last(network.to(device)), description


def use_channels_last(network: "VoxelMorphUNet") -> "VoxelMorphUNet":
    """Lay a network's kernels out in memory with the channels last: convolutions take half the time."""
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        elif parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], NetworkDescription]:
    """Read the numbers of a network and its description, and check them, without building it.

    Raises:
        InputError: the file is none of ours, or damaged.
    """
    tensors, content = read_tensors(path)
    return tensors, _description(Path(path), content)


def _description(path: Path, content: Any) -> NetworkDescription:
    check_description(path, content, _SCHEMA)
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    description = NetworkDescription(**{**content, **lists})
    check_relaxation(description.passes, description.relaxation, str(path))
    return description


def choose_passes(passes: Sequence[float], spacing: float, own: float) -> tuple[float, ...]:
    """Return the passes for images whose finest spacing is ``own``.

    One finer than the network's ``spacing`` is for images that are as fine; none follows one left out.
    """
    return tuple(takewhile(lambda shrink: shrink >= 1 or shrink * spacing >= own, passes))


def check_relaxation(passes: Sequence[float], relaxation: Sequence[float], where: str) -> None:
    """Check that there is a relaxation for every pass, or none at all.

    Raises:
        InputError: neither; begins with ``where``.
    """
    if relaxation and len(relaxation) != len(passes):
        raise InputError(
            f"{where}: relaxation: {len(relaxation)} numbers for {len(passes)} passes; give one for each "
            "pass, or none"
        )
