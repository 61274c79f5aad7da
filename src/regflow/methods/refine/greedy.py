"""Our diffeomorphic engine: greedy compositive updates along analytic forces.

The displacement is built from many small smooth steps. Each iteration takes the gradient of the
similarity at the present displacement, smooths it, scales it to at most one sample, adds a share of the
step before, COMPOSES the sum with the displacement and smooths that lightly; products of small smooth
steps do not fold.

Sources: Avants et al., Medical Image Analysis 12(1):26-41, 2008 (force of the local correlation);
Yushkevich et al., Alzheimer's & Dementia 12(7S):P126, 2016 (the greedy scheme); Polyak, USSR Comp. Math.
and Math. Physics 4(5):1-17, 1964 (steps that carry on); Heinrich et al., 2012
(:mod:`regflow.methods.refine.mind`).
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.boxes import Box, crop_image, extend_field, find_bounding_box, make_whole_box
from regflow.core.errors import RegistrationError, SettingError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.sampling import sample_channel
from regflow.core.transform import (
    Composite,
    DisplacementField,
    Transform,
    compose_transforms,
    flatten_transform,
)
from regflow.methods.context import RunContext
from regflow.methods.preprocess.masks import fill_holes
from regflow.methods.refine.greedy_contrast import prepare_level, resolve_metric
from regflow.methods.refine.greedy_level import GreedyLevel, LevelSolution
from regflow.methods.refine.greedy_pyramid import (
    MARGIN_SAMPLES,
    PER_LEVEL,
    LevelImages,
    build_level,
    grow_mask,
    prepare_pyramid,
)

log = logging.getLogger(__name__)

Array = NDArray[np.float32]
Solve = Callable[[GreedyLevel, Array], LevelSolution]

SMALLEST_DETERMINANT = 0.01
"""Of the Jacobian, guaranteed by :func:`smooth_folds`."""
UNFOLD_ROUNDS = 50


def greedy(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Refine an alignment; options are ``greedy_options.GREEDY``.

    A displacement field on the fixed grid at the head of ``initial`` (a network's answer) is taken
    for the start and refined in place: the result has one field. It is defined on the whole fixed
    grid; away from the mask it repeats what it is near it. The first channels are matched.

    Raises:
        RegistrationError: an image is constant where it counts, or no sample counts.
        SettingError: options of the levels have unequal lengths.
    """
    first, other = (image.with_data(image.channel) for image in (fixed, moving))
    return deform_by_greedy_steps(first, other, initial, options, context)


