"""The task of an agent on modes: the value of each step, from pairs whose displacement is known."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regflow.core.errors import InputError
from regflow.methods.learned_models import ModelDescription, build_model
from regflow.methods.refine.mode_agent import compute_step_values, fit_modes, project_on_modes
from regflow.methods.refine.velocity_torch import resize_field, sample_channels
from regflow.training.deformations import draw_related_deformations
from regflow.training.pairs import PairMixture
from regflow.training.task import AskNetwork, DrawnExamples, Sums, TensorBatch, TrainingTask, make_model_task
from regflow.training.tasks.field import build_learned_mixture, check_small_network
from regflow.training.tasks.momenta import show_known_displacement

FITTED = 400
"""Displacements that the modes are fitted to."""
LONGEST = 10.0
"""Bound of their velocity, samples."""
PART = 8
"""Examples that learn together: alike whatever the threads."""
LABELS_ONLY = ("subjects", "cohort")
"""Sources whose pairs have no known displacement."""


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: training data are missing.
    """
    arguments = {name: settings[name] for name in ("ndim", "side", "channels", "spacing", "passes")}
    description = ModelDescription("mode-values", {**arguments, "modes": settings["options"]["modes"]})
    shape = (settings["side"],) * settings["ndim"]
    rng = np.random.default_rng([seed, FITTED])
    drawn = [draw_related_deformations(shape, LONGEST * rng.uniform(0.2, 1.0), rng) for _ in range(FITTED)]
    modes = fit_modes(torch.cat([each.truth for each in drawn]), settings["options"]["modes"])
    task = make_model_task(
        description=description,
        examples=DrawnExamples(DrawSteps(build_learned_mixture(settings, seed), modes), seed),
        prepare=lambda network, batch: batch.split(PART),
        compute_loss=_compute_loss,
        measure=_measure,
        show=show_known_displacement,
    )
    return replace(task, build=partial(_build, description, modes))


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be trained.

    Raises:
        InputError: before any hour of computing is spent.
    """
    check_small_network(settings)
    for name in LABELS_ONLY:
        if settings["shares"].get(name):
            raise InputError(
                f"train: shares: {name}: its pairs have no known displacement; set the share to 0"
            )
    if settings["side"] % 2 ** len(settings["channels"]):
        raise InputError(f"train: side: {settings['side']} cannot be halved for each of the channels")
    return dict(settings)


@dataclass(frozen=True, eq=False)
class DrawSteps:
    """Draws a pair on the way to its truth, and what each step is worth to it.

    Attributes:
        mixture: of pairs of known truth.
        modes: see :class:`~regflow.methods.refine.mode_agent.ModeAgent`.
    """

    mixture: PairMixture
    modes: Tensor

    def __call__(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw an example: ``images`` ``(2, *shape)``, ``begun`` images, ``values`` and ``truth``."""
        pair = self.mixture.pair(int(rng.integers(1 << 62)))
        assert pair.truth is not None
        wanted = project_on_modes(pair.truth, self.modes)
        noise = torch.from_numpy(rng.standard_normal(len(wanted), dtype=np.float32))
        begun = rng.uniform(0, 1) * wanted + rng.uniform(0, 0.5) * noise
        nodes = torch.tensordot(begun[None], self.modes, dims=1) * self.modes.shape[-1]
        warped = sample_channels(pair.moving[None], resize_field(nodes, pair.truth.shape[1:]))[0]
        return {
            "images": torch.cat([pair.fixed, pair.moving]),
            "begun": torch.cat([pair.fixed, warped]),
            "values": compute_step_values(wanted - begun),
            "truth": pair.truth,
        }


def _build(description: ModelDescription, modes: Tensor) -> nn.Module:
    network = build_model(description)
    network.get_buffer("modes").copy_(modes)
    return network


def _compute_loss(network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
    loss = torch.nn.functional.smooth_l1_loss(network(batch["begun"], True), batch["values"])
    return loss, {"values": loss.detach()}


def _measure(network: AskNetwork, batch: TensorBatch) -> Sums:
    """Return ``epe``, the mean distance to the truth, samples; ``epe_start``; and ``nearer``.

    The last is how often the step of the highest value comes nearer.
    """
    best = network(batch["begun"], True).argmax(dim=1, keepdim=True)
    nearer = float((batch["values"].gather(1, best) > 0).sum())
    errors = {"epe": network(batch["images"]) - batch["truth"], "epe_start": batch["truth"]}
    measured = {name: float(error.norm(dim=1).flatten(1).mean(dim=1).sum()) for name, error in errors.items()}
    return {**{name: (value, len(batch)) for name, value in measured.items()}, "nearer": (nearer, len(batch))}
