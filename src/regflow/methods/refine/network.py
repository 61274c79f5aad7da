"""What a trained network is shown of two images, and what it answers: for training and for use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regflow.core.image import Image
from regflow.methods.refine.matching_torch import coarse_descriptors, matching_evidence
from regflow.methods.refine.velocity_torch import halve_field
from regflow.methods.refine.weights import Description
from regflow.methods.refine.working import scaled

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network is shown of images.

    Attributes:
        samples: ``(N, fold**d, *coarse)``: all samples, those of a block as channels.
        descriptors: to be compared, one for each of :func:`_comparisons`: ``(N, C, *coarse)``, then
            ``(N, C, *shape)``.
    """

    samples: Tensor
    descriptors: tuple[Tensor, ...]


def seen_by(description: Description, images: Tensor) -> Seen:
    """Prepare images ``(N, 1, *shape)``, each side a multiple of ``description.multiple``."""
    samples = folded(images, description.fold)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        # One by one: descriptors are scaled by what an image has on the whole.
        described = [
            torch.cat([coarse_descriptors(one, factor) for one in images.float().split(1)])
            for factor, _ in _comparisons(description)
        ]
    return Seen(samples, tuple(described))


def _comparisons(description: Description) -> list[tuple[int, int]]:
    """By how much images are averaged before they are compared, and how far, in samples of the average."""
    both = (description.fold, description.search), (1, description.fine_search)
    return [(factor, search) for factor, search in both if search]


def network_velocity(network: Network, description: Description, fixed: Seen, moving: Seen) -> Tensor:
    """Ask the network, in one order.

    Returns:
        ``(N, d, *shape / description.shrink)`` float32 velocity in samples of its own grid.
    """
    seen = [moving.samples, fixed.samples]
    with torch.no_grad(), torch.autocast(fixed.samples.device.type, enabled=False):
        for one, other, (factor, search) in zip(
            fixed.descriptors, moving.descriptors, _comparisons(description), strict=True
        ):
            seen.append(matching_evidence(one, other, search, description.fold // factor))
    velocity = network(torch.cat(seen, dim=1)).float()
    return halve_field(velocity) if description.half_resolution else velocity


def folded(image: Tensor, factor: int) -> Tensor:
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


def as_trained(image: Image, description: Description) -> Tensor:
    """Return an image ``(1, 1, *shape)`` with the intensities that the network was trained with."""
    method = description.intensity["method"]
    options = {key: value for key, value in description.intensity.items() if key != "method"}
    values = scaled(image, method, options).channel
    if description.masked and image.mask is not None:
        values = np.where(image.mask, values, np.float32(0))
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
