"""How the intensities of two images relate: one contrast or two, and one image in the other's contrast.

Source: intensities brought to the other image's contrast while registering, Guimond et al., IEEE Trans.
Medical Imaging 20(1):58-69, 2001.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.contrast import (
    BLUR_SIGMA,
    EXPLAINED,
    average_by_intensity,
    correlation_ratio,
    erode_deeply,
    map_intensities,
)
from regflow.methods.refine import greedy_kernels as kernels
from regflow.methods.refine.greedy_level import make_half_gaussian
from regflow.methods.refine.greedy_pyramid import LevelImages

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

MOST_COMPARED = 300_000
"""Samples by which intensities are related, about: more say the same."""
LIKE_SHARE = 0.6
"""Of what any function of the intensities explains, the part that a rising straight line must, for two
images to count as one contrast. T1-weighted pairs have 0.98, T1 and T2 0.01."""

UPDATE_SIGMA = {
    "lncc": (3.0, 2.5, 2.0),
    "mse": (3.0, 2.5, 2.0),
    "mind": (5.0, 5.0, 5.0),
    "mapped": (5.0, 4.0, 3.5),
}
"""Smoothing of updates, coarsest level first; the last value serves further levels. Two contrasts share
fewer edges, so that more must come from smoothness."""


def resolve_metric(options: Mapping[str, Any], pair: LevelImages) -> dict[str, Any]:
    """Return the options with the metric ``auto`` resolved for a pair."""
    metric = options["metric"]
    if metric == "auto":
        metric = "lncc" if has_linear_contrast(pair) else "mapped"
    return {**options, "metric": metric}


def prepare_level(
    options: Mapping[str, Any], pair: LevelImages, field: Array, number: int
) -> tuple[dict[str, Any], LevelImages]:
    """Return the options and images of one level.

    ``mapped`` means descriptors on the first level that iterates; all further ones have the fixed image
    in the moving one's contrast and local correlation, if the alignment so far shows how they relate.

    Args:
        options: settled.
        pair: both images.
        field: the voxel field so far, ``(3, Z, Y, X)`` of any level's shape.
        number: of the level.
    """
    if options["metric"] == "correlation":
        # The correlation of the whole images is highest where squared differences are least, once both have
        # one mean and spread.
        return {**_smoothed(options, "mse"), "metric": "mse"}, match_spread(pair, field)
    if options["metric"] != "mapped":
        return _smoothed(options, options["metric"]), pair
    used = [n for n, iterations in enumerate(options["iterations"]) if iterations > 0]
    brought = match_contrast(pair, field) if number in (used[1:] or used) else None
    if brought is None:
        return {**_smoothed(options, "mind"), "metric": "mind"}, pair
    return {**_smoothed(options, "mapped"), "metric": "lncc"}, brought


def _smoothed(options: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return the options with the smoothing of updates that a metric takes where none is given."""
    usual = UPDATE_SIGMA[metric]
    levels = range(len(options["shrink"]))
    return {
        **options,
        "update_sigma": options["update_sigma"] or [usual[min(n, len(usual) - 1)] for n in levels],
    }


def has_linear_contrast(pair: LevelImages) -> bool:
    """Tell whether a rising straight line says nearly as much as any function of the intensities."""
    both = _blurred(pair, np.stack([pair.fixed, pair.moving]))
    fixed, moving = _compared(both, erode_deeply(pair.inside > 0.5), pair.valid)
    if not (fixed.std() > 0 and moving.std() > 0):
        return True
    correlation = float(np.corrcoef(fixed, moving)[0, 1])
    best = max(correlation_ratio(fixed, moving), correlation_ratio(moving, fixed))
    return correlation > 0 and correlation**2 >= LIKE_SHARE * best


def match_spread(pair: LevelImages, field: Array) -> LevelImages:
    """Return the pair with the fixed image linearly in the moving one's intensities, whatever their sign.

    Args:
        pair: both images.
        field: the voxel field so far, ``(3, Z, Y, X)`` of any level's shape.
    """
    both = _blurred(pair, _pull_moving(pair, field))
    fixed, moving = (part.astype(np.float64) for part in _compared(both, pair.inside > 0.5, pair.valid))
    if not (fixed.std() > 0 and moving.std() > 0):
        return pair
    sign = -1.0 if np.mean((fixed - fixed.mean()) * (moving - moving.mean())) < 0 else 1.0
    slope = np.float32(sign * moving.std() / fixed.std())
    return replace(pair, fixed=np.float32(moving.mean()) + slope * (pair.fixed - np.float32(fixed.mean())))


def match_contrast(pair: LevelImages, field: Array) -> LevelImages | None:
    """Return the pair with the fixed image in the moving one's contrast; None if they hardly relate.

    The object and what surrounds it are mapped each by itself: dark around a brain, dark fluid inside it.

    Args:
        pair: both images.
        field: the voxel field so far, ``(3, Z, Y, X)`` of any level's shape.
    """
    both = _blurred(pair, _pull_moving(pair, field))
    fixed, moving = _compared(both, erode_deeply(pair.inside > 0.5), pair.valid)
    explained = correlation_ratio(fixed, moving)
    log.info("fixed intensities explain %.2f of the moving ones", explained)
    if explained < EXPLAINED:
        return None
    mapped = map_intensities(average_by_intensity(fixed, moving), pair.fixed)
    around = (pair.weights > 0.5) & (pair.inside <= 0.5)
    if around.any():
        share = _blurred(pair, pair.inside[None])[0]
        mapped *= share
        mapped += (1 - share) * map_intensities(
            average_by_intensity(*_compared(both, around, pair.valid)), pair.fixed
        )
    return replace(pair, fixed=mapped)


def _pull_moving(pair: LevelImages, field: Array) -> Array:
    """Return both images ``(2, Z, Y, X)``, the moving one where a field of any level's shape leads."""
    from regflow.core import fields

    whole = kernels.make_full_spans(pair.weights.shape)
    both = np.stack([pair.fixed, pair.moving])
    field = fields.resize_displacement(field, pair.weights.shape)
    kernels.pull_channels(pair.moving[None], field, whole, both[1:])
    return both


def _compared(both: Array, inside: NDArray[np.bool_], valid: Array | None) -> tuple[Array, Array]:
    """Return samples of both images ``(2, Z, Y, X)`` inside a mask and where the moving one has some."""
    if valid is not None:
        inside = inside & (valid > 0.5)
    every = max(1, int(inside.sum()) // MOST_COMPARED)
    return both[0][inside][::every], both[1][inside][::every]


def _blurred(pair: LevelImages, stack: Array) -> Array:
    """Blur images ``(n, Z, Y, X)`` on the pair's samples."""
    taps = [make_half_gaussian(BLUR_SIGMA / width) for width in pair.spacing]
    blurred = np.empty_like(stack)
    kernels.smooth_channels(stack, *taps, kernels.make_full_spans(stack.shape[1:]), blurred)
    return blurred
