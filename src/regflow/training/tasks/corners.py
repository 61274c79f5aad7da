"""The task of regressing how the corners of a crop were moved, taught by the truth or by the pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from regflow.methods.initialize.plane_maps_torch import (
    list_pixels,
    look_up,
    measure_corner_distances,
    move_points,
    normalize_locally,
    solve_corners,
)
from regflow.methods.learned_models import ModelDescription
from regflow.training.images import read_aligned_images
from regflow.training.moved_crops import MovedCrops
from regflow.training.task import AskNetwork, DrawnExamples, Sums, TensorBatch, TrainingTask, make_model_task

PART = 8
"""Examples that learn together on a CPU."""
BLURS = (1, 2, 4)
"""Pixels that are averaged before pictures are compared: coarse ones lead from far away."""
BRIGHTNESS_REACH = 12


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: training data are missing.
    """
    description = describe_network(settings)
    teach = {"corners": _miss_corners, "brightness": _miss_brightness}[settings["options"]["taught_by"]]
    return make_model_task(
        description=description,
        examples=draw_moved_crops(settings, seed),
        prepare=lambda network, batch: batch.split(PART),
        compute_loss=partial(_compute_loss, teach),
        measure=partial(_measure, settings["side"]),
        show=_show,
    )


def draw_moved_crops(settings: Mapping[str, Any], seed: int) -> DrawnExamples:
    """Return examples of crops whose corners were moved, by the settings of a training.

    Raises:
        InputError: training data are missing.
    """
    options = settings["options"]
    images = read_aligned_images(settings["shares"], seed)
    return DrawnExamples(
        MovedCrops(images, settings["side"], options["same_band"], options["reach"]).draw, seed
    )


def describe_network(settings: Mapping[str, Any]) -> ModelDescription:
    """Return the network that the settings ask for."""
    options = settings["options"]
    arguments = {name: options[name] for name in ("widths", "hidden")} | {"side": settings["side"]}
    if options["sees"] == "stacked":
        return ModelDescription("stacked-corners", arguments)
    return ModelDescription("siamese-corners", {**arguments, "answer": options["answer"]})


def show_moved(batch: TensorBatch, maps: Tensor) -> Sequence[NDArray[np.float32]]:
    """Return the fixed crop of the first example, the moved and the moving one, 0 to 1."""
    fixed, moving = (crop[None, None] for crop in batch["crops"][0])
    moved = _move(moving, maps[:1].detach())
    return [to_unit_range(image[0, 0]) for image in (fixed, moved, moving)]


def to_unit_range(image: Tensor) -> NDArray[np.float32]:
    """Return an image with its least and largest value at 0 and 1."""
    low, high = image.min(), image.max()
    return np.asarray(((image - low) / (high - low).clamp(min=1e-6)).float().cpu().numpy(), np.float32)


def measure_corner_errors(side: int, maps: Tensor, batch: TensorBatch) -> Sums:
    """Return the mean distances of corners from the truth, in pixels, and of corners left where they are."""
    pixels, count = side / 2, len(batch)
    still = torch.eye(3).to(maps).expand_as(maps)
    return {
        name: (float(measure_corner_distances(each, batch["shifts"]).mean(dim=1).sum()) * pixels, count)
        for name, each in (("epe", maps.detach()), ("epe_start", still))
    }


def _answer(network: AskNetwork, batch: TensorBatch) -> Tensor:
    shifts: Tensor = network(batch["crops"], torch.ones_like(batch["crops"]))
    return shifts.float()


def _compute_loss(teach: Any, network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
    loss = teach(_answer(network, batch), batch)
    return loss, {}


def _miss_corners(shifts: Tensor, batch: TensorBatch) -> Tensor:
    """Return the mean distance of corners from where they belong, in half sides."""
    return (torch.linalg.vector_norm(shifts - batch["shifts"], dim=-1).square() + 1e-6).sqrt().mean()


def _miss_brightness(shifts: Tensor, batch: TensorBatch) -> Tensor:
    """Return the mean difference in brightness of the fixed crop and the moved one, where they overlap.

    Source: Nguyen et al., IEEE Robotics and Automation Letters 3(3):2346-2353, 2018, here at several blurs.
    """
    crops = batch["crops"]
    flat = normalize_locally(
        crops.flatten(0, 1)[:, None], torch.ones_like(crops).flatten(0, 1)[:, None], BRIGHTNESS_REACH
    ).reshape(crops.shape)
    maps = solve_corners(shifts)
    losses = []
    for blur in BLURS:
        fixed, moving = functional.avg_pool2d(flat, blur).split(1, dim=1)
        moved = _move(torch.cat([moving, torch.ones_like(moving)], dim=1), maps)
        seen = moved[:, 1:]
        differences = ((moved[:, :1] - fixed).abs() * seen).sum(dim=(1, 2, 3))
        losses.append(differences / seen.sum(dim=(1, 2, 3)).clamp(min=0.2 * fixed[0].numel()))
    return torch.stack(losses).mean()


def _move(images: Tensor, maps: Tensor) -> Tensor:
    """Return images as maps bring them onto the fixed crop."""
    shape = images.shape[-2], images.shape[-1]
    return look_up(images, move_points(maps, list_pixels(shape, images))).reshape(*images.shape[:2], *shape)


def _measure(side: int, network: AskNetwork, batch: TensorBatch) -> Sums:
    return measure_corner_errors(side, solve_corners(_answer(network, batch)), batch)


def _show(network: AskNetwork, batch: TensorBatch) -> Sequence[NDArray[np.float32]]:
    return show_moved(batch, solve_corners(_answer(network, batch)))
