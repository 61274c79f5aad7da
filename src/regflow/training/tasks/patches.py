"""The task of describing patches alike in two bands: a network learns, and teaches another its answers."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from regflow.methods.learned_models import ModelDescription
from regflow.training.images import find_bands, read_learned_bands
from regflow.training.patch_views import PatchViews
from regflow.training.task import AskNetwork, DrawnExamples, Sums, TensorBatch, TrainingTask, make_model_task

PART = 8
"""Places that learn together: alike whatever the threads."""
VISIBLE, INFRARED = "visible", "infrared"
KINDS = {
    VISIBLE: ("b02", "b03", "b04"),
    "again": ("b02", "b03", "b04"),
    INFRARED: ("b08", "b08", "b8a"),
}
"""Bands that each view of a corner may show; the first two are what the teacher learns from."""
ALIKE = 1e-6
"""Squared distance that a root is taken of: its slope has to stay finite."""


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: the package with the bands is not installed.
    """
    options = settings["options"]
    arguments = {name: options[name] for name in ("widths", "numbers")} | {"side": settings["side"]}
    description = ModelDescription("patch-descriptor", {**arguments, "branches": [VISIBLE, INFRARED]})
    kinds = {kind: find_bands(names) for kind, names in KINDS.items()}
    drawn = {name: options[name] for name in ("points", "scale", "turn")}
    views = PatchViews(read_learned_bands(), kinds, settings["side"], **drawn)
    return make_model_task(
        description=description,
        examples=DrawnExamples(views.draw, seed),
        prepare=lambda network, batch: batch.split(PART),
        compute_loss=partial(_compute_loss, options["margin"]),
        measure=_measure,
        show=_show,
    )


def compare_descriptors(first: Tensor, second: Tensor) -> Tensor:
    """Return the distances ``(N, M)`` of descriptors ``(N, D)`` and ``(M, D)`` of unit length."""
    return (2 - 2 * first @ second.T).clamp(min=0).add(ALIKE).sqrt()


def compute_triplet_loss(first: Tensor, second: Tensor, margin: float) -> Tensor:
    """Return by how much partners, of one row, miss being nearer by a margin than the nearest others.

    Source: Mishchuk et al., Working hard to know your neighbor's margins, NeurIPS 2017.
    """
    distances = compare_descriptors(first, second)
    others = distances + 10 * torch.eye(len(first), device=first.device)
    hardest = torch.minimum(others.min(dim=1).values, others.min(dim=0).values)
    return functional.relu(margin + distances.diagonal() - hardest).mean()


def measure_distinction(same: Tensor, different: Tensor) -> float:
    """Return how often one threshold, the best, tells distances of same from those of different patches."""
    places = torch.cat([same, different]).sort().values
    below = [(each[:, None] <= places).float().mean(dim=0) for each in (same, different)]
    return float(((below[0] + 1 - below[1]) / 2).max())


def _compute_loss(margin: float, network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """The second network is taught the first's answer, which does not change for it."""
    teacher, again, pupil = _describe(network, batch)
    learned = compute_triplet_loss(teacher, again, margin)
    answer = teacher.detach()
    taught = (pupil - answer).square().sum(dim=1).mean()
    told_apart = compute_triplet_loss(answer, pupil, margin)
    terms = {"teacher": learned.detach(), "distance": taught.detach(), "apart": told_apart.detach()}
    return learned + taught + told_apart, terms


def _describe(network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, Tensor, Tensor]:
    first, again, infrared = (batch[kind].flatten(0, 1) for kind in KINDS)
    visible = network(torch.cat([first, again]), VISIBLE)
    return visible[: len(first)], visible[len(first) :], network(infrared, INFRARED)


def _measure(network: AskNetwork, batch: TensorBatch) -> Sums:
    """Return how well partners are told across bands.

    Returns:
        ``found``, how often a patch's nearest in the other band is its own; ``told``, how often same and
        different patches, as many of each, are told apart by one threshold.
    """
    teacher, _, pupil = _describe(network, batch)
    distances = compare_descriptors(teacher, pupil)
    count = len(teacher)
    found = distances.argmin(dim=1) == torch.arange(count, device=distances.device)
    told = measure_distinction(distances.diagonal(), distances.roll(count // 2, dims=1).diagonal())
    return {"found": (float(found.sum()), count), "told": (told * count, count)}


def _show(network: AskNetwork, batch: TensorBatch) -> Sequence[NDArray[np.float32]]:
    """Return the first patches of all kinds, 0 to 1."""
    shown = [batch[kind][0, 0] for kind in KINDS]
    scaled = [(patch - patch.min()) / (patch.max() - patch.min()).clamp(min=1e-6) for patch in shown]
    return [np.asarray(patch.cpu().numpy(), np.float32) for patch in scaled]
