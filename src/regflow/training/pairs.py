"""Training pairs, drawn by their number alone: the same number gives the same pair anywhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.core.devices import limit_torch_to_one_thread

DICE_LABELS = 8
"""Labels of a pair that enter the Dice loss: drawn anew for each pair."""


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """Two images that show one thing.

    Attributes:
        fixed: ``(1, *shape)`` float32, 0 to 1.
        moving: of the same shape.
        truth: displacement ``(d, *shape)`` in samples from fixed to moving; None when unknown.
        known: ``(1, *shape)`` weights, where the truth counts; None when unknown.
        fixed_parts: ``(DICE_LABELS, *shape)``: where each of some labels is, 0 or 1; None without.
        moving_parts: the same of the moving image.
        alike: whether both images have the same contrast.
        begun: displacement ``(d, *shape)`` in samples of which is known before the network is asked; None
            for none.
        relaxation: how far a network's velocities are followed, one answer after the other; the last is to
            learn.
    """

    fixed: Tensor
    moving: Tensor
    truth: Tensor | None = None
    known: Tensor | None = None
    fixed_parts: Tensor | None = None
    moving_parts: Tensor | None = None
    alike: bool = False
    begun: Tensor | None = None
    relaxation: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Pairs stacked; what a pair lacks is zero, and its weight is zero.

    Attributes:
        fixed: ``(N, 1, *shape)``.
        moving: ``(N, 1, *shape)``.
        truth: ``(N, d, *shape)``.
        known: ``(N, 1, *shape)``.
        fixed_parts: ``(N, DICE_LABELS, *shape)``.
        moving_parts: ``(N, DICE_LABELS, *shape)``.
        alike: ``(N,)``, 1 where contrasts agree, else 0.
        unlabeled: ``(N,)``, 1 where there is neither truth nor label.
        begun: ``(N, d, *shape)``.
        relaxation: ``(N, T)``, of the answers one after the other; 0 before a pair's first one.
    """

    fixed: Tensor
    moving: Tensor
    truth: Tensor
    known: Tensor
    fixed_parts: Tensor
    moving_parts: Tensor
    alike: Tensor
    unlabeled: Tensor
    begun: Tensor
    relaxation: Tensor

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the batch on a device."""
        return TrainingBatch(*(part.to(device, non_blocking=True) for part in self._parts()))

    def split(self) -> list["TrainingBatch"]:
        """Return a batch of each pair."""
        return [
            TrainingBatch(*parts) for parts in zip(*(part.split(1) for part in self._parts()), strict=True)
        ]

    def _parts(self) -> list[Tensor]:
        return [getattr(self, name) for name in TrainingBatch.__annotations__]


Draw = Callable[[Sequence[int], np.random.Generator], TrainingPair]


@dataclass(frozen=True)
class PairMixture:
    """Sources of pairs, each with its share.

    Attributes:
        sources: name to function that draws a pair of a given shape.
        shares: name to weight; weights need not sum to one.
        shape: of the pairs.
        seed: of the whole training.
    """

    sources: Mapping[str, Draw]
    shares: Mapping[str, float]
    shape: Sequence[int]
    seed: int
    _names: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", sorted(self.sources))

    def pair(self, number: int) -> TrainingPair:
        """Draw pair ``number``; depends on it and on the seed alone."""
        rng = np.random.default_rng([self.seed, number])
        weights = np.array([self.shares[name] for name in self._names])
        name = self._names[int(rng.choice(len(weights), p=weights / weights.sum()))]
        with limit_torch_to_one_thread():
            return self.sources[name](self.shape, rng)

    def batch(self, numbers: Sequence[int]) -> TrainingBatch:
        """Draw several pairs."""
        return collate_pairs([self.pair(number) for number in numbers])


def collate_pairs(pairs: Sequence[TrainingPair]) -> TrainingBatch:
    """Stack pairs of one shape."""
    shape, ndim = pairs[0].fixed.shape[1:], pairs[0].fixed.ndim - 1

    def stack(name: str, channels: int) -> Tensor:
        parts = [getattr(pair, name) for pair in pairs]
        return torch.stack([torch.zeros(channels, *shape) if part is None else part for part in parts])

    turns = max(len(pair.relaxation) for pair in pairs)
    bare = [pair.truth is None and pair.fixed_parts is None for pair in pairs]
    return TrainingBatch(
        stack("fixed", 1),
        stack("moving", 1),
        stack("truth", ndim),
        stack("known", 1),
        stack("fixed_parts", DICE_LABELS),
        stack("moving_parts", DICE_LABELS),
        torch.tensor([float(pair.alike) for pair in pairs]),
        torch.tensor([float(each) for each in bare]),
        stack("begun", ndim),
        torch.tensor([[0.0] * (turns - len(pair.relaxation)) + [*pair.relaxation] for pair in pairs]),
    )


def split_labels(
    fixed: NDArray[np.integer], moving: NDArray[np.integer], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Pick labels that both maps bear, and say where each is: two of ``(DICE_LABELS, *shape)``."""
    common = np.intersect1d(np.unique(fixed), np.unique(moving))
    common = common[common != 0]
    picked = rng.permutation(common)[:DICE_LABELS]
    both = []
    for labels in (fixed, moving):
        parts = np.zeros((DICE_LABELS, *labels.shape), np.float32)
        for number, value in enumerate(picked):
            parts[number] = labels == value
        both.append(torch.from_numpy(parts))
    return both[0], both[1]
