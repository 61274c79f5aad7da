"""How the intensities of two images relate: one contrast or two, and one image in the other's contrast.

Sources: the correlation ratio of Roche et al., MICCAI 1998, LNCS 1496:1115-1124; intensities brought
to the other image's contrast while registering, Guimond et al., IEEE Trans. Medical Imaging
20(1):58-69, 2001.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.refine import greedy_kernels as kernels
from regflow.methods.refine.greedy_level import half_gaussian
from regflow.methods.refine.greedy_pyramid import Pair

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

BINS = 64
RANGE = (-0.25, 1.25)
"""Intensities that are told apart, for images scaled to about [0, 1]."""
BIN_SIGMA = 1.0
FEWEST = 1e-4
"""Share of all samples by which a bin's mean is drawn towards the mean of all."""
BLUR_SIGMA = 0.7
"""Of both images before they are compared, in samples: noise flattens a mean by intensity."""
MOST_COMPARED = 300_000
"""Samples by which intensities are related, about: more say the same."""
LIKE_SHARE = 0.6
"""Of what any function of the intensities explains, the part that a rising straight line must, for two
images to count as one contrast. T1-weighted pairs have 0.98, T1 and T2 0.01."""
DEPTH = 2
"""Samples from the mask's border that intensities are related at. Nearer to it they are part background,
which is dark in any contrast: outlines make two contrasts look like one, and mix with what tissue means."""
DEEP_SHARE = 0.1
"""Least part of the mask that must lie so deep."""
EXPLAINED = 0.25
"""Least part of the moving image's variance that the fixed one's intensities must explain to stand for it.
Two brains of two contrasts have 0.3 while they are half aligned, 0.65 in the end; noise has none."""

UPDATE_SIGMA = {
    "lncc": (3.0, 2.5, 2.0),
    "ssd": (3.0, 2.5, 2.0),
    "mind": (5.0, 5.0, 5.0),
    "mapped": (5.0, 4.0, 3.5),
}
"""Smoothing of updates, coarsest level first; the last value serves further levels. Two contrasts share
fewer edges, so that more must come from smoothness."""


def settled(options: Mapping[str, Any], pair: Pair) -> dict[str, Any]:
    """Return the options with the metric ``auto`` resolved for a pair."""
    metric = options["metric"]
    if metric == "auto":
        metric = "lncc" if one_contrast(pair) else "mapped"
    return {**options, "metric": metric}


def for_level(
    options: Mapping[str, Any], pair: Pair, field: Array, number: int
) -> tuple[dict[str, Any], Pair]:
    """Return the options and images of one level.

    ``mapped`` means descriptors on the first level that iterates; all further ones have the fixed image
    in the moving one's contrast and local correlation, if the alignment so far shows how they relate.

    Args:
        options: settled.
        pair: both images.
        field: the voxel field so far, ``(3, Z, Y, X)`` of any level's shape.
        number: of the level.
    """
    if options["metric"] != "mapped":
        return _smoothed(options, options["metric"]), pair
    used = [n for n, iterations in enumerate(options["iterations"]) if iterations > 0]
    brought = recolored(pair, field) if number in (used[1:] or used) else None
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


def one_contrast(pair: Pair) -> bool:
    """Tell whether a rising straight line says nearly as much as any function of the intensities."""
    both = _blurred(pair, np.stack([pair.fixed, pair.moving]))
    fixed, moving = _compared(both, _depth(pair.inside), pair.valid)
    if not (fixed.std() > 0 and moving.std() > 0):
        return True
    correlation = float(np.corrcoef(fixed, moving)[0, 1])
    best = max(_explained(fixed, moving), _explained(moving, fixed))
    return correlation > 0 and correlation**2 >= LIKE_SHARE * best


