"""Small trained networks of single methods: how each is built, and its file with a description.

The network of VoxelMorph has a description of its own (:mod:`regflow.methods.refine.weights`).
"""

import importlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.core.errors import InputError, RegistrationError
from regflow.methods.weight_files import (
    check_description,
    fill_network,
    find_weight_file,
    read_tensors,
    write_tensors,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

ARCHITECTURES: dict[str, str] = {
    "landmark-network": "regflow.methods.initialize.landmark_network:build_landmark_network",
    "move-values": "regflow.methods.initialize.rigid_moves:build_move_values",
    "stacked-corners": "regflow.methods.initialize.corner_networks:build_stacked",
    "siamese-corners": "regflow.methods.initialize.corner_networks:build_siamese",
    "aligning-features": "regflow.methods.initialize.aligning_features:build_aligning",
    "field-unet": "regflow.methods.refine.field_networks:build_unet",
    "control-points": "regflow.methods.refine.field_networks:build_control_points",
    "momenta": "regflow.methods.refine.momentum_network:build_momentum_pair",
    "mode-values": "regflow.methods.refine.mode_agent:build_mode_agent",
    "patch-descriptor": "regflow.methods.initialize.features.patch_descriptor:build_patch_descriptor",
}
"""By name, ``"package.module:function"`` that builds a network with fresh weights from keyword arguments."""

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["architecture", "arguments"],
    "additionalProperties": False,
    "properties": {
        "architecture": {"type": "string"},
        "arguments": {"type": "object"},
        "notes": {"type": "object"},
    },
}


@dataclass(frozen=True)
class ModelDescription:
    """What must be known to rebuild a network.

    Attributes:
        architecture: name in :data:`ARCHITECTURES`.
        arguments: of the function that builds it.
        notes: title, training data, license: for the report.
    """

    architecture: str
    arguments: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)


def build_model(description: ModelDescription) -> "nn.Module":
    """Return the network with fresh weights from torch's random numbers.

    Raises:
        InputError: its architecture is unknown, or has no such arguments.
    """
    if description.architecture not in ARCHITECTURES:
        raise InputError(f"the architecture '{description.architecture}' is unknown; update regflow")
    module, _, name = ARCHITECTURES[description.architecture].partition(":")
    try:
        network: nn.Module = getattr(importlib.import_module(module), name)(**description.arguments)
    except TypeError as error:
        raise InputError(f"{description.architecture}: {description.arguments} do not build it") from error
    return network


def save_model(path: str | Path, network: "nn.Module", description: ModelDescription) -> None:
    """Write a network with its description, whole or not at all; equal networks give equal bytes."""
    write_tensors(path, network.state_dict(), asdict(description))


def load_model(
    name: str | Path, architecture: str, device: "torch.device | str" = "cpu"
) -> tuple["nn.Module", ModelDescription]:
    """Read what :func:`save_model` wrote, ready to answer.

    Args:
        name: of the file, or of a network in ``resources/weights``.
        architecture: that the method asks for.
        device: to compute on.

    Raises:
        InputError: the file is none of ours, damaged, or describes another network.
        RegistrationError: it is missing, or of another architecture, so that a ladder goes on.
    """
    path = find_weight_file(str(name))
    tensors, description = read_model(path)
    if description.architecture != architecture:
        raise RegistrationError(
            f"{path}: the network is of the architecture '{description.architecture}', not '{architecture}'; "
            "correct the option 'weights'"
        )
    network = build_model(description)
    fill_network(path, network, tensors)
    return network.to(device), description


def require_dimensions(method: str, description: ModelDescription, ndim: int) -> None:
    """Refuse a network for images of other dimensions.

    Raises:
        RegistrationError: it is one; begins with ``method``.
    """
    if description.arguments["ndim"] != ndim:
        raise RegistrationError(
            f"{method}: the network is for images of {description.arguments['ndim']} dimensions, not {ndim}; "
            "correct the option 'weights'"
        )


def is_model(path: str | Path) -> bool:
    """Tell whether a file holds the network of a single method, and not one of VoxelMorph.

    Raises:
        InputError: the file is none of ours, or damaged.
    """
    return "architecture" in read_tensors(path)[1]


def read_model(path: str | Path) -> tuple[dict[str, "torch.Tensor"], ModelDescription]:
    """Read the numbers of a network and its description, and check them, without building it.

    Raises:
        InputError: the file is none of ours, or damaged.
    """
    tensors, content = read_tensors(path)
    check_description(path, content, _SCHEMA)
    return tensors, ModelDescription(**content)
