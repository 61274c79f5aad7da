"""A dense field for relief and local distortion: chunk by chunk, with a halo, blended without seams.

Every chunk is refined by itself, on pixels that the start has brought within reach, by an engine that
volumes use too. Weights that rise over the halo and add up to one join the chunks' fields.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.blocks import read_block
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, DisplacementField, Transform, compose_transforms
from regflow.methods.context import RunContext, open_run_workers
from regflow.methods.result import MethodResult

log = logging.getLogger(__name__)

Array = NDArray[Any]
Window = tuple[slice, slice]
Engine = Callable[[Array, Array, Array, Mapping[str, Any], RunContext], Array]
"""Fixed pixels, moving pixels on them, where both are valid, options and context; gives a field
``(2, h, w)`` of rows and columns."""

Refiner = Callable[[Image, Image, Transform, Mapping[str, Any], RunContext], Transform]

STEP_PX = 4
MOST_NODES = 4096
"""Along the longer side of the field."""
SIDE_BY_SIDE = ("greedy",)
"""Engines that refine several chunks at once, each on a thread; torch divides the work of one itself."""
BYTES_PER_PIXEL = 120
"""That refining a chunk takes, of its window: pixels, fields, and sums over their surroundings."""
LEAST_VALID = 0.05
"""Share of a chunk that must be valid in both scenes to be refined."""
MARGIN_PX = 4
"""Read beyond what a chunk's window reaches in the moving scene, for interpolation."""

FOR_SCENES: dict[str, dict[str, Any]] = {
    "greedy": {
        "shrink": [2, 1],
        "iterations": [60, 25],
        "radius": [4, 6],
        "update_sigma": [4.0, 6.0],
        "field_sigma": [0.5, 0.5],
        "masks": "both",
        "device": "cpu",
    },
    "instance-optimization": {
        "loss": "lncc",
        "radius": 6,
        "shrink": [2, 1],
        "iterations": [40, 40],
        "masks": "both",
        "weights": "scenes2d",
    },
    "voxelmorph": {
        "weights": "scenes2d",
        "passes": "all",
        "refinement_options": {
            "shrink": [1],
            "iterations": [15],
            "radius": [6],
            "update_sigma": [6.0],
            "field_sigma": [0.5],
            "masks": "both",
        },
    },
}
"""What the engines take in place of their defaults: wide windows, because scenes are noise and texture
at the pixel, and their displacements smooth."""


@dataclass(frozen=True)
class Chunk:
    """A part of the fixed scene: the window that is refined, and the one that it alone decides."""

    outer: Window
    inner: Window


