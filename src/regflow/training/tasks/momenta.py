"""The task of momenta: images warped by momenta that are drawn and shot, so that they are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regflow.core.errors import InputError
from regflow.methods.learned_models import ModelDescription
from regflow.methods.refine.momentum_network import SHRINK, integrate_momentum, smooth_momentum
from regflow.methods.refine.velocity_torch import resize_field, sample_channels
from regflow.training.deformations import RelatedDeformations, draw_velocity
from regflow.training.painted import PaintedPairs
from regflow.training.pairs import Draw, PairMixture
from regflow.training.scans import ScanPairs
from regflow.training.task import (
    AskNetwork,
    DrawnExamples,
    Sums,
    TensorBatch,
    TrainingTask,
    make_model_task,
)
from regflow.training.tasks.field import build_learned_mixture, check_small_network
from regflow.training.warped_images import WarpedImages

LONGEST = (0.5, 8.0)
"""Shortest and longest velocity of a momentum, samples of the images."""


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: training data are missing, or cannot be seen in two contrasts without a deformation.
    """
    description = ModelDescription(
        "momenta", {name: settings[name] for name in ("ndim", "channels", "spacing", "passes")}
    )
    mixture = build_learned_mixture(settings, seed)
    still = {name: keep_undeformed(name, source) for name, source in mixture.sources.items()}
    return make_model_task(
        description=description,
        examples=DrawnExamples(DrawMomenta(replace(mixture, sources=still)), seed),
        prepare=lambda network, batch: batch.split(1),
        compute_loss=_compute_loss,
        measure=measure_known_displacement,
        show=show_known_displacement,
    )


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be trained.

    Raises:
        InputError: before any hour of computing is spent.
    """
    check_small_network(settings)
    if len(settings["channels"]) != 2:
        raise InputError(
            f"train: channels: {len(settings['channels'])} numbers; give two for the task {settings['task']}"
        )
    if settings["side"] % 8:
        raise InputError(f"train: side: {settings['side']} is no multiple of 8; correct it")
    return dict(settings)


@dataclass(frozen=True, eq=False)
class DrawMomenta:
    """Draws two aligned images, and a momentum that moves one of them.

    Attributes:
        mixture: of pairs that lie on each other.
    """

    mixture: PairMixture

    def __call__(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw an example.

        Returns:
            ``images`` ``(2, *shape)``; ``momentum`` ``(d, *shape / 2)`` in coarse samples; ``truth``
            ``(d, *shape)``, the displacement that it shoots to.
        """
        pair = self.mixture.pair(int(rng.integers(1 << 62)))
        shape = pair.fixed.shape[1:]
        momentum = draw_momentum([count // SHRINK for count in shape], rng)
        forward, inverse = (resize_field(field, shape) for field in integrate_momentum(momentum))
        moved = sample_channels(pair.moving[None], inverse)[0]
        return {"images": torch.cat([pair.fixed, moved]), "momentum": momentum[0], "truth": forward[0]}


def draw_momentum(coarse: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Draw a smooth momentum ``(1, d, *coarse)`` whose velocity is as long as is drawn, too."""
    momentum = draw_velocity(coarse, 1.0, rng)
    longest = float(smooth_momentum(momentum).square().sum(dim=1).max().sqrt())
    wanted = np.exp(rng.uniform(*np.log(LONGEST))) / SHRINK
    return momentum * (wanted / max(longest, 1e-6))


def keep_undeformed(name: str, source: Draw) -> Draw:
    """Return a source of pairs that lie on each other.

    Raises:
        InputError: the source's pairs differ by more than a deformation that is drawn.
    """
    if isinstance(source, WarpedImages | PaintedPairs | ScanPairs):
        return replace(source, deform=_deform_nothing)
    raise InputError(f"train: shares: {name}: its pairs differ by what is not known; set the share to 0")


def _deform_nothing(shape: Sequence[int], longest: float, rng: np.random.Generator) -> RelatedDeformations:
    nothing = torch.zeros(1, len(shape), *shape)
    return RelatedDeformations(nothing, nothing, nothing)


def _compute_loss(network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
    predicted, corrected = network(batch["images"], True)
    missing = batch["momentum"] - predicted.detach()
    terms = {
        "prediction": (predicted - batch["momentum"]).abs().mean(),
        "correction": (corrected - missing).abs().mean(),
    }
    return torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()}


def measure_known_displacement(network: AskNetwork, batch: TensorBatch) -> Sums:
    """Return ``epe``, the mean distance to the truth, and ``epe_start``, that of no displacement, samples."""
    truth = batch["truth"]
    found = {"epe": network(batch["images"]) - truth, "epe_start": truth}
    return {
        name: (float(error.norm(dim=1).flatten(1).mean(dim=1).sum()), len(batch))
        for name, error in found.items()
    }


def show_known_displacement(network: AskNetwork, batch: TensorBatch) -> list[Any]:
    """Return the fixed image of the first example, the warped and the moving one."""
    fixed, moving = batch["images"].split(1, dim=1)
    warped = sample_channels(moving, network(batch["images"]))
    return [image[0, 0].float().cpu().numpy() for image in (fixed, warped, moving)]
