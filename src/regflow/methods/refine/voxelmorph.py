"""Deformable registration by a trained network (Balakrishnan et al., 2019; Dalca et al., 2019).

MONAI's VoxelMorphUNet answers with a stationary velocity field. Integration, half resolution and
the inverse are our own: the velocity stays known, and its sign turned gives the inverse field.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from regflow.core.devices import one_torch_thread, torch_device, torch_session
from regflow.core.errors import InputError, RegistrationError
from regflow.core.image import Image
from regflow.core.similarity import lncc, normalized_mutual_information
from regflow.core.transform import Composite, Transform
from regflow.methods.refine.matching_torch import coarse_descriptors, matching_evidence
from regflow.methods.refine.velocity_torch import (
    compose,
    halve_field,
    integrate,
    resize_field,
    to_displacement_field,
)
from regflow.methods.refine.weights import Description, find_weights, load_network
from regflow.methods.refine.working import bring_together, scaled, working_grid

log = logging.getLogger(__name__)

Network = Callable[[Tensor], Tensor]

CONCURRENT_SAMPLES = 6_000_000
"""Up to this many samples both orders of a pair run side by side on a CPU; beyond, one after the
other, because each takes some 550 bytes per sample."""


def voxelmorph(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    """Refine an alignment by a trained network; options are ``learning_options.VOXELMORPH``.

    An answer that makes the images less alike than the initial transform is put aside: the polish
    then starts from the initial transform.

    Raises:
        RegistrationError: no trained network is given, or it is for another number of dimensions
            or channels, or its answer is worse than the initial transform and nothing polishes.
        InputError: the network's file is damaged, or ``polish_options`` are none of greedy's.
    """
    device = torch_device(options["device"])
    with torch_session(options["threads"], options["seed"]):
        network, description = load_network(find_weights(options["weights"]), device)
        refined = ask(network, description, (fixed, moving), initial, options)
        gained = _gain(fixed, moving, initial, refined, options["spacing_mm"] or description.spacing)
    log.info("voxelmorph: the network changes the similarity by %+.4f", gained)
    if options["polish"] == "none":
        if gained < 0:
            raise RegistrationError(
                f"the network's answer makes the images less alike ({gained:+.4f}) than the start"
            )
        return refined
    if gained < 0:
        log.warning("voxelmorph: the network's answer is worse than the start; the polish begins at zero")
    return _polish(fixed, moving, refined if gained >= 0 else initial, options)


def ask(
    network: Network,
    description: Description,
    pair: tuple[Image, Image],
    initial: Transform,
    options: Mapping[str, Any],
) -> Composite:
    """Let a network answer for fixed and moving image, pass by pass.

    Args:
        network: the trained network, on its device.
        description: how it was trained.
        pair: fixed and moving image.
        initial: from fixed to moving world points.
        options: ``spacing_mm``, ``symmetric`` and ``threads``.

    Returns:
        A displacement field on the fixed grid, then the initial transform.

    Raises:
        RegistrationError: the pair has another number of dimensions or channels.
    """
    fixed, moving = pair
    finest = options["spacing_mm"] or description.spacing
    total: Tensor | None = None
    for shrink in description.passes:
        grid = working_grid(fixed.grid, finest * shrink, description.shrink)
        start = initial
        if total is not None:
            start = Composite((to_displacement_field(total, grid), initial))
        velocity = predict_velocity(network, description, bring_together(fixed, moving, start, grid), options)
        step = integrate(velocity)
        total = step if total is None else compose(step, resize_field(total, step.shape[2:]))
    assert total is not None
    return Composite((to_displacement_field(total, fixed.grid), initial))


def network_start(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], device: torch.device
) -> Composite:
    """Return the network's answer for another method to start from."""
    network, description = load_network(find_weights(options["weights"]), device)
    return ask(network, description, (fixed, moving), initial, {"spacing_mm": None, **options})