def deform_by_greedy_steps(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Refine an alignment as :func:`greedy` does, guided by further channels where the images have some.

    These are matched by squared differences, in their own units, beside the first ones.
    """
    from regflow.core import fields

    start, rest = _taken_apart(initial, fixed.grid)
    box = _box(fixed, options)
    inner = crop_image(fixed, box)
    seen = _steering(moving, options["masks"])
    low = float(moving.channel.min())
    moved = sample_channel(moving.channel, moving.grid, inner.grid, rest, "cubic", low)
    valid = resample_array(
        np.ones(moving.grid.shape, bool) if seen is None else seen, moving.grid, inner.grid, rest, "nearest"
    )
    field = refine_field(
        np.asarray(inner.channel),
        moved,
        mask=inner.mask if options["masks"] != "none" else None,
        valid=valid,
        start=None if start is None else start[(slice(None), *box)],
        spacing=fixed.grid.spacing[::-1],
        options=options,
        context=context,
        guides=_bring_guides(inner, moving, rest),
    )
    vectors = fields.to_world(extend_field(field, box, fixed.grid.shape), fixed.grid)
    return Composite((DisplacementField(vectors, fixed.grid), rest))


def _bring_guides(fixed: Image, moving: Image, transform: Transform) -> tuple[Array, Array] | None:
    """Return the channels after the first of both images on the fixed grid; None where there are none."""
    if len(fixed.data) == 1:
        return None
    moved = [
        sample_channel(
            np.asarray(channel, np.float32), moving.grid, fixed.grid, transform, outside=float(channel.min())
        )
        for channel in moving.data[1:]
    ]
    return np.asarray(fixed.data[1:], np.float32), np.stack(moved)


def _steering(moving: Image, masks: str) -> NDArray[np.bool_] | None:
    """Return which samples of the moving image may steer, by the option ``masks``; None for all.

    What surrounds the object shows its outline and steers, too, but what was cut out of it has no
    partner: there a field follows a lesion, and its intensities may pass for another contrast.
    """
    if moving.mask is None or masks in ("fixed", "none"):
        return None
    if masks == "both":
        return moving.mask
    holes = fill_holes(moving.mask) & ~moving.mask
    return ~holes if holes.any() else None


def _box(fixed: Image, options: Mapping[str, Any]) -> Box:
    """Return the part of the fixed image that :func:`refine_field` looks at: its mask and a margin."""
    if options["masks"] == "none" or fixed.mask is None or not fixed.mask.any():
        return make_whole_box(fixed.grid.shape)
    widths = fixed.grid.spacing[::-1] / fixed.grid.spacing.min()
    return find_bounding_box(
        fixed.mask, [MARGIN_SAMPLES + round(options["margin"] / width) for width in widths]
    )


def refine_field(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    *,
    mask: NDArray[np.bool_] | None = None,
    valid: NDArray[np.bool_] | None = None,
    start: Array | None = None,
    spacing: Sequence[float] | NDArray[np.float64] | None = None,
    options: Mapping[str, Any],
    context: RunContext,
    guides: tuple[Array, Array] | None = None,
) -> Array:
    """Refine a voxel field on arrays of one grid, 2-D or 3-D.

    Args:
        fixed: the fixed image, ``shape``.
        moving: the moving image on the same grid.
        mask: samples of the fixed image that steer; None for all.
        valid: samples of ``moving`` that may steer; None for all.
        start: voxel field ``(d, *shape)`` to start from; None for no displacement.
        spacing: of the samples in array order, any unit; None for equal spacing.
        options: of the method, complete.
        context: of the run.
        guides: further channels ``(C, *shape)`` of both images, matched by squared differences beside them.

    Returns:
        Float32 voxel field ``(d, *shape)``, components in array order.

    Raises:
        RegistrationError, SettingError: as :func:`greedy`.
    """
    _check_levels(options)
    widths = np.ones(fixed.ndim) if spacing is None else np.asarray(spacing, np.float64) / np.min(spacing)
    pair = prepare_pyramid(fixed, moving, mask, valid, widths, options, guides)
    inner = np.zeros((3, *pair.weights.shape), np.float32)
    if start is not None:
        inner[_axes(fixed.ndim)] = start[(slice(None), *pair.window)].reshape(fixed.ndim, *pair.weights.shape)
    with _solver(options["device"], context) as solve:
        options = resolve_metric(options, pair)
        log.info("greedy: metric %s", options["metric"])
        for number in range(len(options["shrink"])):
            inner = _run_level(pair, inner, number, options, solve)
        inner = smooth_folds(inner)
    field = inner[_axes(fixed.ndim)].reshape(fixed.ndim, *[s.stop - s.start for s in pair.window])
    return extend_field(field, pair.window, fixed.shape)


def _run_level(
    pair: LevelImages, field: Array, number: int, options: Mapping[str, Any], solve: Solve
) -> Array:
    """Run one level; the field comes and goes at full resolution's or the last level's shape."""
    from regflow.core import fields

    options, pair = prepare_level(options, pair, field, number)
    level = build_level(pair, number, options)
    began = time.perf_counter()
    solved = solve(level, fields.resize_displacement(field, level.weights.shape))
    log.info(
        "greedy: level %d of %d, %s samples, %d iterations, similarity %.5f, %.2f s",
        number + 1,
        len(options["shrink"]),
        "x".join(str(n) for n in level.weights.shape if n > 1),
        len(solved.similarities),
        solved.similarities[-1] if solved.similarities else float("nan"),
        time.perf_counter() - began,
    )
    last = number + 1 == len(options["shrink"])
    return fields.resize_displacement(solved.field, pair.weights.shape) if last else solved.field


def _taken_apart(initial: Transform, grid: Grid) -> tuple[Array | None, Transform]:
    """Split a leading field on ``grid`` from a transform: its voxel field, and what follows."""
    parts = list(flatten_transform([initial]))
    if not isinstance(parts[0], DisplacementField) or not parts[0].grid.matches(grid) or len(parts) == 1:
        return None, initial
    from regflow.core import fields

    return fields.to_voxels(parts[0].vectors, grid), compose_transforms(*parts[1:])


def _check_levels(options: Mapping[str, Any]) -> None:
    levels = len(options["shrink"])
    for name in PER_LEVEL:
        if options[name] is not None and len(options[name]) != levels:
            raise SettingError(
                f"greedy: option '{name}' has {len(options[name])} values for the {levels} levels of 'shrink'"
            )


def _axes(ndim: int) -> list[int]:
    """Components of a volume's field that a 2-D or 3-D field has."""
    return [0, 2] if ndim == 2 else [0, 1, 2]


@contextmanager
def _solver(device: str, context: RunContext) -> Iterator[Solve]:
    """Choose where to compute: numba on the CPU, or torch on a GPU."""
    from regflow.core.devices import choose_torch_device, limit_numba_threads, list_usable_devices

    # Looking for a GPU costs torch's import: not where there is no such device.
    sought = device == "cuda" or (device == "auto" and list_usable_devices())
    if not sought or choose_torch_device(device).type == "cpu":
        from regflow.methods.refine.greedy_cpu import solve_level

        with limit_numba_threads(context.threads):
            yield solve_level
    else:
        from regflow.methods.refine.greedy_torch import open_torch_solver

        with open_torch_solver(device, context.threads, context.seed) as solve_on_gpu:
            yield solve_on_gpu


def smooth_folds(field: Array) -> Array:
    """Smooth a voxel field where it folds, wider with every round, until it folds nowhere.

    Raises:
        RegistrationError: it folds even then.
    """
    from scipy.ndimage import gaussian_filter

    from regflow.core import fields

    for rounds in range(UNFOLD_ROUNDS):
        folded = fields.compute_jacobian_determinant(field) < SMALLEST_DETERMINANT
        if not folded.any():
            return field
        reach = grow_mask(folded, 2 + rounds, np.ones(folded.ndim)).astype(np.float32)
        share = gaussian_filter(reach, 1.0)
        field = np.stack([u + share * (gaussian_filter(u, 1.0, mode="nearest") - u) for u in field])
    raise RegistrationError("the field folds even after smoothing; raise the smoothing among the options")
