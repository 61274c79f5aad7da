"""A network's passes over whole pairs of a cohort: what each leaves to the next, and how far it best goes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.methods.refine.network import Network, choose_padding, crop_padding, pad_image
from regflow.methods.refine.velocity_torch import (
    follow_displacement,
    integrate_velocity,
    resize_field,
    sample_channels,
)
from regflow.methods.refine.weights import NetworkDescription
from regflow.training.objective import predict_pair_velocity

FACTORS = (1.0, 1.3, 1.6, 1.9)
"""Relaxations that are tried, besides the one that a pass has."""
MATTERS = 0.01
"""Part of the distance left that another relaxation must save to be better than the one that a pass has:
a few pairs do not tell less."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """A pair at the spacing of a pass, or of several passes in a row.

    Attributes:
        fixed: ``(*shape)``, 0 to 1.
        moving: the same, brought onto the fixed image's grid by the affine transform.
        found: ``(d, *shape)`` float16, from a fixed sample to its partner in ``moving``, samples, as the
            study's stages have it.
        seen: ``(*shape)``, the object.
        inside: indices ``(n, d)`` of some samples of the object.
        spacing: of the samples, world units.
        relaxation: of each of the passes.
        begun: as ``found``, what is known before the first of them.
    """

    fixed: Array
    moving: Array
    found: NDArray[np.float16]
    seen: NDArray[np.bool_]
    inside: NDArray[np.int32]
    spacing: float
    relaxation: tuple[float, ...]
    begun: NDArray[np.float16]


def predict_displacements_before(
    network: Network, description: NetworkDescription, levels: Sequence[AlignedPair]
) -> Iterator[NDArray[np.float16]]:
    """Yield what a network has found of a pair before each level: ``begun`` of it."""
    total: Tensor | None = None
    for number, level in enumerate(levels):
        yield _at(total, level.fixed.shape)[0].numpy().astype(np.float16)
        if number + 1 < len(levels):
            for factor in level.relaxation:
                total = follow_displacement(
                    integrate_velocity(factor * _velocity(network, description, level, total)), total
                )


def measure_best_relaxation(
    network: Network, description: NetworkDescription, pairs: Sequence[Sequence[AlignedPair]]
) -> tuple[tuple[float, ...], float]:
    """Measure on pairs how far each pass of a network is to go, one after the other.

    The best of a pass is what lets the next one, going as far as is best for that, come nearest; the one
    that it has stays where that is not nearer by ``MATTERS``.

    Args:
        network: a trained network.
        description: how it is used; its own relaxation stays for passes that no pair is fine enough for.
        pairs: each level by level, as all passes meet it or the first of them.

    Returns:
        A relaxation for every pass, and the mean distance to ``found`` that the last one leaves, world
        units.
    """
    ways = [PassProgress([level for level in pair for _ in level.relaxation]) for pair in pairs]
    ways = [way.predict(network, description) for way in ways]
    relaxation = []
    for turn, (_, given) in enumerate(description.cascade):
        best = given
        if any(turn < len(way.levels) for way in ways):
            tried = {
                factor: [way.follow(factor).predict(network, description) for way in ways]
                for factor in {given: None, **dict.fromkeys(FACTORS)}
            }
            left = {factor: _reached(after) for factor, after in tried.items()}
            nearest = min(left, key=lambda factor: left[factor])
            best = nearest if left[nearest] < (1 - MATTERS) * left[given] else given
            ways = tried[best]
        relaxation.append(best)
    return tuple(relaxation), float(np.mean([way.measure_distance() for way in ways]))


@dataclass(frozen=True, eq=False)
class PassProgress:
    """How far a network has come with a pair.

    Attributes:
        levels: of each pass.
        turn: passes that are done.
        total: displacement ``(1, d, *)`` found so far, on the grid of the last pass's velocity.
        velocity: of the pass under way.
    """

    levels: Sequence[AlignedPair]
    turn: int = 0
    total: Tensor | None = None
    velocity: Tensor | None = None

    def predict(self, network: Network, description: NetworkDescription) -> "PassProgress":
        """Ask the network in the next pass; where there is none, nothing changes."""
        if self.turn == len(self.levels):
            return self
        velocity = _velocity(network, description, self.levels[self.turn], self.total)
        return replace(self, turn=self.turn + 1, velocity=velocity)

    def follow(self, factor: float) -> "PassProgress":
        """Follow what the network answered, so many times."""
        if self.velocity is None:
            return self
        return replace(
            self,
            total=follow_displacement(integrate_velocity(factor * self.velocity), self.total),
            velocity=None,
        )

    def measure_distance(self) -> float:
        """Return the mean distance to what the study found, world units."""
        assert self.total is not None
        level = self.levels[self.turn - 1]
        shrink = level.fixed.shape[0] // self.total.shape[2]
        found = resize_field(torch.from_numpy(level.found.astype(np.float32))[None], self.total.shape[2:])
        at = tuple(torch.from_numpy(level.inside // shrink).long().T)
        return float(shrink * level.spacing * (self.total - found)[0][:, *at].norm(dim=0).mean())


def _reached(ways: Sequence[PassProgress]) -> float:
    """Return the sum of distances that the pass under way leaves, going as far as is best."""
    return min(sum(way.follow(factor).measure_distance() for way in ways) for factor in FACTORS)


def _velocity(
    network: Network, description: NetworkDescription, level: AlignedPair, total: Tensor | None
) -> Tensor:
    """Ask about the whole of a pair, continued to a size that the network takes."""
    fixed, moving = (torch.from_numpy(image)[None, None] for image in (level.fixed, level.moving))
    moving = sample_channels(moving, _at(total, level.fixed.shape))
    padding = choose_padding(level.fixed.shape, description)
    with torch.inference_mode():
        velocity = predict_pair_velocity(
            network, description, pad_image(fixed, padding), pad_image(moving, padding)
        )
    return crop_padding(velocity, padding, description)


def _at(total: Tensor | None, shape: Sequence[int]) -> Tensor:
    """Return a displacement on a grid of the same extent."""
    return torch.zeros(1, len(shape), *shape) if total is None else resize_field(total, shape)