def predict_velocity(
    network: Network,
    description: Description,
    pair: tuple[Image, Image],
    options: Mapping[str, Any],
) -> Tensor:
    """Let a network answer once, for a pair of any size.

    Args:
        network: the trained network.
        description: how it was trained.
        pair: fixed and moving image on one grid of :func:`working_grid`.
        options: ``symmetric`` and ``threads``.

    Returns:
        ``(1, d, *)`` velocity over the extent of the pair's grid, coarser by ``description.shrink``,
        in samples of its own grid.

    Raises:
        RegistrationError: the pair has another number of dimensions or channels.
    """
    _check(description, pair[0])
    device = _device(network)
    padding = _padding(pair[0].grid.shape, description)
    fixed, moving = (
        seen_by(description, _padded(as_trained(image, description).to(device), padding)) for image in pair
    )
    orders = [(fixed, moving), (moving, fixed)] if options["symmetric"] else [(fixed, moving)]

    def one(order: tuple[Seen, Seen]) -> Tensor:
        with torch.inference_mode():
            return network_velocity(network, description, *order)

    answers = _answer(one, orders, options["threads"])
    velocity = (answers[0] - answers[1]) / 2 if options["symmetric"] else answers[0]
    shrink = description.shrink
    return _crop(velocity, [(low // shrink, high // shrink) for low, high in padding])


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network is shown of images.

    Attributes:
        samples: ``(N, fold**d, *coarse)``: all samples, those of a block as channels.
        descriptors: ``(N, C, *coarse)``, to be compared; None when the network has no search.
    """

    samples: Tensor
    descriptors: Tensor | None


def seen_by(description: Description, images: Tensor) -> Seen:
    """Prepare images ``(N, 1, *shape)``, each side a multiple of ``description.multiple``."""
    samples = folded(images, description.fold)
    if not description.search:
        return Seen(samples, None)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return Seen(samples, coarse_descriptors(images.float(), description.fold))


def network_velocity(network: Network, description: Description, fixed: Seen, moving: Seen) -> Tensor:
    """Ask the network, in one order.

    Returns:
        ``(N, d, *shape / description.shrink)`` float32 velocity in samples of its own grid.
    """
    seen = [moving.samples, fixed.samples]
    if fixed.descriptors is not None and moving.descriptors is not None:
        with torch.no_grad(), torch.autocast(fixed.samples.device.type, enabled=False):
            seen.append(matching_evidence(fixed.descriptors, moving.descriptors, description.search))
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


def _check(description: Description, image: Image) -> None:
    if description.ndim != image.grid.ndim:
        raise RegistrationError(
            f"the network is for {description.ndim}-D images and these are {image.grid.ndim}-D; "
            "give other weights"
        )
    if len(image.data) != 1:
        raise RegistrationError(f"the network takes one channel and the images have {len(image.data)}")


def _answer(
    one: Callable[[tuple[Seen, Seen]], Tensor], orders: list[tuple[Seen, Seen]], threads: int
) -> list[Tensor]:
    """Ask for each order; on a CPU the answer's bytes do not depend on ``threads``."""
    samples = orders[0][0].samples
    if samples.is_cuda:
        return [one(order) for order in orders]
    workers = min(threads, len(orders)) if samples[0].numel() <= CONCURRENT_SAMPLES else 1

    def on_one_thread(order: tuple[Seen, Seen]) -> Tensor:
        with one_torch_thread():
            return one(order)

    with one_torch_thread(), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(on_one_thread, orders))


def _device(network: Network) -> torch.device:
    """Return where a network computes; the CPU when it has no weights."""
    parameters = getattr(network, "parameters", None)
    found = None if parameters is None else next(iter(parameters()), None)
    return torch.device("cpu") if found is None else found.device


def _padding(shape: tuple[int, ...], description: Description) -> list[tuple[int, int]]:
    """Samples to add before and after each axis, whole samples of the velocity's grid."""
    unit = description.shrink
    extra = [-count % description.multiple for count in shape]
    return [(unit * (count // (2 * unit)), count - unit * (count // (2 * unit))) for count in extra]


def _padded(image: Tensor, padding: list[tuple[int, int]]) -> Tensor:
    last_axis_first = [side for pair in reversed(padding) for side in pair]
    return functional.pad(image, last_axis_first, mode="replicate")


def _crop(field: Tensor, padding: list[tuple[int, int]]) -> Tensor:
    for axis, (low, high) in enumerate(padding, start=2):
        field = field.narrow(axis, low, field.shape[axis] - low - high)
    return field


def _gain(fixed: Image, moving: Image, before: Transform, after: Transform, spacing: float) -> float:
    """Return by how much a transform raises local correlation and mutual information, together."""
    grid = working_grid(fixed.grid, spacing)
    alike = []
    for transform in (before, after):
        still, moved = bring_together(fixed, moving, transform, grid)
        assert moved.mask is not None
        seen = moved.mask if still.mask is None else still.mask & moved.mask
        values = still.channel, moved.channel, seen
        alike.append(lncc(*values) + normalized_mutual_information(*values))
    return alike[1] - alike[0]


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
