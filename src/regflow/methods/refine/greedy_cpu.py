"""One level of the greedy scheme on the CPU, by the kernels of :mod:`greedy_kernels`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numba
import numpy as np
from numpy.typing import NDArray

from regflow.methods.refine import greedy_kernels as kernels
from regflow.methods.refine.greedy_level import (
    SMALLEST_SHARE,
    VARIANCE_FLOOR,
    WHOLLY,
    Level,
    Progress,
    Solved,
    window_counts,
)

Array = NDArray[np.float32]
Force = Callable[[Array, Array, Array, NDArray[np.float64]], None]
"""Writes the force (third) and each plane's similarity (fourth) for moved channels and weights."""

ONE = np.float32(1)


@contextmanager
def numba_threads(count: int) -> Iterator[None]:
    """Let numba use at most ``count`` threads inside the block."""
    before, most = numba.get_num_threads(), int(getattr(numba.config, "NUMBA_NUM_THREADS"))  # noqa: B009
    numba.set_num_threads(max(1, min(count, most)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def solve(level: Level, field: Array) -> Solved:
    """Run a level's iterations from a voxel field ``(3, Z, Y, X)``, which is overwritten.

    Each iteration samples the moving image at the field, computes the force, smooths it, extends it
    over the mask's border (:func:`edge_factors`), scales it (:meth:`Level.factor`), composes it with
    the field and smooths the field.
    """
    force = (_correlation if level.correlation else _difference)(level)
    curvature, reach = mean_curvature(level), edge_factors(level)
    lengths = level.spacing.astype(np.float32)
    update_taps = level.gaussians(level.update_sigma)
    update, spare = np.empty_like(field), np.empty_like(field)
    moved = np.empty_like(level.moving)
    longest, totals = np.empty(field.shape[1], np.float32), np.empty(field.shape[1])
    whole = float(level.weights.sum(dtype=np.float64))
    progress = Progress(level.tolerance)
    for _ in range(level.iterations):
        kernels.pull(level.moving, field, ONE, moved)
        force(moved, _seen(level, field), spare, totals)
        if progress.stalled(float(totals.sum()) / whole):
            break
        kernels.smooth(spare, *update_taps, update)
        kernels.scale_and_measure(update, reach, lengths, longest)
        scale = progress.boldness * level.factor(float(np.sqrt(longest.max())), curvature)
        factor = np.float32(scale)
        kernels.pull(field, update, factor, spare)
        kernels.add_scaled(update, factor, spare)
        kernels.smooth(spare, *level.relaxation(scale * curvature), field)
    return Solved(field, progress.history)


def edge_factors(level: Level) -> Array:
    """Return what makes a smoothed force the mean of the forces inside the mask, not of zeros around.

    Without it, the displacement would be held back along the mask's border.
    """
    smoothed = np.empty((1, *level.weights.shape), np.float32)
    kernels.smooth(level.weights[None], *level.gaussians(level.update_sigma), smoothed)
    return np.asarray(np.float32(1) / np.maximum(smoothed[0], np.float32(SMALLEST_SHARE)))


def mean_curvature(level: Level) -> float:
    """Return the mean second derivative of the dissimilarity along the force, at a perfect match."""
    totals = np.empty(level.weights.shape[0])
    weights = level.weights * _statistics(level)[1] if level.correlation else level.weights
    kernels.squared_slopes(level.fixed, weights, level.metric, totals)
    return float(totals.sum() / level.weights.sum(dtype=np.float64))


def _seen(level: Level, field: Array) -> Array:
    """Return the weights where the moving image has samples at the present displacement."""
    if level.valid is None:
        return level.weights
    seen = np.empty((1, *level.weights.shape), np.float32)
    kernels.pull(level.valid[None], field, ONE, seen)
    return np.asarray(level.weights * (seen[0] > WHOLLY), np.float32)


def _correlation(level: Level) -> Force:
    counts = window_counts(level.weights.shape, level.radii)
    mean, precision = _statistics(level)
    floor = np.float32(VARIANCE_FLOOR)

    def force(moved: Array, weights: Array, out: Array, totals: NDArray[np.float64]) -> None:
        kernels.correlation_force(
            level.fixed[0],
            mean,
            precision,
            moved[0],
            weights,
            level.radii,
            *counts,
            floor,
            level.metric,
            out,
            totals,
        )

    return force


def _difference(level: Level) -> Force:
    def force(moved: Array, weights: Array, out: Array, totals: NDArray[np.float64]) -> None:
        kernels.difference_force(level.fixed, moved, weights, level.metric, out, totals)

    return force


def _statistics(level: Level) -> tuple[Array, Array]:
    """Return the fixed image's local mean and one over its local variance."""
    fixed = level.fixed[0]
    means = np.empty((2, *fixed.shape), np.float32)
    counts = window_counts(fixed.shape, level.radii)
    kernels.local_means(np.stack([fixed, fixed * fixed]), level.radii, *counts, means)
    variance = np.maximum(means[1] - means[0] * means[0], np.float32(0))
    return np.ascontiguousarray(means[0]), np.float32(1) / (variance + np.float32(VARIANCE_FLOOR))