def recolored(pair: Pair, field: Array) -> Pair | None:
    """Return the pair with the fixed image in the moving one's contrast; None if they hardly relate.

    The object and what surrounds it are mapped each by itself: dark around a brain, dark fluid inside it.

    Args:
        pair: both images.
        field: the voxel field so far, ``(3, Z, Y, X)`` of any level's shape.
    """
    from regflow.core import fields

    field, whole = fields.resize(field, pair.weights.shape), kernels.everywhere(pair.weights.shape)
    both = np.stack([pair.fixed, pair.moving])
    kernels.pull(pair.moving[None], field, whole, both[1:])
    both = _blurred(pair, both)
    fixed, moving = _compared(both, _depth(pair.inside), pair.valid)
    explained = _explained(fixed, moving)
    log.info("fixed intensities explain %.2f of the moving ones", explained)
    if explained < EXPLAINED:
        return None
    mapped = _mapped(_means(fixed, moving), pair.fixed)
    around = (pair.weights > 0.5) & (pair.inside <= 0.5)
    if around.any():
        share = _blurred(pair, pair.inside[None])[0]
        mapped *= share
        mapped += (1 - share) * _mapped(_means(*_compared(both, around, pair.valid)), pair.fixed)
    return replace(pair, fixed=mapped)


def _depth(inside: Array) -> NDArray[np.bool_]:
    """Return the samples of the object that lie ``DEPTH`` samples deep; all where those are too few."""
    from scipy.ndimage import minimum_filter1d

    whole = inside > 0.5
    deep = whole.astype(np.uint8)
    for axis, count in enumerate(whole.shape):
        if count > 1:
            deep = minimum_filter1d(deep, 2 * DEPTH + 1, axis=axis, mode="nearest")
    return deep > 0 if deep.sum() >= DEEP_SHARE * whole.sum() else whole


def _compared(both: Array, inside: NDArray[np.bool_], valid: Array | None) -> tuple[Array, Array]:
    """Return samples of both images ``(2, Z, Y, X)`` inside a mask and where the moving one has some."""
    if valid is not None:
        inside = inside & (valid > 0.5)
    every = max(1, int(inside.sum()) // MOST_COMPARED)
    return both[0][inside][::every], both[1][inside][::every]


def _blurred(pair: Pair, stack: Array) -> Array:
    """Blur images ``(n, Z, Y, X)`` on the pair's samples."""
    taps = [half_gaussian(BLUR_SIGMA / width) for width in pair.spacing]
    blurred = np.empty_like(stack)
    kernels.smooth(stack, *taps, kernels.everywhere(stack.shape[1:]), blurred)
    return blurred


def _explained(given: Array, told: Array) -> float:
    """Return the correlation ratio: the part of ``told``'s variance that ``given`` explains, 0 to 1."""
    residual = told - _mapped(_means(given, told), given)
    total = float(np.var(told, dtype=np.float64))
    return 1 - float(np.mean(np.square(residual), dtype=np.float64)) / total if total > 0 else 0.0


def _means(given: Array, told: Array) -> Array:
    """Return the mean of ``told`` at each of ``BINS + 1`` intensities of ``given``."""
    from scipy.ndimage import gaussian_filter1d

    low, share = _split(given)
    counts, sums = (
        np.bincount(low, (1 - share) * values, BINS + 1) + np.bincount(low + 1, share * values, BINS + 1)
        for values in (np.ones_like(told), told)
    )
    counts, sums = (gaussian_filter1d(part, BIN_SIGMA, mode="constant") for part in (counts, sums))
    prior = FEWEST * counts.sum()
    return np.asarray((sums + prior * sums.sum() / counts.sum()) / (counts + prior), np.float32)


def _mapped(means: Array, values: Array) -> Array:
    low, share = _split(values)
    return np.asarray(means[low] * (1 - share) + means[low + 1] * share, np.float32)


def _split(values: Array) -> tuple[NDArray[np.int32], Array]:
    """Return each value's lower bin and its share of the upper one."""
    position = np.clip((values - RANGE[0]) * (BINS / (RANGE[1] - RANGE[0])), 0, BINS - 1e-3)
    low = position.astype(np.int32)
    return low, np.asarray(position - low, np.float32)
