"""Deformable registration by a trained network (Balakrishnan et al., 2019; Dalca et al., 2019).

MONAI's VoxelMorphUNet answers with a stationary velocity field. Integration, half resolution and
the inverse are our own: the velocity stays known, and its sign turned gives the inverse field.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from regflow.core.devices import one_torch_thread, torch_device, torch_session
from regflow.core.errors import InputError, RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Composite, Transform
from regflow.methods.refine.velocity_torch import halve_field, integrate, to_displacement_field
from regflow.methods.refine.weights import Description, find_weights, load_network
from regflow.methods.refine.working import bring_together, scaled, working_grid

log = logging.getLogger(__name__)

Network = Callable[[Tensor], Tensor]

CONCURRENT_SAMPLES = 3_000_000
"""Up to this many samples both orders of a pair run side by side on a CPU; beyond, one after the
other, because each takes some 550 bytes per sample."""


def voxelmorph(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    """Refine an alignment by a trained network; options are ``learning_options.VOXELMORPH``.

    Raises:
        RegistrationError: no trained network is given, or it is for another number of dimensions
            or channels.
        InputError: the network's file is damaged, or ``polish_options`` are none of greedy's.
    """
    path = find_weights(options["weights"])
    device = torch_device(options["device"])
    with torch_session(options["threads"], options["seed"]):
        network, description = load_network(path, device)
        grid = working_grid(fixed.grid, options["spacing_mm"] or description.spacing)
        pair = bring_together(fixed, moving, initial, grid)
        velocity = predict_velocity(network, description, pair, device, options)
        field = to_displacement_field(integrate(velocity), fixed.grid)
    refined = Composite((field, initial))
    if options["polish"] == "none":
        return refined
    return _polish(fixed, moving, refined, options)


def start_velocity(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], device: torch.device
) -> Tensor:
    """Return the network's velocity ``(1, d, *)`` over the fixed grid's extent, for another method."""
    network, description = load_network(find_weights(options["weights"]), device)
    pair = bring_together(fixed, moving, initial, working_grid(fixed.grid, description.spacing))
    return predict_velocity(network, description, pair, device, options)


def predict_velocity(
    network: Network,
    description: Description,
    pair: tuple[Image, Image],
    device: torch.device,
    options: Mapping[str, Any],
) -> Tensor:
    """Let a network answer for a pair of any size.

    Args:
        network: the trained network.
        description: how it was trained.
        pair: fixed and moving image on one grid of :func:`working_grid`.
        device: the network's.
        options: ``symmetric`` and ``threads``.

    Returns:
        ``(1, d, *)`` velocity over the extent of the pair's grid, at half of its resolution when
        the network was trained so, in samples of its own grid.

    Raises:
        RegistrationError: the pair has another number of dimensions or channels.
    """
    _check(description, pair[0])
    padding = _padding(pair[0].grid.shape, description.multiple)
    fixed, moving = (_padded(as_trained(image, description).to(device), padding) for image in pair)
    orders = [(moving, fixed), (fixed, moving)] if options["symmetric"] else [(moving, fixed)]
    answers = _answer(network, [torch.cat(order, dim=1) for order in orders], options["threads"])
    velocity = (answers[0] - answers[1]) / 2 if options["symmetric"] else answers[0]
    if description.half_resolution:
        velocity = halve_field(velocity)
        padding = [(low // 2, high // 2) for low, high in padding]
    return _crop(velocity, padding)


def as_trained(image: Image, description: Description) -> Tensor:
    """Return an image ``(1, 1, *shape)`` with the intensities that the network was trained with."""
    method = description.intensity["method"]
    options = {key: value for key, value in description.intensity.items() if key != "method"}
    values = scaled(image, method, options).channel
    if description.masked and image.mask is not None:
        values = np.where(image.mask, values, np.float32(0))
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]


def _check(description: Description, image: Image) -> None:
    if description.ndim != image.grid.ndim:
        raise RegistrationError(
            f"the network is for {description.ndim}-D images and these are {image.grid.ndim}-D; "
            "give other weights"
        )
    if len(image.data) != 1:
        raise RegistrationError(f"the network takes one channel and the images have {len(image.data)}")


def _answer(network: Network, inputs: list[Tensor], threads: int) -> list[Tensor]:
    """Run the network on each input; on a CPU the answer's bytes do not depend on ``threads``."""
    if inputs[0].is_cuda:
        return [_forward(network, part) for part in inputs]
    small = inputs[0][0, 0].numel() <= CONCURRENT_SAMPLES
    workers = min(threads, len(inputs)) if small else 1

    def on_one_thread(part: Tensor) -> Tensor:
        with one_torch_thread():
            return _forward(network, part)

    with one_torch_thread(), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(on_one_thread, inputs))


def _forward(network: Network, part: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(part).float()


def _padding(shape: tuple[int, ...], multiple: int) -> list[tuple[int, int]]:
    """Samples to add before and after each axis; both even when shape and multiple are."""
    extra = [-count % multiple for count in shape]
    return [(2 * (count // 4), count - 2 * (count // 4)) for count in extra]


def _padded(image: Tensor, padding: list[tuple[int, int]]) -> Tensor:
    last_axis_first = [side for pair in reversed(padding) for side in pair]
    return functional.pad(image, last_axis_first, mode="replicate")


def _crop(field: Tensor, padding: list[tuple[int, int]]) -> Tensor:
    for axis, (low, high) in enumerate(padding, start=2):
        field = field.narrow(axis, low, field.shape[axis] - low - high)
    return field


def _polish(fixed: Image, moving: Image, start: Transform, options: Mapping[str, Any]) -> Transform:
    """Let the greedy engine go on from the network's field, which leads the composite."""
    from regflow.methods.refine.greedy import greedy
    from regflow.methods.refine.greedy_options import GREEDY

    unknown = sorted(set(options["polish_options"]) - set(GREEDY))
    if unknown:
        raise InputError(f"voxelmorph: polish_options: greedy has no option '{unknown[0]}'")
    defaults = {name: entry["default"] for name, entry in GREEDY.items()}
    shared = {name: options[name] for name in ("device", "threads", "seed")}
    return greedy(fixed, moving, start, {**defaults, **shared, **options["polish_options"]})
