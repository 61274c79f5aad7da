"""Deformable registration by a trained network (Balakrishnan et al., 2019; Dalca et al., 2019).

MONAI's VoxelMorphUNet answers with a stationary velocity field. Integration, half resolution and
the inverse are our own: the velocity stays known, and its sign turned gives the inverse field.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regflow.core.boxes import Box, crop_image, find_bounding_box, make_whole_box
from regflow.core.devices import (
    choose_torch_device,
    enable_half_precision,
    map_over_threads,
    open_torch_session,
)
from regflow.core.errors import RegistrationError, SettingError
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.similarity import lncc, normalized_mutual_information
from regflow.core.transform import Affine, Composite, Transform
from regflow.methods.context import Pair, Prediction, RunContext
from regflow.methods.matching.matching_torch import join_batches
from regflow.methods.refine.greedy_options import GREEDY
from regflow.methods.refine.network import (
    Network,
    NetworkInput,
    Padding,
    choose_padding,
    crop_padding,
    normalize_intensity,
    pad_image,
    predict_velocity,
    prepare_input,
    stack_input,
)
from regflow.methods.refine.velocity_torch import (
    follow_displacement,
    integrate_velocity,
    resize_field,
    sample_channels,
    to_displacement_field,
)
from regflow.methods.refine.weights import NetworkDescription, choose_passes, load_network
from regflow.methods.refine.weights_files import find_weights
from regflow.methods.refine.working import make_working_grid, resample_both

log = logging.getLogger(__name__)

ACROSS = (32, 256)
"""Samples of the network's spacing along an object's longest side for which the networks of volumes are
trained: human organs. Larger and smaller objects are shown as if they had :data:`USUAL_ACROSS`."""
USUAL_ACROSS = 96
SURROUNDINGS = 8
"""Samples of the working spacing that the network sees around the fixed image's mask."""
EXAMINED_ACROSS = 128
"""Most samples along the longest side at which an answer is judged: finer ones decide the same."""
REFINED_RATIO = 2.0
"""Passes at this many of the image's own spacings, or finer, are left to the refinement: it does the same for
less on a CPU, and the result hardly differs."""
CONCURRENT_SAMPLES = 6_000_000
"""Up to this many samples both orders of a pair run side by side on a CPU; beyond, one after the
other, because each takes some 550 bytes per sample."""


