"""Deformable registration by a trained network (Balakrishnan et al., 2019; Dalca et al., 2019).

MONAI's VoxelMorphUNet answers with a stationary velocity field. Integration, half resolution and
the inverse are our own: the velocity stays known, and its sign turned gives the inverse field.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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

EXAMINED_ACROSS = 112
"""Samples along the longest side at which an answer is judged."""
CONCURRENT_SAMPLES = 6_000_000
"""Up to this many samples both orders of a pair run side by side on a CPU; beyond, one after the
other, because each takes some 550 bytes per sample."""


@dataclass(frozen=True, eq=False)
class Request:
    """A pair to answer for.

    Attributes:
        fixed: the fixed image.
        moving: the moving image.
        initial: from fixed to moving world points.
    """

    fixed: Image
    moving: Image
    initial: Transform


def voxelmorph(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    """Refine an alignment by a trained network; options are ``learning_options.VOXELMORPH``.

    An answer that makes the images less alike than the initial transform is put aside: the polish
    then starts from the initial transform. ``options["answer"]`` holds the answer of a batch, if the
    network was asked before (:func:`answers`).

    Raises:
        RegistrationError: no trained network is given, or it is for another number of dimensions
            or channels, or its answer is worse than the initial transform and nothing polishes.
        InputError: the network's file is damaged, or ``polish_options`` are none of greedy's.
    """
    refined = options.get("answer") or answers([Request(fixed, moving, initial)], options)[0]
    gained = _gain(fixed, moving, initial, refined)
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


def answers(requests: Sequence[Request], options: Mapping[str, Any], batch: int = 1) -> list[Composite]:
    """Let the network answer for many pairs, whatever their sizes and spacings.

    On a GPU pairs of one size go through it ``batch`` at a time. When memory runs out, the batch is
    halved, then the working resolution, and in the end the CPU answers; the log says so.

    Args:
        requests: the pairs.
        options: of the method, ``threads`` and ``seed`` included.
        batch: most pairs at a time. On a CPU each goes alone: it gains nothing there, and so a
            pair's answer has the same bytes whatever else is asked.

    Returns:
        For each pair a displacement field on the fixed grid, then its initial transform.

    Raises:
        RegistrationError, InputError: as :func:`voxelmorph`.
    """
    device = torch_device(options["device"])
    with torch_session(options["threads"], options["seed"]):
        network, description = load_network(find_weights(options["weights"]), device)
        spacing = options["spacing_mm"] or description.spacing
        for effort in _efforts(batch if device.type == "cuda" else 1, spacing, device):
            try:
                return ask(network.to(effort.device), description, requests, effort, options)
            except torch.OutOfMemoryError:
                log.warning("voxelmorph: no memory for %s", effort)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
    raise RegistrationError("voxelmorph: the memory does not suffice even on the CPU; raise spacing_mm")


@dataclass(frozen=True)
class Effort:
    """How the network is asked: fewer pairs, coarser or elsewhere needs less memory.

    Attributes:
        batch: pairs at a time.
        spacing: of the last pass, world units.
        device: where.
    """

    batch: int
    spacing: float
    device: torch.device

    def __str__(self) -> str:
        return f"{self.batch} pairs at a spacing of {self.spacing:g} on {self.device}"


def _efforts(batch: int, spacing: float, device: torch.device) -> Iterator[Effort]:
    """Yield what to try, in order, as memory runs out."""
    while batch > 1:
        yield Effort(batch, spacing, device)
        batch //= 2
    yield Effort(1, spacing, device)
    yield Effort(1, 2 * spacing, device)
    if device.type != "cpu":
        yield Effort(1, spacing, torch.device("cpu"))


def ask(
    network: Network,
    description: Description,
    requests: Sequence[Request],
    effort: Effort,
    options: Mapping[str, Any],
) -> list[Composite]:
    """Ask a network about pairs, pass by pass.

    Args:
        network: the trained network, on the effort's device.
        description: how it was trained.
        requests: the pairs.
        effort: how many at a time, and how fine.
        options: ``symmetric`` and ``threads``.

    Returns:
        For each pair a displacement field on the fixed grid, then its initial transform.

    Raises:
        RegistrationError: a pair has another number of dimensions or channels than the network.
    """
    for request in requests:
        _check(description, request.fixed)
    totals: list[Tensor | None] = [None] * len(requests)
    for shrink in description.passes:
        pairs = [
            _brought(request, total, effort.spacing * shrink, description)
            for request, total in zip(requests, totals, strict=True)
        ]
        velocities = predict_velocities(network, description, pairs, effort, options)
        steps = [integrate(velocity) for velocity in velocities]
        totals = [
            step if total is None else compose(step, resize_field(total, step.shape[2:]))
            for step, total in zip(steps, totals, strict=True)
        ]
    return [
        Composite((to_displacement_field(total, request.fixed.grid), request.initial))
        for request, total in zip(requests, totals, strict=True)
        if total is not None
    ]


def predict_velocities(
    network: Network,
    description: Description,
    pairs: Sequence[tuple[Image, Image]],
    effort: Effort,
    options: Mapping[str, Any],
) -> list[Tensor]:
    """Ask a network once about each pair, of any size; those of one size together.

    Args:
        network: the trained network.
        description: how it was trained.
        pairs: fixed and moving image, each on one grid of :func:`working_grid`.
        effort: how many at a time, and where.
        options: ``symmetric`` and ``threads``.

    Returns:
        For each ``(1, d, *)`` velocity over the extent of the pair's grid, coarser by
        ``description.shrink``, in samples of its own grid.
    """
    paddings = [_padding(pair[0].grid.shape, description) for pair in pairs]
    found: dict[int, Tensor] = {}
    for numbers in _alike([pair[0].grid.shape for pair in pairs], effort.batch):
        shown = [
            torch.cat([_padded(as_trained(pairs[k][side], description), paddings[k]) for k in numbers])
            for side in (0, 1)
        ]
        fixed, moving = (seen_by(description, part.to(effort.device)) for part in shown)
        velocity = _both_orders(network, description, fixed, moving, options)
        shrink = description.shrink
        for number, part in zip(numbers, velocity.split(1), strict=True):
            found[number] = _crop(part, [(low // shrink, high // shrink) for low, high in paddings[number]])
    return [found[number] for number in range(len(pairs))]


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
        # One by one: descriptors are scaled by what an image has on the whole.
        described = [coarse_descriptors(one, description.fold) for one in images.float().split(1)]
        return Seen(samples, torch.cat(described))


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


def _brought(
    request: Request, total: Tensor | None, spacing: float, description: Description
) -> tuple[Image, Image]:
    """Bring a pair together on the grid of a pass, as far as the passes before have come."""
    grid = working_grid(request.fixed.grid, spacing, description.shrink)
    start = request.initial
    if total is not None:
        start = Composite((to_displacement_field(total, grid), start))
    return bring_together(request.fixed, request.moving, start, grid)


def _alike(shapes: Sequence[tuple[int, ...]], most: int) -> Iterator[list[int]]:
    """Yield the numbers of up to ``most`` pairs of one shape, in order."""
    waiting: dict[tuple[int, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        waiting.setdefault(shape, []).append(number)
    for numbers in waiting.values():
        yield from (numbers[first : first + most] for first in range(0, len(numbers), most))


def _both_orders(
    network: Network, description: Description, fixed: Seen, moving: Seen, options: Mapping[str, Any]
) -> Tensor:
    """Ask in both orders when ``symmetric``: swapping the images then turns the velocity around."""

    def one(order: tuple[Seen, Seen]) -> Tensor:
        with torch.inference_mode():
            return network_velocity(network, description, *order)

    orders = [(fixed, moving), (moving, fixed)] if options["symmetric"] else [(fixed, moving)]
    found = _answer(one, orders, options["threads"])
    return (found[0] - found[1]) / 2 if options["symmetric"] else found[0]


def _answer(
    one: Callable[[tuple[Seen, Seen]], Tensor], orders: list[tuple[Seen, Seen]], threads: int
) -> list[Tensor]:
    """Ask for each order; on a CPU the answer's bytes do not depend on ``threads``."""
    samples = orders[0][0].samples
    if samples.is_cuda:
        return [one(order) for order in orders]
    workers = min(threads, len(orders)) if samples.numel() <= CONCURRENT_SAMPLES else 1

    def on_one_thread(order: tuple[Seen, Seen]) -> Tensor:
        with one_torch_thread():
            return one(order)

    with one_torch_thread(), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(on_one_thread, orders))


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


def _gain(fixed: Image, moving: Image, before: Transform, after: Transform) -> float:
    """Return by how much a transform raises local correlation and mutual information, together."""
    spacing = float((np.array(fixed.grid.size) * fixed.grid.spacing).max()) / EXAMINED_ACROSS
    grid = working_grid(fixed.grid, max(spacing, float(fixed.grid.spacing.min())))
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