def dense(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Refine an alignment of two scenes densely; options are ``dense_options.DENSE``.

    The scenes may be lazy; windows of their first channels are read. The tie points that the field starts
    from come back with it.

    Raises:
        RegistrationError: no chunk has enough valid pixels in both scenes, or the engine refuses all.
    """
    begun = _start(fixed, moving, initial, options, context)
    start = begun.transform
    step = options["step_px"] or max(STEP_PX, math.ceil(max(fixed.grid.size) / MOST_NODES))
    shape = tuple(math.ceil((n - 1) / step) + 1 for n in fixed.grid.shape)
    field, weights = np.zeros((2, *shape)), np.zeros(shape)
    refined = 0
    parts = list(split_chunks(fixed.grid.shape, options["chunk_px"], options["halo_px"]))
    # In their order: sums of floats depend on it.
    for chunk, found in zip(parts, _each(parts, fixed, moving, start, options, context), strict=True):
        if found is not None:
            refined += 1
        add_chunk(field, weights, chunk, found, step, fixed.grid.shape)
    if not refined:
        raise RegistrationError(
            "dense: no chunk could be refined: the scenes have too few valid pixels in common, or the engine "
            "refused them; the log says why"
        )
    log.info("dense: %d chunks refined by %s", refined, options["engine"])
    pixels = (field / np.maximum(weights, 1e-12))[::-1]
    vectors = np.einsum("ij,jhw->ihw", fixed.grid.affine[:2, :2], pixels)
    coarse = Grid(shape, fixed.grid.affine @ np.diag([step, step, 1.0]), fixed.grid.crs)
    field_on_start = compose_transforms(DisplacementField(vectors.astype(np.float32), coarse), start)
    return MethodResult(field_on_start, begun.tie_points)


def _each(
    parts: Sequence[Chunk],
    fixed: Image,
    moving: Image,
    start: Transform,
    options: Mapping[str, Any],
    context: RunContext,
) -> Iterator[Array | None]:
    """Refine chunks, side by side where the engine lets them; yield their fields in order."""
    from regflow.core.chunks import map_blocks

    aside = options["engine"] in SIDE_BY_SIDE and len(parts) > 1
    alone = RunContext(threads=1 if aside else context.threads, seed=context.seed)
    engine, settings = ENGINES[options["engine"]], complete_engine_options(options)
    work = partial(_refine, fixed, moving, start, engine, settings, alone)
    if not aside:
        yield from map(work, parts)
        return
    size = BYTES_PER_PIXEL * (options["chunk_px"] + 2 * options["halo_px"]) ** 2
    with open_run_workers(context) as workers:
        yield from map_blocks(work, parts, workers, describe="dense field", item_bytes=size)


def complete_engine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's options, complete."""
    from regflow.methods.refine import METHODS

    name = options["engine"]
    given = {**FOR_SCENES[name], **options["engine_options"]}
    return METHODS[name].complete(given)


def split_chunks(shape: tuple[int, ...], side: int, halo: int) -> Iterator[Chunk]:
    """Yield the chunks of a scene of ``shape``, row by row, as equal as whole pixels allow."""
    cuts = [np.linspace(0, n, max(1, math.ceil(n / side)) + 1).round().astype(int) for n in shape]
    for top, bottom in zip(cuts[0], cuts[0][1:], strict=False):
        for left, right in zip(cuts[1], cuts[1][1:], strict=False):
            inner = slice(int(top), int(bottom)), slice(int(left), int(right))
            rows, cols = (
                slice(max(part.start - halo, 0), min(part.stop + halo, n))
                for part, n in zip(inner, shape, strict=True)
            )
            yield Chunk((rows, cols), inner)


def add_chunk(
    field: Array, weights: Array, chunk: Chunk, found: Array | None, step: int, shape: tuple[int, ...]
) -> None:
    """Add a chunk's field, at the nodes that its outer window holds, with its weights.

    Args:
        field: ``(2, rows, cols)`` weighted sum at the nodes, changed in place.
        weights: sum of weights, changed in place.
        chunk: where the field lies.
        found: ``(2, h, w)`` over the outer window; None for no displacement.
        step: pixels between nodes.
        shape: of the scene.
    """
    nodes, ramps = [], []
    for outer, inner, size in zip(chunk.outer, chunk.inner, shape, strict=True):
        last = -(-(size - 1) // step) * step
        # The last node may lie beyond the last pixel: it takes the border's value.
        places = np.arange(
            -(-outer.start // step) * step, (last if outer.stop == size else outer.stop - 1) + 1, step
        )
        nodes.append(places)
        ramps.append(_ramp(places, outer, inner))
    weight = ramps[0][:, None] * ramps[1][None, :]
    at = tuple(slice(int(places[0]) // step, int(places[-1]) // step + 1) for places in nodes)
    weights[at] += weight
    if found is not None:
        rows, cols = (
            np.minimum(places, outer.stop - 1) - outer.start
            for places, outer in zip(nodes, chunk.outer, strict=True)
        )
        field[:, at[0], at[1]] += weight * found[:, rows[:, None], cols[None, :]]


def _ramp(places: Array, outer: slice, inner: slice) -> Array:
    """Return weights along an axis: they rise over the overlap so that neighbors' add up to one."""
    weight = np.ones(len(places))
    for edge, reach, sign in (
        (inner.start, inner.start - outer.start, 1.0),
        (inner.stop, outer.stop - inner.stop, -1.0),
    ):
        if reach > 0:
            share = np.clip(0.5 + sign * (places - edge) / (2.0 * reach), 0.0, 1.0)
            weight *= share * share * (3.0 - 2.0 * share)
    return weight


def _start(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Return the tie points' transform; the initial one where they are not wanted or do not suffice."""
    if options["tie_points"] is None:
        return MethodResult(initial)
    from regflow.methods.refine import METHODS
    from regflow.methods.refine.tie_points import tie_points

    settings = METHODS["tie-points"].complete(options["tie_points"])
    try:
        return tie_points(fixed, moving, initial, settings, context)
    except RegistrationError as error:
        log.info("dense: starts without tie points: %s", error)
        return MethodResult(initial)


def _refine(
    fixed: Image,
    moving: Image,
    start: Transform,
    engine: Engine,
    settings: Mapping[str, Any],
    context: RunContext,
    chunk: Chunk,
) -> Array | None:
    """Return a chunk's field over its outer window; None where there is too little to compare."""
    here = read_block(fixed, *chunk.outer)
    moved, seen = warp_scene_window(fixed.grid, moving, start, chunk.outer)
    valid = here.valid & seen
    if valid.mean() < LEAST_VALID:
        return None
    try:
        return engine(here.values[0], moved, valid, settings, context)
    except RegistrationError as error:
        log.info("dense: a chunk is left as it is: %s", error)
        return None


def warp_scene_window(
    fixed: Grid, moving: Image, transform: Transform, window: Window
) -> tuple[Array, Array]:
    """Return the moving scene on a window of the fixed one, and where it is valid."""
    from scipy.ndimage import map_coordinates

    rows, cols = (np.arange(part.start, part.stop) for part in window)
    lattice = np.stack(np.meshgrid(cols, rows), axis=-1).reshape(-1, 2)
    there = moving.grid.to_index(transform.apply(fixed.to_world(lattice)))
    first = np.floor(there.min(axis=0)).astype(int) - MARGIN_PX
    last = np.ceil(there.max(axis=0)).astype(int) + MARGIN_PX + 1
    first, last = np.maximum(first, 0), np.minimum(last, moving.grid.size)
    shape = len(rows), len(cols)
    if (first >= last).any():
        return np.zeros(shape, np.float32), np.zeros(shape, bool)
    block = read_block(moving, slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0])))
    places = (there - first)[:, ::-1].T.reshape(2, *shape)
    values = map_coordinates(block.values[0], places, order=3, mode="nearest")
    share = map_coordinates(block.valid.astype(np.float32), places, order=1, mode="constant")
    return values.astype(np.float32), np.asarray(share > 0.999)


def _greedy(
    fixed: Array, moving: Array, valid: Array, options: Mapping[str, Any], context: RunContext
) -> Array:
    from regflow.methods.refine.greedy import refine_field

    return refine_field(fixed, moving, mask=valid, valid=valid, options=options, context=context)


def _instance_optimization(
    fixed: Array, moving: Array, valid: Array, options: Mapping[str, Any], context: RunContext
) -> Array:
    from regflow.methods.refine.instance_optimization import instance_optimization

    return _on_pixels(instance_optimization, fixed, moving, valid, options, context)


def _voxelmorph(
    fixed: Array, moving: Array, valid: Array, options: Mapping[str, Any], context: RunContext
) -> Array:
    from regflow.methods.refine.voxelmorph import voxelmorph

    return _on_pixels(voxelmorph, fixed, moving, valid, options, context)


def _on_pixels(
    method: Refiner,
    fixed: Array,
    moving: Array,
    valid: Array,
    options: Mapping[str, Any],
    context: RunContext,
) -> Array:
    """Run a method of whole images on a chunk, whose world is its pixels."""
    grid = Grid(fixed.shape, np.eye(3))
    one, other = (Image(values[None], grid, valid) for values in (fixed, moving))
    found = method(one, other, Affine.identity(2), options, context)
    rows, cols = np.indices(fixed.shape)
    points = np.stack([cols, rows], axis=-1).reshape(-1, 2).astype(np.float64)
    return (found.apply(points) - points).T.reshape(2, *fixed.shape)[::-1].astype(np.float32)


ENGINES: dict[str, Engine] = {
    "greedy": _greedy,
    "instance-optimization": _instance_optimization,
    "voxelmorph": _voxelmorph,
}
