"""The task of small networks that answer with a displacement: similarity and smoothness teach it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.core.errors import InputError
from regflow.methods.learned_models import ModelDescription, build_model
from regflow.methods.refine import losses_torch as losses
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.training.images import read_aligned_images
from regflow.training.objective import measure_end_point_errors
from regflow.training.pairs import PairMixture, TrainingBatch
from regflow.training.sources import build_mixture
from regflow.training.task import MOST_BYTES, AskNetwork, Sums, TrainingTask, make_model_task
from regflow.training.warped_images import WarpedImages

SAME_CONTRAST = 0.7
"""How often both images of bands show one band."""
SIMILARITIES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mse": losses.compute_mean_squared_error,
    "lncc": losses.compute_local_correlation,
    "mind": losses.compute_mind_difference,
}
"""Of a fixed and a warped image and where they count."""


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: training data are missing or wrong.
    """
    description = describe_network(settings)
    return make_model_task(
        description=description,
        examples=build_learned_mixture(settings, seed),
        prepare=lambda network, batch: batch.split(),
        compute_loss=partial(_compute_loss, settings["options"]["similarity"], settings["weights"]),
        measure=measure_displacement,
        show=show_displacement,
    )


def describe_network(settings: Mapping[str, Any]) -> ModelDescription:
    """Return the network that the settings ask for."""
    options = settings["options"]
    arguments = {name: settings[name] for name in ("ndim", "channels", "spacing", "passes")}
    if options["architecture"] == "control-points":
        arguments["pools"] = options["pools"]
    return ModelDescription(options["architecture"], arguments)


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be trained.

    Raises:
        InputError: before any hour of computing is spent.
    """
    check_small_network(settings)
    weights, options = settings["weights"], settings["options"]
    if not weights["similarity"] and not weights["truth"]:
        raise InputError(
            "train: weights: with 0 for similarity and for truth nothing is taught; give similarity 1"
        )
    if options["architecture"] == "control-points" and len(settings["channels"]) < options["pools"]:
        raise InputError(
            f"train: channels: {len(settings['channels'])} numbers for {options['pools']} pools; give at "
            "least as many"
        )
    network: Any = build_model(describe_network(settings))
    if settings["side"] % network.multiple:
        raise InputError(
            f"train: side: {settings['side']} samples cannot be halved as often as the network does; give a "
            f"multiple of {network.multiple}"
        )
    numbers = sum(parameter.numel() for parameter in network.parameters())
    if 4 * numbers > MOST_BYTES:
        raise InputError(
            f"train: channels: the weights would take {4e-6 * numbers:.0f} MB, more than "
            f"{1e-6 * MOST_BYTES:.0f}; give fewer channels"
        )
    return dict(settings)


def check_small_network(settings: Mapping[str, Any]) -> None:
    """Refuse settings that small networks do not know.

    Raises:
        InputError: a network to start from is named, or a pass is finer than the working grid.
    """
    if settings["start_from"]:
        raise InputError(
            f"train: start_from: networks of the task {settings['task']} begin anew; set it to null"
        )
    if min(settings["passes"]) < 1:
        raise InputError(
            f"train: passes: {min(settings['passes']):g} is finer than the images; give 1 or more"
        )


def build_learned_mixture(settings: Mapping[str, Any], seed: int) -> PairMixture:
    """Build the sources of pairs; of bands the upper rows only, for the lower ones are measured on."""
    shares = dict(settings["shares"])
    if not shares.get("bands"):
        return build_mixture(settings, seed)
    others = {**shares, "bands": 0.0}
    bands = WarpedImages(read_aligned_images({"bands": 1.0}, seed), SAME_CONTRAST)
    if not any(others.values()):
        return PairMixture({"bands": bands}, {"bands": 1.0}, (settings["side"],) * settings["ndim"], seed)
    mixture = build_mixture({**settings, "shares": others}, seed)
    return replace(
        mixture,
        sources={**mixture.sources, "bands": bands},
        shares={**mixture.shares, "bands": shares["bands"]},
    )


def _compute_loss(
    similarity: str, weights: Mapping[str, float], network: AskNetwork, batch: TrainingBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    displacement = network(torch.cat([batch.fixed, batch.moving], dim=1))
    warped = sample_channels(batch.moving, displacement)
    terms = {
        "similarity": SIMILARITIES[similarity](batch.fixed, warped, find_seen(batch)),
        "roughness": losses.compute_diffusion(displacement, [1.0] * (batch.fixed.ndim - 2)),
    }
    if weights["truth"]:
        terms["truth"] = measure_end_point_errors(displacement, batch.truth, batch.known).mean()
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def find_seen(batch: TrainingBatch) -> Tensor:
    """Return where the fixed images show something that is known to be seen; everywhere where none is."""
    known = (batch.known > 0).float()
    bare = (known.flatten(1).sum(dim=1) == 0).float().view(-1, *[1] * (known.ndim - 1))
    return torch.maximum(known, bare)


def measure_displacement(network: AskNetwork, batch: TrainingBatch) -> Sums:
    """Return figures of a batch, as far as its pairs allow.

    Returns:
        ``epe``, the mean distance to the truth, and ``epe_start``, that of no displacement, samples;
        ``difference`` and ``difference_start``, of descriptors, of pairs without truth.
    """
    displacement = network(torch.cat([batch.fixed, batch.moving], dim=1))
    has_truth = batch.known.flatten(1).sum(dim=1) > 0
    figures = {}
    for name, field in (("", displacement), ("_start", torch.zeros_like(displacement))):
        if bool(has_truth.any()):
            errors = measure_end_point_errors(field, batch.truth, batch.known)
            figures[f"epe{name}"] = float(errors.sum()), int(has_truth.sum())
        if not bool(has_truth.all()):
            warped = sample_channels(batch.moving[~has_truth], field[~has_truth])
            each = float(losses.compute_mind_difference(batch.fixed[~has_truth], warped))
            figures[f"difference{name}"] = each * len(warped), len(warped)
    return figures


def show_displacement(network: AskNetwork, batch: TrainingBatch) -> Sequence[NDArray[np.float32]]:
    """Return the fixed image of the first pair, the warped and the moving one."""
    displacement = network(torch.cat([batch.fixed, batch.moving], dim=1))
    warped = sample_channels(batch.moving, displacement)
    return [image[0, 0].float().cpu().numpy() for image in (batch.fixed, warped, batch.moving)]
