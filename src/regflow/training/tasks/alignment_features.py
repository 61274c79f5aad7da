"""The task of learning features by which Gauss-Newton steps align scenes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.methods.initialize.plane_maps_torch import measure_corner_distances
from regflow.methods.learned_models import ModelDescription
from regflow.training.task import AskNetwork, Sums, TensorBatch, TrainingTask, make_model_task
from regflow.training.tasks.corners import draw_moved_crops, measure_corner_errors, show_moved

PART = 8
"""Examples that learn together on a CPU."""
TRAINED_MODEL = "homography"
GROWTH = 1.15
"""Weight of a step, times that of the step before."""


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: training data are missing.
    """
    options = settings["options"]
    arguments = {name: options[name] for name in ("widths", "features", "iterations")}
    description = ModelDescription("aligning-features", {**arguments, "side": settings["side"]})
    return make_model_task(
        description=description,
        examples=draw_moved_crops(settings, seed),
        prepare=lambda network, batch: batch.split(PART),
        compute_loss=_compute_loss,
        measure=partial(_measure, settings["side"]),
        show=_show,
    )


def _ask(network: AskNetwork, batch: TensorBatch) -> list[Tensor]:
    steps: list[Tensor] = network(batch["crops"], torch.ones_like(batch["crops"]), TRAINED_MODEL)
    return steps


def _compute_loss(network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean distance of corners from where they belong after each step, the last most of all."""
    steps = _ask(network, batch)
    weights = batch["shifts"].new_tensor([GROWTH**number for number in range(len(steps))])
    distances = torch.stack([measure_corner_distances(each, batch["shifts"]) for each in steps])
    # Square roots: pairs that are nearly solved teach as much as those that are far away.
    each = (distances + 1e-3).sqrt().mean(dim=(1, 2))
    return (each * weights).sum() / weights.sum(), {"last": distances[-1].mean().detach()}


def _measure(side: int, network: AskNetwork, batch: TensorBatch) -> Sums:
    return measure_corner_errors(side, _ask(network, batch)[-1], batch)


def _show(network: AskNetwork, batch: TensorBatch) -> Sequence[NDArray[np.float32]]:
    return show_moved(batch, _ask(network, batch)[-1])
