"""Several processes that train one network, a GPU each, as ``torchrun`` starts them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from regflow.core.errors import InputError


@dataclass(frozen=True)
class TrainingProcesses:
    """This process among those of a training.

    Attributes:
        rank: its number.
        count: of processes.
        device: the one that is its own; None when it may choose.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | None = None

    @classmethod
    @contextmanager
    def join(cls, wanted: str) -> Iterator["TrainingProcesses"]:
        """Join the processes that ``torchrun`` announces in the environment; alone without it."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            yield cls()
            return
        on_gpu = wanted != "cpu" and torch.cuda.is_available()
        local = int(os.environ["LOCAL_RANK"])
        if on_gpu:
            torch.cuda.set_device(local)
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        try:
            yield cls(
                distributed.get_rank(), count, torch.device("cuda", local) if on_gpu else torch.device("cpu")
            )
        finally:
            distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    def select_share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return this process's share of a batch's pairs.

        Raises:
            InputError: the batch cannot be divided equally.
        """
        if len(numbers) % self.count:
            raise InputError(
                f"train: batch: {len(numbers)} pairs cannot be divided among {self.count} processes; "
                "give a multiple"
            )
        return numbers[self.rank :: self.count]

    def average_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients by their means over the processes."""
        if self.count == 1:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def average_figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the means of figures over the processes, all of which must give the same names."""
        if self.count == 1:
            return dict(figures)
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device)
        distributed.all_reduce(values)
        return dict(zip(figures, (values / self.count).tolist(), strict=True))

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.count > 1:
            distributed.barrier()
