"""What training lowers: distance to the truth, label overlap, similarity, roughness."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regflow.core.devices import map_over_threads
from regflow.methods.matching.matching_torch import join_batches
from regflow.methods.refine import losses_torch as losses
from regflow.methods.refine.network import Network, NetworkInput, predict_velocity, prepare_input, stack_input
from regflow.methods.refine.velocity_torch import (
    compose_velocities,
    integrate_velocity,
    resize_field,
    sample_channels,
)
from regflow.methods.refine.weights import NetworkDescription
from regflow.training.pairs import TrainingBatch

SOFT_LENGTH = 0.05
"""Distances below this, samples, enter as squares: the gradient at the truth is none."""


@dataclass(frozen=True, eq=False)
class BatchPrediction:
    """A network's answer for a batch.

    Attributes:
        velocity: ``(N, d, *coarse)`` in samples of its own grid, as far as it is followed.
        displacement: ``(N, d, *shape)`` in samples of the images.
    """

    velocity: Tensor
    displacement: Tensor


@dataclass(frozen=True, eq=False)
class BatchInput:
    """The last answer that a batch asks for, the one that learns.

    Attributes:
        shown: ``(N, 2, C, *coarse)``, what the network is shown of each pair, in both orders.
        begun: displacement ``(N, d, *shape)`` in samples that is known before.
        factor: ``(N, 1, ...)``, how far the answer is followed.
    """

    shown: Tensor
    begun: Tensor
    factor: Tensor

    def split(self) -> list["BatchInput"]:
        """Return each pair's own."""
        parts = (part.split(1) for part in (self.shown, self.begun, self.factor))
        return [BatchInput(*own) for own in zip(*parts, strict=True)]


def prepare_batch(network: Network, description: NetworkDescription, batch: TrainingBatch) -> BatchInput:
    """Let the network answer for both orders of every pair, but for the last time it is to.

    Of several answers one after the other the last one alone learns: what it sees is what those before
    it leave over, as in a network's later passes.
    """
    before, factor = _before_last(network, description, batch)
    with torch.no_grad():
        seen = stack_both_orders(description, batch.fixed, _moved(batch, before))
    return BatchInput(seen, before, factor)


def predict_batch(network: Network, description: NetworkDescription, asked: BatchInput) -> BatchPrediction:
    """Let the network give the last answer."""
    velocity = asked.factor * _antisymmetric(network, description, asked.shown)
    return BatchPrediction(velocity, _step(velocity, asked.begun))


def predict_all(network: Network, description: NetworkDescription, batch: TrainingBatch) -> BatchPrediction:
    """Let the network answer for both orders of every pair, as often as ``batch.relaxation`` says.

    Nothing learns from it.
    """
    before, factor = _before_last(network, description, batch)
    with torch.no_grad():
        velocity = factor * predict_pair_velocity(network, description, batch.fixed, _moved(batch, before))
        return BatchPrediction(velocity, _step(velocity, before))


def _before_last(
    network: Network, description: NetworkDescription, batch: TrainingBatch
) -> tuple[Tensor, Tensor]:
    """Return the displacement before the last answer, and how far that is followed."""
    factors = batch.relaxation.view(*batch.relaxation.shape, *[1] * (batch.fixed.ndim - 1)).unbind(dim=1)
    before = batch.begun
    with torch.no_grad():
        for factor in factors[:-1]:
            velocity = predict_pair_velocity(network, description, batch.fixed, _moved(batch, before))
            before = _step(factor * velocity, before)
    return before, factors[-1]


def predict_pair_velocity(
    network: Network, description: NetworkDescription, fixed: Tensor, moving: Tensor
) -> Tensor:
    """Return the velocity of pairs ``(N, 1, *shape)``, of which nothing learns.

    The average of both orders is antisymmetric. On a CPU pairs are asked about one by one, as many at a
    time as there are threads.
    """
    seen = stack_both_orders(description, fixed, moving)

    def one(pair: Tensor) -> Tensor:
        with torch.no_grad():
            return _antisymmetric(network, description, pair)

    return one(seen) if seen.is_cuda else join_batches(map_over_threads(one, seen.split(1)))


