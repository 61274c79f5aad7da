"""Trained networks as files: safetensors that carry their own description and checksum.

Such a file holds numbers and text only; nothing in it is executed, and pickles are refused.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import write_whole
from regflow.core.resources import find_resources

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIX = ".safetensors"
WEIGHTS_FOLDER = find_resources() / "weights"
HEADER = "regflow"
FORMAT = 1


def find_weight_file(name: str) -> Path:
    """Return the file of a network, given its path or its name in ``resources/weights``.

    Raises:
        RegistrationError: the file is missing, so that a ladder goes on.
    """
    candidates = [Path(name), WEIGHTS_FOLDER / name, WEIGHTS_FOLDER / f"{name}{SUFFIX}"]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise RegistrationError(
            f"the network '{name}' is neither a file nor in resources/weights; "
            "correct the option 'weights' or put the file there"
        )
    return found


def choose_weights(named: str | None, recipe: str) -> str:
    """Return the network to ask: the one that is named, else the one that came along, made by its recipe.

    Raises:
        RegistrationError: none is named and none came along.
    """
    if named is None and not (WEIGHTS_FOLDER / f"{recipe}{SUFFIX}").is_file():
        raise RegistrationError(
            f"no network of this method comes along; make one (regflow train --recipe {recipe}) and name its "
            "file in the option 'weights'"
        )
    return named or recipe


def write_tensors(path: str | Path, tensors: Mapping[str, "Tensor"], description: Mapping[str, Any]) -> None:
    """Write numbers and what they are, whole or not at all; equal ones give equal bytes."""
    from safetensors.torch import save

    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {"format": FORMAT, "sha256": _checksum(contiguous), "description": dict(description)}
    with write_whole(path) as part:
        # One key of metadata only: safetensors writes several in an order that changes.
        content = save(contiguous, metadata={HEADER: json.dumps(header, sort_keys=True)})
        # save_file would let nobody but the owner read it, whatever the umask.
        part.write_bytes(content)


def read_tensors(path: str | Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote, and check it.

    Raises:
        InputError: the file is none of ours, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="pt") as store:
            header = json.loads((store.metadata() or {})[HEADER])
            tensors = {name: store.get_tensor(name) for name in store.keys()}  # noqa: SIM118
        known, expected, content = header["format"], header["sha256"], header["description"]
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path}: not a network written by regflow; give the {SUFFIX} file that its training wrote"
        ) from error
    if known != FORMAT:
        raise InputError(f"{path}: format {known} of networks is unknown; update regflow")
    if _checksum(tensors) != expected:
        raise InputError(f"{path}: the network is damaged (its checksum differs); copy the file again")
    return tensors, content


def fill_network(path: str | Path, network: "nn.Module", tensors: Mapping[str, "Tensor"]) -> None:
    """Give a network the numbers of its file, ready to answer on the CPU.

    Raises:
        InputError: they do not fit it.
    """
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise InputError(f"{path}: the weights do not fit the network that their header describes") from error
    network.requires_grad_(False).eval()


def check_description(path: str | Path, content: Any, schema: Mapping[str, Any]) -> None:
    """Check what a file says of its network.

    Raises:
        InputError: it does not follow the JSON schema.
    """
    import jsonschema

    try:
        jsonschema.validate(content, schema)
    except jsonschema.ValidationError as error:
        raise InputError(
            f"{path}: the network's description is wrong at {error.json_path}: {error.message}"
        ) from error


def _checksum(tensors: Mapping[str, "Tensor"]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