def voxelmorph(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Refine an alignment by a trained network; options are ``learning_options.VOXELMORPH``.

    An answer that makes the images less alike than the initial transform is put aside: the refinement
    then starts from the initial transform. ``context.prediction`` holds the answer, if the network was
    asked before, with other pairs (:func:`predict_pairs`).

    Raises:
        RegistrationError: no trained network is given, or it is for another number of dimensions
            or channels, or its answer is worse than the initial transform and nothing refines it.
        InputError: the network's file is damaged, or an image is constant inside its mask.
        SettingError: ``refinement_options`` are none of greedy's.
    """
    answered = context.prediction or predict_pairs([Pair(fixed, moving, initial)], options, context)[0]
    refined, gained = answered.transform, answered.gain
    log.info("voxelmorph: the network changes the similarity by %+.4f", gained)
    if options["refinement"] == "none":
        if gained < 0:
            raise RegistrationError(
                f"the network's answer makes the images less alike ({gained:+.4f}) than the start"
            )
        return refined
    if gained < 0:
        log.warning("voxelmorph: the network's answer is worse than the start; the refinement begins at zero")
    return _refine_further(fixed, moving, refined if gained >= 0 else initial, options, context)


def predict_pairs(
    requests: Sequence[Pair], options: Mapping[str, Any], context: RunContext, batch: int = 1
) -> list[Prediction]:
    """Let the network answer for many pairs, whatever their sizes and spacings.

    On a GPU pairs of one size go through it ``batch`` at a time. When memory runs out, the batch is
    halved, then the working resolution, and in the end the CPU answers; the log says so.

    Args:
        requests: the pairs.
        options: of the method, complete.
        context: of the run.
        batch: most pairs at a time. On a CPU each goes alone: it gains nothing there, and so a
            pair's answer has the same bytes whatever else is asked.

    Raises:
        RegistrationError, InputError: as :func:`voxelmorph`.
    """
    device = choose_torch_device(options["device"])
    with open_torch_session(context.threads, context.seed):
        weights = find_weights(options["weights"], requests[0].fixed.grid.ndim if requests else None)
        network, description = load_network(weights, device)
        spacing = options["spacing_mm"] or description.spacing
        if options["spacing_mm"] is None:
            requests = [replace(each, unit=measure_world_unit(each.fixed, spacing)) for each in requests]
        for effort in _efforts(batch if device.type == "cuda" else 1, spacing, device):
            try:
                return predict_in_passes(network.to(effort.device), description, requests, effort, options)
            except torch.OutOfMemoryError:
                log.warning("voxelmorph: no memory for %s", effort)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
    raise RegistrationError("voxelmorph: the memory does not suffice even on the CPU; raise spacing_mm")


@dataclass(frozen=True)
class InferencePlan:
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


def _efforts(batch: int, spacing: float, device: torch.device) -> Iterator[InferencePlan]:
    """Yield what to try, in order, as memory runs out."""
    while batch > 1:
        yield InferencePlan(batch, spacing, device)
        batch //= 2
    yield InferencePlan(1, spacing, device)
    yield InferencePlan(1, 2 * spacing, device)
    if device.type != "cpu":
        yield InferencePlan(1, spacing, torch.device("cpu"))


def predict_in_passes(
    network: Network,
    description: NetworkDescription,
    requests: Sequence[Pair],
    effort: InferencePlan,
    options: Mapping[str, Any],
) -> list[Prediction]:
    """Ask a network about pairs, pass by pass.

    Args:
        network: the trained network, on the effort's device.
        description: how it was trained.
        requests: the pairs.
        effort: how many at a time, and how fine.
        options: ``symmetric``, ``precision``, ``passes`` and ``refinement``.

    Raises:
        RegistrationError: a pair has another number of dimensions or channels than the network.
    """
    for request in requests:
        _check(description, request.fixed)
    spacings = [effort.spacing * request.unit for request in requests]
    boxes = [_box(request.fixed, spacing) for request, spacing in zip(requests, spacings, strict=True)]
    inner = [
        replace(each, fixed=crop_image(each.fixed, box)) for each, box in zip(requests, boxes, strict=True)
    ]
    passes = [
        _passes(description, request.fixed, spacing, options)
        for request, spacing in zip(inner, spacings, strict=True)
    ]
    levels = [
        _levels(each, taken, description, replace(effort, spacing=spacing))
        for each, taken, spacing in zip(inner, passes, spacings, strict=True)
    ]
    totals: list[Tensor | None] = [None] * len(requests)
    for turn, (shrink, relaxation) in enumerate(description.cascade):
        asked = [number for number, taken in enumerate(passes) if turn < len(taken)]
        seen, before = [levels[number][shrink] for number in asked], [totals[number] for number in asked]
        velocities = predict_velocities(network, description, seen, before, effort, options)
        for number, velocity in zip(asked, velocities, strict=True):
            totals[number] = follow_displacement(integrate_velocity(relaxation * velocity), totals[number])
    return [
        Prediction(
            Composite((to_displacement_field(total, request.fixed.grid, box), request.initial)),
            level[_examined(level, request.fixed, spacing)].measure_gain(total),
        )
        for request, box, total, level, spacing in zip(requests, boxes, totals, levels, spacings, strict=True)
        if total is not None
    ]


def measure_world_unit(fixed: Image, spacing: float) -> float:
    """Return what counts as one world unit for an object, so that the network sees it at a size it knows.

    Scenes have no size of their own: a network sees their pixels.
    """
    if fixed.grid.ndim == 2:
        return 1.0
    box = make_whole_box(fixed.grid.shape) if fixed.mask is None else find_bounding_box(fixed.mask)
    sides = np.array([part.stop - part.start for part in box[::-1]]) * fixed.grid.spacing
    across = float(sides.max()) / spacing
    return 1.0 if ACROSS[0] <= across <= ACROSS[1] else across / USUAL_ACROSS


def _passes(
    description: NetworkDescription, fixed: Image, spacing: float, options: Mapping[str, Any]
) -> Sequence[float]:
    """Return the passes that the network is asked for about an image; the first one always."""
    own = float(fixed.grid.spacing.min())
    if options["refinement"] == "none" or options["passes"] == "all":
        chosen = choose_passes(description.passes, spacing, own)
    else:
        chosen = tuple(takewhile(lambda shrink: shrink * spacing > REFINED_RATIO * own, description.passes))
    return chosen or description.passes[:1]


def _box(fixed: Image, spacing: float) -> Box:
    """Return what the network sees of an image: where its mask is, and some surroundings."""
    if fixed.mask is None or not fixed.mask.any():
        return make_whole_box(fixed.grid.shape)
    margin = np.rint(SURROUNDINGS * np.maximum(1.0, spacing / fixed.grid.spacing[::-1]))
    return find_bounding_box(fixed.mask, margin.astype(int).tolist())


@dataclass(frozen=True, eq=False)
class NetworkLevel:
    """A pair on the grid of a pass, brought together by its initial transform.

    Attributes:
        fixed: what the network sees of the fixed image, padded.
        moving: ``(1, 1, *shape)`` intensities as trained.
        padding: samples added before and after each axis.
        pair: the images themselves.
    """

    fixed: NetworkInput
    moving: Tensor
    padding: Padding
    pair: tuple[Image, Image]

    def warp_moving(self, total: Tensor | None) -> Tensor:
        """Return the moving image as a displacement ``(1, d, *)`` over the extent moves it."""
        if total is None:
            return self.moving
        return sample_channels(self.moving, resize_field(total, self.moving.shape[2:]))

    def measure_gain(self, total: Tensor) -> float:
        """Return by how much a displacement raises local correlation and mutual information, together."""
        fixed, moving = self.pair
        assert moving.mask is not None
        seen = moving.mask if fixed.mask is None else fixed.mask & moving.mask
        alike = []
        for displacement in (None, total):
            values = fixed.channel, self.warp_moving(displacement)[0, 0].cpu().numpy(), seen
            alike.append(lncc(*values) + normalized_mutual_information(*values))
        return alike[1] - alike[0]


def predict_velocities(
    network: Network,
    description: NetworkDescription,
    levels: Sequence[NetworkLevel],
    totals: Sequence[Tensor | None],
    effort: InferencePlan,
    options: Mapping[str, Any],
) -> list[Tensor]:
    """Ask a network once about each pair, of any size; those of one size together.

    Args:
        network: the trained network.
        description: how it was trained.
        levels: the pairs.
        totals: displacements ``(1, d, *)`` found so far, in samples of their grids; None for none.
        effort: how many at a time, and where.
        options: ``symmetric`` and ``precision``.

    Returns:
        For each ``(1, d, *)`` velocity over the extent of the pair's grid, coarser by
        ``description.shrink``, in samples of its own grid.
    """
    found: dict[int, Tensor] = {}
    for numbers in _alike([level.moving.shape for level in levels], effort.batch):
        moved = [pad_image(levels[k].warp_moving(totals[k]), levels[k].padding) for k in numbers]
        fixed = _stacked([levels[k].fixed for k in numbers])
        velocity = _both_orders(
            network, description, fixed, prepare_input(description, join_batches(moved)), options
        )
        for number, part in zip(numbers, velocity.split(1), strict=True):
            found[number] = crop_padding(part, levels[number].padding, description)
    return [found[number] for number in range(len(levels))]


def _levels(
    request: Pair, passes: Sequence[float], description: NetworkDescription, effort: InferencePlan
) -> dict[float, NetworkLevel]:
    """Return a pair's level by pass, the coarser ones made from the finest."""
    levels: dict[float, NetworkLevel] = {}
    for shrink in sorted(set(passes)):
        levels[shrink] = _level(request, effort.spacing * shrink, description, effort.device)
        request = Pair(*levels[min(levels)].pair, Affine.identity(request.fixed.grid.ndim))
    return levels


def _level(
    request: Pair, spacing: float, description: NetworkDescription, device: torch.device
) -> NetworkLevel:
    grid = make_working_grid(request.fixed.grid, spacing, description.shrink)
    pair = resample_both(request.fixed, request.moving, request.initial, grid)
    fixed, moving = (normalize_intensity(image, description).to(device) for image in pair)
    padding = choose_padding(grid.shape, description)
    return NetworkLevel(prepare_input(description, pad_image(fixed, padding)), moving, padding, pair)


def _examined(passes: Iterable[float], fixed: Image, spacing: float) -> float:
    """Return the finest pass whose images are quickly compared; the coarsest if none is."""
    longest = float((np.array(fixed.grid.size) * fixed.grid.spacing).max())
    passes = sorted(passes)
    fitting = [shrink for shrink in passes if longest / (spacing * shrink) <= EXAMINED_ACROSS]
    return fitting[0] if fitting else passes[-1]


def _stacked(seen: Sequence[NetworkInput]) -> NetworkInput:
    described = zip(*[each.descriptors for each in seen], strict=True)
    return NetworkInput(
        join_batches([each.samples for each in seen]), tuple(join_batches(each) for each in described)
    )


def _check(description: NetworkDescription, image: Image) -> None:
    if description.ndim != image.grid.ndim:
        raise RegistrationError(
            f"the network is for {description.ndim}-D images and these are {image.grid.ndim}-D; "
            "give other weights"
        )
    if len(image.data) != 1:
        raise RegistrationError(f"the network takes one channel and the images have {len(image.data)}")


def _alike(shapes: Sequence[tuple[int, ...]], most: int) -> Iterator[list[int]]:
    """Yield the numbers of up to ``most`` pairs of one shape, in order."""
    waiting: dict[tuple[int, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        waiting.setdefault(shape, []).append(number)
    for numbers in waiting.values():
        yield from (numbers[first : first + most] for first in range(0, len(numbers), most))


def _both_orders(
    network: Network,
    description: NetworkDescription,
    fixed: NetworkInput,
    moving: NetworkInput,
    options: Mapping[str, Any],
) -> Tensor:
    """Ask in both orders when ``symmetric``: swapping the images then turns the velocity around."""
    orders = [(fixed, moving), (moving, fixed)] if options["symmetric"] else [(fixed, moving)]
    device, inputs = fixed.samples.device, [stack_input(description, *order) for order in orders]

    def one(seen: Tensor) -> Tensor:
        with torch.inference_mode(), enable_half_precision(device, options["precision"]):
            return predict_velocity(network, description, seen)

    together = None if fixed.samples.numel() <= CONCURRENT_SAMPLES else 1
    found = (
        [one(seen) for seen in inputs] if device.type == "cuda" else map_over_threads(one, inputs, together)
    )
    return (found[0] - found[1]) / 2 if options["symmetric"] else found[0]


def _refine_further(
    fixed: Image, moving: Image, start: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Let the greedy engine go on from the network's field, which leads the composite."""
    from regflow.methods.refine.greedy import greedy

    unknown = sorted(set(options["refinement_options"]) - set(GREEDY))
    if unknown:
        raise SettingError(f"voxelmorph: refinement_options: greedy has no option '{unknown[0]}'")
    chosen = fill_defaults(GREEDY, {"device": options["device"], **options["refinement_options"]})
    return greedy(fixed, moving, start, chosen, context)
