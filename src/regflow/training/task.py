"""What a training learns: a network, examples, and what is to become less, for the one training loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, device, nn

from regflow.methods.learned_models import ModelDescription, build_model, save_model

MOST_BYTES = 20_000_000
"""Of a network's file: what can be kept in a repository and sent around."""

AskNetwork = Callable[..., Any]
"""A network in training; what it is called with is the task's own."""
Sums = dict[str, tuple[float, int]]
"""By figure, its sum over examples and how many there are."""


class Batch(Protocol):
    """Examples stacked."""

    def to(self, where: device) -> "Batch":
        """Return the batch on a device."""
        ...


class Examples(Protocol):
    """What examples are drawn from, alike in every process: an example depends on its number alone."""

    def batch(self, numbers: Sequence[int]) -> Any:
        """Draw several examples, stacked."""
        ...


class Description(Protocol):
    """What a network's file says of it: a dataclass with ``notes``."""

    @property
    def notes(self) -> dict[str, Any]:
        """Title, training data, license."""
        ...


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """What a training learns.

    Attributes:
        description: of the network, without notes.
        build: returns the network to begin with; its fresh weights come from torch's random numbers.
        examples: what it learns from.
        prepare: of the network and a batch, the parts that learn each by itself: their number does not
            depend on the machine.
        compute_loss: of the network and a part, the loss and its terms by name, detached.
        measure: of the network and a batch of the validation, figures of it.
        show: of the network and a batch of the validation, images of the first example, 0 to 1, to lay side
            by side; they may be none.
        choose: of the trained network, what is kept in the end: a network and its description.
        save: writes a network with its description to a file.
    """

    description: Any
    build: Callable[[], nn.Module]
    examples: Examples
    prepare: Callable[[AskNetwork, Any], Sequence[Any]]
    compute_loss: Callable[[AskNetwork, Any], tuple[Tensor, dict[str, Tensor]]]
    measure: Callable[[AskNetwork, Any], Sums]
    show: Callable[[AskNetwork, Any], Sequence[NDArray[np.float32]]]
    choose: Callable[[nn.Module], tuple[nn.Module, Any]]
    save: Callable[[Path, nn.Module, Any], None]


@dataclass(frozen=True, eq=False)
class TensorBatch:
    """Examples of named tensors.

    Attributes:
        parts: name to tensor; the first axis counts the examples.
    """

    parts: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.parts[name]

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def to(self, where: device) -> "TensorBatch":
        """Return the batch on a device."""
        return TensorBatch({name: part.to(where, non_blocking=True) for name, part in self.parts.items()})

    def split(self, count: int) -> list["TensorBatch"]:
        """Return batches of ``count`` examples, the last one of what is left."""
        each = zip(*(part.split(count) for part in self.parts.values()), strict=True)
        return [TensorBatch(dict(zip(self.parts, parts, strict=True))) for parts in each]


@dataclass(frozen=True, eq=False)
class DrawnExamples:
    """Examples of named tensors, drawn by their number alone.

    Attributes:
        draw: of random numbers, an example: name to tensor.
        seed: of the whole training.
    """

    draw: Callable[[np.random.Generator], Mapping[str, Tensor]]
    seed: int

    def batch(self, numbers: Sequence[int]) -> TensorBatch:
        """Draw several examples, stacked."""
        import torch

        from regflow.core.devices import limit_torch_to_one_thread

        with limit_torch_to_one_thread():
            drawn = [self.draw(np.random.default_rng([self.seed, number])) for number in numbers]
        return TensorBatch({name: torch.stack([each[name] for each in drawn]) for name in drawn[0]})


def make_model_task(
    *,
    description: ModelDescription,
    examples: Examples,
    prepare: Callable[[AskNetwork, Any], Sequence[Any]],
    compute_loss: Callable[[AskNetwork, Any], tuple[Tensor, dict[str, Tensor]]],
    measure: Callable[[AskNetwork, Any], Sums],
    show: Callable[[AskNetwork, Any], Sequence[NDArray[np.float32]]],
) -> TrainingTask:
    """Return the task of the small network of a method: what is trained is kept.

    Args:
        description: of the network, without notes.
        examples: see :class:`TrainingTask`, as for all others.
        prepare: a batch's parts.
        compute_loss: of a part.
        measure: of a batch of the validation.
        show: of its first example.
    """
    return TrainingTask(
        description=description,
        build=partial(build_model, description),
        examples=examples,
        prepare=prepare,
        compute_loss=compute_loss,
        measure=measure,
        show=show,
        choose=lambda trained: (trained, description),
        save=save_model,
    )