def stack_both_orders(description: NetworkDescription, fixed: Tensor, moving: Tensor) -> Tensor:
    """Return what the network is shown of pairs ``(N, 1, *shape)``: ``(N, 2, C, *coarse)``."""
    seen = prepare_input(description, torch.cat([fixed, moving]))
    there, back = stack_input(description, seen, _swapped(seen)).chunk(2)
    return torch.stack([there, back], dim=1)


def _antisymmetric(network: Network, description: NetworkDescription, seen: Tensor) -> Tensor:
    velocity = predict_velocity(network, description, seen.flatten(0, 1))
    there, back = velocity.unflatten(0, (len(seen), 2)).unbind(dim=1)
    return (there - back) / 2


def _moved(batch: TrainingBatch, before: Tensor) -> Tensor:
    """Return the moving images as what is known before moves them."""
    return sample_channels(batch.moving, before) if before.any() else batch.moving


def _step(velocity: Tensor, before: Tensor) -> Tensor:
    """Return the displacement of following a velocity, then what is known before."""
    return compose_velocities(resize_field(integrate_velocity(velocity), before.shape[2:]), before)


def _swapped(seen: NetworkInput) -> NetworkInput:
    """Let the second half change places with the first."""
    half = len(seen.samples) // 2
    described = tuple(each.roll(half, dims=0) for each in seen.descriptors)
    return NetworkInput(seen.samples.roll(half, dims=0), described)


def compute_objective(
    answered: BatchPrediction, batch: TrainingBatch, weights: Mapping[str, Any]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, and its terms by name, detached.

    Args:
        answered: of :func:`predict_batch`, for all of the batch.
        batch: what it answers.
        weights: ``truth``, ``dice``, ``similarity``, ``roughness``: weight of each term.
    """
    ndim = batch.fixed.ndim - 2
    terms = {
        "truth": measure_end_point_errors(answered.displacement, batch.truth, batch.known).mean(),
        "roughness": losses.compute_diffusion(answered.velocity, [1.0] * ndim),
    }
    if weights["dice"]:
        terms["dice"] = _mismatch(answered.displacement, batch)
    if weights["similarity"]:
        terms["similarity"] = _dissimilarity(answered.displacement, batch)
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def measure_end_point_errors(displacement: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return each pair's mean distance to the truth, samples, where ``known`` weighs it: ``(N,)``.

    A pair of which nothing is known gives 0.
    """
    squared = (displacement - truth).square().sum(dim=1, keepdim=True)
    distance = (squared + SOFT_LENGTH**2).sqrt() - SOFT_LENGTH
    return (distance * known).flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp(min=1)


def _mismatch(displacement: Tensor, batch: TrainingBatch) -> Tensor:
    """One minus the overlap of labels, a mean over pairs; one without labels gives 0.

    Like every term it is a mean over pairs, so that processes that share a batch out come to its
    loss by averaging theirs.
    """
    has_labels = batch.fixed_parts.flatten(1).any(dim=1)
    if not bool(has_labels.any()):
        return displacement.new_zeros(())
    warped = sample_channels(batch.moving_parts[has_labels], displacement[has_labels])
    parts = batch.fixed_parts[has_labels]
    each = [losses.compute_label_overlap(parts[k : k + 1], warped[k : k + 1]) for k in range(len(parts))]
    return torch.stack(each).sum() / len(displacement)


def _dissimilarity(displacement: Tensor, batch: TrainingBatch) -> Tensor:
    """Local correlation where contrasts agree, descriptors where nothing is known of the pair."""
    total = displacement.new_zeros(())
    for chosen, loss in (
        (batch.alike * (1 - batch.unlabeled) > 0, losses.compute_local_correlation),
        (batch.unlabeled > 0, losses.compute_mind_difference),
    ):
        if bool(chosen.any()):
            warped = sample_channels(batch.moving[chosen], displacement[chosen])
            total = total + loss(batch.fixed[chosen], warped) * chosen.float().mean()
    return total
