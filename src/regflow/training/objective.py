"""What training lowers: distance to the truth, label overlap, similarity, roughness."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regflow.methods.refine import losses_torch as losses
from regflow.methods.refine.network import Network, Seen, network_velocity, seen_by, shown
from regflow.methods.refine.velocity_torch import compose, integrate, resize_field, sample
from regflow.methods.refine.weights import Description
from regflow.training.pairs import Batch

SOFT_LENGTH = 0.05
"""Distances below this, samples, enter as squares: the gradient at the truth is none."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A network's answer for a batch.

    Attributes:
        velocity: ``(N, d, *coarse)`` in samples of its own grid, as far as it is followed.
        displacement: ``(N, d, *shape)`` in samples of the images.
    """

    velocity: Tensor
    displacement: Tensor


def answer(network: Network, description: Description, batch: Batch) -> Answer:
    """Let the network answer for both orders of every pair, as often as ``batch.relaxation`` says.

    Of several answers one after the other the last one alone learns: what it sees is what those before
    it leave over, as in a network's later passes.
    """
    factors = batch.relaxation.view(*batch.relaxation.shape, *[1] * (batch.fixed.ndim - 1)).unbind(dim=1)
    before = batch.begun
    with torch.no_grad():
        for factor in factors[:-1]:
            before = _step(factor * _rest(network, description, batch, before), before)
    velocity = factors[-1] * _rest(network, description, batch, before)
    return Answer(velocity, _step(velocity, before))


def _rest(network: Network, description: Description, batch: Batch, before: Tensor) -> Tensor:
    """Ask for the way that is left."""
    moving = sample(batch.moving, before) if before.any() else batch.moving
    return velocity_of(network, description, batch.fixed, moving)


def velocity_of(network: Network, description: Description, fixed: Tensor, moving: Tensor) -> Tensor:
    """Return the velocity of pairs ``(N, 1, *shape)``; the average of both orders is antisymmetric."""
    seen = seen_by(description, torch.cat([fixed, moving]))
    both = shown(description, seen, _swapped(seen))
    there, back = network_velocity(network, description, both).chunk(2)
    return (there - back) / 2


def _step(velocity: Tensor, before: Tensor) -> Tensor:
    """Return the displacement of following a velocity, then what is known before."""
    return compose(resize_field(integrate(velocity), before.shape[2:]), before)


def _swapped(seen: Seen) -> Seen:
    """Let the second half change places with the first."""
    half = len(seen.samples) // 2
    described = tuple(each.roll(half, dims=0) for each in seen.descriptors)
    return Seen(seen.samples.roll(half, dims=0), described)


def objective(answered: Answer, batch: Batch, weights: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, and its terms by name, detached.

    Args:
        answered: of :func:`answer`.
        batch: what it answers.
        weights: ``truth``, ``dice``, ``similarity``, ``roughness``: weight of each term.
    """
    ndim = batch.fixed.ndim - 2
    terms = {
        "truth": end_point_errors(answered.displacement, batch.truth, batch.known).mean(),
        "roughness": losses.diffusion(answered.velocity, [1.0] * ndim),
    }
    if weights["dice"]:
        terms["dice"] = _mismatch(answered.displacement, batch)
    if weights["similarity"]:
        terms["similarity"] = _dissimilarity(answered.displacement, batch)
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def end_point_errors(displacement: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return each pair's mean distance to the truth, samples, where ``known`` weighs it: ``(N,)``.

    A pair of which nothing is known gives 0.
    """
    squared = (displacement - truth).square().sum(dim=1, keepdim=True)
    distance = (squared + SOFT_LENGTH**2).sqrt() - SOFT_LENGTH
    return (distance * known).flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp(min=1)


def _mismatch(displacement: Tensor, batch: Batch) -> Tensor:
    """One minus the overlap of labels, a mean over pairs; one without labels gives 0.

    Like every term it is a mean over pairs, so that processes that share a batch out come to its
    loss by averaging theirs.
    """
    has_labels = batch.fixed_parts.flatten(1).any(dim=1)
    if not bool(has_labels.any()):
        return displacement.new_zeros(())
    warped = sample(batch.moving_parts[has_labels], displacement[has_labels])
    parts = batch.fixed_parts[has_labels]
    each = [losses.label_overlap(parts[k : k + 1], warped[k : k + 1]) for k in range(len(parts))]
    return torch.stack(each).sum() / len(displacement)


def _dissimilarity(displacement: Tensor, batch: Batch) -> Tensor:
    """Local correlation where contrasts agree, descriptors where nothing is known of the pair."""
    total = displacement.new_zeros(())
    for chosen, loss in (
        (batch.alike * (1 - batch.unlabeled) > 0, losses.local_correlation),
        (batch.unlabeled > 0, losses.mind_difference),
    ):
        if bool(chosen.any()):
            warped = sample(batch.moving[chosen], displacement[chosen])
            total = total + loss(batch.fixed[chosen], warped) * chosen.float().mean()
    return total
