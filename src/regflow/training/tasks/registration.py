"""The task of VoxelMorph: from two images to the velocity field between them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regflow.core.errors import InputError
from regflow.methods.refine.losses_torch import compute_mind_difference
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.methods.refine.weights import (
    NetworkDescription,
    build_network,
    check_relaxation,
    load_network,
    read_weights,
    save_weights,
    use_channels_last,
)
from regflow.methods.refine.weights_files import find_weights
from regflow.training.cohort import CohortPairs
from regflow.training.objective import (
    BatchInput,
    compute_objective,
    measure_end_point_errors,
    predict_all,
    predict_batch,
    prepare_batch,
)
from regflow.training.painting import SAMPLED_RANGE
from regflow.training.pairs import PairMixture, TrainingBatch
from regflow.training.passes import measure_best_relaxation
from regflow.training.sources import build_mixture
from regflow.training.task import MOST_BYTES, AskNetwork, Sums, TrainingTask

log = logging.getLogger(__name__)

MEASURED = 4
"""Pairs of a cohort on which it is measured how far a network's passes best go."""
OF_START = ("ndim", "channels", "fold", "search", "fine_search", "spacing", "passes", "relaxation")
"""Settings that a network to start from brings along."""


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: training data or a network to start from are missing or wrong.
    """
    description = describe_network(settings)
    mixture = build_mixture(settings, seed)
    return TrainingTask(
        description=description,
        build=partial(_build, settings["start_from"], description),
        examples=mixture,
        prepare=partial(_prepare, description),
        compute_loss=partial(_compute_loss, description, settings["weights"]),
        measure=partial(_measure, description),
        show=partial(_show, description),
        choose=partial(_choose, settings["start_from"], description, mixture),
        save=save_weights,
    )


def describe_network(settings: Mapping[str, Any]) -> NetworkDescription:
    """Return the network that the settings ask for."""
    if settings["start_from"]:
        return read_weights(find_weights(settings["start_from"]))[1]
    channels = tuple(settings["channels"])
    low, high = SAMPLED_RANGE
    return NetworkDescription(
        ndim=settings["ndim"],
        channels=channels,
        unet_out_channels=channels[1],
        final_channels=(channels[1],),
        spacing=settings["spacing"],
        intensity={"method": "percentile", "low": low, "high": high},
        masked=False,
        half_resolution=False,
        fold=settings["fold"],
        search=settings["search"],
        fine_search=settings["fine_search"],
        passes=tuple(settings["passes"]),
        relaxation=tuple(settings["relaxation"]),
    )


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings by those of the network to start from, and refuse what cannot be trained.

    Raises:
        InputError: before any hour of computing is spent.
    """
    settings = dict(settings)
    if settings["start_from"]:
        start = read_weights(find_weights(settings["start_from"]))[1]
        given = {name: getattr(start, name) for name in OF_START}
        settings |= {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
    if len(settings["channels"]) % 2:
        raise InputError(
            f"train: channels: {len(settings['channels'])} numbers; give a pair (down, up) for each level"
        )
    check_relaxation(settings["passes"], settings["relaxation"], "train")
    description = describe_network(settings)
    if settings["side"] % description.multiple:
        raise InputError(
            f"train: side: {settings['side']} samples cannot be halved as often as the network does; give a "
            f"multiple of {description.multiple}"
        )
    weights = settings["weights"]
    if settings["shares"].get("cohort") and not (weights["truth"] or weights["similarity"]):
        raise InputError(
            "train: weights: with 0 for truth and for similarity a cohort teaches nothing; give truth 1"
        )
    numbers = sum(parameter.numel() for parameter in build_network(description).parameters())
    if 4 * numbers > MOST_BYTES:
        raise InputError(
            f"train: channels: the weights would take {4e-6 * numbers:.0f} MB, more than "
            f"{1e-6 * MOST_BYTES:.0f}; give fewer channels"
        )
    return settings


def _build(start_from: str | None, description: NetworkDescription) -> nn.Module:
    if start_from:
        return load_network(find_weights(start_from), torch.device("cpu"))[0]
    return use_channels_last(build_network(description))


def _prepare(
    description: NetworkDescription, network: AskNetwork, batch: TrainingBatch
) -> list[tuple[BatchInput, TrainingBatch]]:
    """Return what learns: on a CPU each pair by itself."""
    asked = prepare_batch(network, description, batch)
    if batch.fixed.is_cuda:
        return [(asked, batch)]
    return list(zip(asked.split(), batch.split(), strict=True))


def _compute_loss(
    description: NetworkDescription,
    weights: Mapping[str, float],
    network: AskNetwork,
    part: tuple[BatchInput, TrainingBatch],
) -> tuple[Tensor, dict[str, Tensor]]:
    asked, batch = part
    return compute_objective(predict_batch(network, description, asked), batch, weights)


def _measure(description: NetworkDescription, network: AskNetwork, batch: TrainingBatch) -> Sums:
    """Return figures of a batch, as far as its pairs allow.

    Returns:
        ``epe``, the mean distance to the truth, and ``epe_start``, that of no displacement, samples;
        ``difference`` and ``difference_start``, the squared difference of descriptors of pairs of which
        nothing is known: each as the sum over the pairs that allow one, and how many do.
    """
    displacement = predict_all(network, description, batch).displacement
    known = int((batch.known.flatten(1).sum(dim=1) > 0).sum())
    bare = batch.unlabeled > 0
    figures = {}
    for name, field in (("", displacement), ("_start", torch.zeros_like(displacement))):
        if known:
            errors = measure_end_point_errors(field, batch.truth, batch.known)
            figures[f"epe{name}"] = float(errors.sum()), known
        if bool(bare.any()):
            warped = sample_channels(batch.moving[bare], field[bare])
            each = float(compute_mind_difference(batch.fixed[bare], warped))
            figures[f"difference{name}"] = each * len(warped), len(warped)
    return figures


def _show(
    description: NetworkDescription, network: AskNetwork, batch: TrainingBatch
) -> Sequence[NDArray[np.float32]]:
    """Return the fixed image of the first pair, the warped and the moving one."""
    displacement = predict_all(network, description, batch).displacement
    warped = sample_channels(batch.moving, displacement)
    return [image[0, 0].float().cpu().numpy() for image in (batch.fixed, warped, batch.moving)]


def _choose(
    start_from: str | None, description: NetworkDescription, mixture: PairMixture, trained: nn.Module
) -> tuple[nn.Module, NetworkDescription]:
    """Return the trained network; after a cohort the trained or its start, whichever serves it better."""
    cohort = mixture.sources.get("cohort")
    if not isinstance(cohort, CohortPairs):
        return trained, description
    networks = {"the trained network": trained}
    if start_from:
        networks["its start"] = load_network(find_weights(start_from), torch.device("cpu"))[0]
    measured = {
        name: measure_best_relaxation(each, description, cohort.validation_pairs[:MEASURED])
        for name, each in networks.items()
    }
    for name, (relaxation, distance) in measured.items():
        log.info("train: %s, relaxation %s, ends %.3f from the truth", name, relaxation, distance)
    best = min(measured, key=lambda name: measured[name][1])
    if networks[best] is not trained:
        log.warning("train: the weights of the network to start from are kept: they serve the cohort better")
    return networks[best], replace(description, relaxation=measured[best][0])
