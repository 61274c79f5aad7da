"""A training's state on disk: safetensors, written whole, from which it goes on exactly."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regflow.core.errors import InputError
from regflow.core.files import write_whole

KEY = "regflow-training"


@dataclass(eq=False)
class TrainingState:
    """All that a training is.

    Attributes:
        network: in training.
        average: name to moving average of each weight.
        adam: the optimizer, over ``network.parameters()``.
        step: steps done.
        seconds: of computing so far.
        history: rows of figures, one per validation.
    """

    network: nn.Module
    average: dict[str, Tensor]
    adam: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def save_state(path: Path, state: TrainingState, settings: Mapping[str, Any]) -> None:
    """Write a checkpoint; one that is being written never stands in a good one's place."""
    from safetensors.torch import save

    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in state.average.items()}
    for number, parameter in enumerate(state.adam.param_groups[0]["params"]):
        for name, value in state.adam.state.get(parameter, {}).items():
            tensors[f"adam.{number}.{name}"] = value
    header = {
        "step": state.step,
        "seconds": state.seconds,
        "history": state.history,
        "settings": dict(settings),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        part.write_bytes(save(contiguous, metadata={KEY: json.dumps(header, sort_keys=True)}))


def load_state(path: Path, state: TrainingState, settings: Mapping[str, Any]) -> None:
    """Bring a state to where :func:`save_state` left it.

    Raises:
        InputError: the file is no checkpoint, or of a training with other settings.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as store:
            header = json.loads((store.metadata() or {})[KEY])
            tensors = {name: store.get_tensor(name) for name in store.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a checkpoint of a training; remove it to start anew") from error
    changed = [key for key, value in settings.items() if header["settings"].get(key) != value]
    if changed:
        raise InputError(
            f"{path}: the checkpoint was made with another '{changed[0]}'; "
            "remove it to start anew, or restore the setting"
        )
    state.network.load_state_dict(_under("network.", tensors))
    device = next(state.network.parameters()).device
    state.average = {name: value.to(device) for name, value in _under("average.", tensors).items()}
    for number, parameter in enumerate(state.adam.param_groups[0]["params"]):
        found = _under(f"adam.{number}.", tensors)
        if found:
            state.adam.state[parameter] = {
                name: value if name == "step" else value.to(device) for name, value in found.items()
            }
    state.step, state.seconds, state.history = header["step"], header["seconds"], header["history"]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
