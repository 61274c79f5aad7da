"""What a trained network is shown of two images, and what it answers: for training and for use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from regflow.core.image import Image
from regflow.methods.matching import matching_cpu, matching_torch
from regflow.methods.matching.matching_torch import join_batches
from regflow.methods.refine.velocity_torch import halve_field
from regflow.methods.refine.weights import NetworkDescription
from regflow.methods.refine.working import normalize_pair

Network = Callable[[Tensor], Tensor]
Padding = Sequence[tuple[int, int]]
"""Samples before and after each axis."""


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """What the network is shown of images.

    Attributes:
        samples: ``(N, fold**d, *coarse)``: all samples, those of a block as channels.
        descriptors: to be compared, one for each of :func:`_comparisons`: ``(N, C, *coarse)``, then
            ``(N, C, *shape)``.
    """

    samples: Tensor
    descriptors: tuple[Tensor, ...]


def prepare_input(description: NetworkDescription, images: Tensor) -> NetworkInput:
    """Prepare images ``(N, 1, *shape)``, each side a multiple of ``description.multiple``."""
    samples, matching = fold_blocks(images, description.fold), _matching(images.device)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        # One by one: descriptors are scaled by what an image has on the whole.
        described = [
            join_batches(
                [matching.compute_coarse_descriptors(one, factor) for one in images.float().split(1)]
            )
            for factor, _ in _comparisons(description)
        ]
    return NetworkInput(samples, tuple(described))


def _comparisons(description: NetworkDescription) -> list[tuple[int, int]]:
    """By how much images are averaged before they are compared, and how far, in samples of the average."""
    both = (description.fold, description.search), (1, description.fine_search)
    return [(factor, search) for factor, search in both if search]


def _matching(device: torch.device) -> ModuleType:
    """Return the module that describes and compares images on a device."""
    return matching_cpu if device.type == "cpu" else matching_torch


def stack_input(description: NetworkDescription, fixed: NetworkInput, moving: NetworkInput) -> Tensor:
    """Return the network's input ``(N, C, *coarse)`` for pairs, in one order.

    Not from several threads at a time: on a CPU numba's own are at work.
    """
    seen, matching = [moving.samples, fixed.samples], _matching(fixed.samples.device)
    with torch.no_grad(), torch.autocast(fixed.samples.device.type, enabled=False):
        for one, other, (factor, search) in zip(
            fixed.descriptors, moving.descriptors, _comparisons(description), strict=True
        ):
            seen.append(matching.compute_matching_evidence(one, other, search, description.fold // factor))
    return torch.cat(seen, dim=1)


def predict_velocity(network: Network, description: NetworkDescription, seen: Tensor) -> Tensor:
    """Ask the network about what it is :func:`stack_input`.

    Returns:
        ``(N, d, *shape / description.shrink)`` float32 velocity in samples of its own grid.
    """
    velocity = network(seen).float()
    return halve_field(velocity) if description.half_resolution else velocity


def choose_padding(shape: Sequence[int], description: NetworkDescription) -> Padding:
    """Return the samples to add to images, whole samples of the velocity's grid, for a size that it takes."""
    unit = description.shrink
    extra = [-count % description.multiple for count in shape]
    return [(unit * (count // (2 * unit)), count - unit * (count // (2 * unit))) for count in extra]


def pad_image(image: Tensor, padding: Padding) -> Tensor:
    """Continue an image ``(N, C, *shape)`` as it ends at its border."""
    last_axis_first = [side for pair in reversed(padding) for side in pair]
    return functional.pad(image, last_axis_first, mode="replicate")


def crop_padding(velocity: Tensor, padding: Padding, description: NetworkDescription) -> Tensor:
    """Return the part of a velocity that belongs to images before they were :func:`pad_image`."""
    for axis, sides in enumerate(padding, start=2):
        low, high = (count // description.shrink for count in sides)
        velocity = velocity.narrow(axis, low, velocity.shape[axis] - low - high)
    return velocity


def fold_blocks(image: Tensor, factor: int) -> Tensor:
    """Lay blocks of ``factor`` samples a side out as channels.

    ``(N, C, *shape)`` becomes ``(N, C * factor**d, *shape / factor)``: nothing is lost, and
    convolutions cost ``factor**d`` times less (pixel unshuffle; Shi et al., 2016).
    """
    if factor == 1:
        return image
    ndim = image.ndim - 2
    cells = [part for count in image.shape[2:] for part in (count // factor, factor)]
    split = image.reshape(*image.shape[:2], *cells)
    order = [0, 1, *range(3, 3 + 2 * ndim, 2), *range(2, 2 + 2 * ndim, 2)]
    coarse = [count // factor for count in image.shape[2:]]
    return split.permute(order).reshape(len(image), -1, *coarse)


def normalize_intensity(image: Image, description: NetworkDescription) -> Tensor:
    """Return an image ``(1, 1, *shape)`` with the intensities that the network was trained with."""
    method = description.intensity["method"]
    options = {key: value for key, value in description.intensity.items() if key != "method"}
    values = normalize_pair(image, method, options).channel
    if description.masked and image.mask is not None:
        values = np.where(image.mask, values, np.float32(0))
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
