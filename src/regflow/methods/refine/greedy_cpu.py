"""One level of the greedy scheme on the CPU, by kernels for fields and for forces."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from regflow.methods.refine import greedy_force_kernels as forces
from regflow.methods.refine import greedy_kernels as kernels
from regflow.methods.refine.greedy_level import (
    SMALLEST_SHARE,
    TRUNCATE,
    VARIANCE_FLOOR,
    WHOLLY,
    GreedyLevel,
    LevelSolution,
    StepControl,
    count_window_samples,
)
from regflow.methods.refine.greedy_pyramid import grow_mask

Array = NDArray[np.float32]
Force = Callable[[Array, Array, Array, NDArray[np.float64]], None]
"""Writes the force (third) and each plane's similarity (fourth) for moved channels and weights."""


def solve_level(level: GreedyLevel, field: Array) -> LevelSolution:
    """Run a level's iterations from a voxel field ``(3, Z, Y, X)``, which is overwritten.

    Each iteration samples the moving image at the field, computes the force, smooths it, extends it
    over the mask's border (:func:`compute_edge_factors`), scales it (:meth:`GreedyLevel.compute_factor`),
    adds a share of the iteration's before, composes the sum with the field and smooths the field.
    """
    spans = find_steered_spans(level)
    statistics = compute_local_statistics(level) if level.correlation else None
    force = _correlation(level, spans, statistics) if statistics else _difference(level, spans)
    curvature = compute_mean_curvature(level, statistics.precision if statistics else None)
    reach = compute_edge_factors(level)
    lengths = level.spacing.astype(np.float32)
    update_taps = level.make_gaussians(level.update_sigma)
    update, spare, travel = np.empty_like(field), np.empty_like(field), np.zeros_like(field)
    # Windows reach samples that are never pulled.
    moved, seen = np.zeros_like(level.moving), level.weights.copy()
    longest, totals = np.empty(field.shape[1], np.float32), np.empty(field.shape[1])
    whole = float(level.weights.sum(dtype=np.float64))
    progress = StepControl(level.tolerance)
    for _ in range(level.iterations):
        kernels.pull_channels(level.moving, field, spans, moved)
        if level.valid is not None:
            kernels.keep_seen(level.valid, field, level.weights, spans, np.float32(WHOLLY), seen)
        force(moved, seen, spare, totals)
        if progress.check_convergence(float(totals.sum()) / whole):
            break
        kernels.smooth_channels(spare, *update_taps, spans, update)
        kernels.scale_and_measure(update, reach, lengths, spans, longest)
        scale = progress.step_scale * level.compute_factor(float(np.sqrt(longest.max())), curvature)
        kept = np.float32(progress.step_scale * level.momentum)
        kernels.accumulate_field(kept, np.float32(scale), update, spans, travel)
        kernels.compose_fields(field, travel, spans, spare)
        kernels.smooth_channels(spare, *level.make_relaxation_kernels(scale * curvature), spans, field)
    return LevelSolution(field, progress.history)


def find_steered_spans(level: GreedyLevel) -> NDArray[np.int32]:
    """Return the spans of the samples that the weights move, directly or by smoothing; others stay."""
    reach = 1 + max(level.radius, int(np.ceil(TRUNCATE * level.update_sigma)))
    return kernels.find_spans(grow_mask(level.weights > 0, reach, level.spacing))


def compute_edge_factors(level: GreedyLevel) -> Array:
    """Return what makes a smoothed force the mean of the forces inside the mask, not of zeros around.

    Without it, the displacement would be held back along the mask's border.
    """
    smoothed = np.empty((1, *level.weights.shape), np.float32)
    taps = level.make_gaussians(level.update_sigma)
    kernels.smooth_channels(
        level.weights[None], *taps, kernels.make_full_spans(level.weights.shape), smoothed
    )
    return np.asarray(np.float32(1) / np.maximum(smoothed[0], np.float32(SMALLEST_SHARE)))


def compute_mean_curvature(level: GreedyLevel, precision: Array | None) -> float:
    """Return the mean second derivative of the dissimilarity along the force, at a perfect match.

    ``precision`` is that of :func:`compute_local_statistics`; None where squared differences are matched.
    """
    totals, further = np.zeros(level.weights.shape[0]), np.zeros(level.weights.shape[0])
    correlated = 0 if precision is None else 1
    if precision is not None:
        forces.sum_squared_slopes(level.fixed[:1], level.weights * precision, level.metric, totals)
    if len(level.fixed) > correlated:
        forces.sum_squared_slopes(level.fixed[correlated:], level.weights, level.metric, further)
    return float((totals + further).sum() / level.weights.sum(dtype=np.float64))


def compute_local_statistics(level: GreedyLevel) -> forces.LocalStatistics:
    """Return the fixed image with its local mean and one over its local variance."""
    fixed = level.fixed[0]
    means = np.empty((2, *fixed.shape), np.float32)
    forces.compute_local_means(np.stack([fixed, fixed * fixed]), _window(level), means)
    precision = means[1]
    precision -= means[0] * means[0]
    np.maximum(precision, np.float32(0), out=precision)
    precision += np.float32(VARIANCE_FLOOR)
    return forces.LocalStatistics(fixed, means[0], np.divide(np.float32(1), precision, out=precision))


def _window(level: GreedyLevel) -> forces.WindowSize:
    return forces.WindowSize(level.radii, *count_window_samples(level.weights.shape, level.radii))


def _correlation(level: GreedyLevel, spans: NDArray[np.int32], statistics: forces.LocalStatistics) -> Force:
    window, floor = _window(level), np.float32(VARIANCE_FLOOR)
    guides = level.fixed[1:]
    beside = np.zeros((3, *level.weights.shape), np.float32) if len(guides) else None
    further = np.zeros(level.weights.shape[0])

    def force(moved: Array, weights: Array, out: Array, totals: NDArray[np.float64]) -> None:
        forces.compute_correlation_force(
            statistics, window, floor, moved[0], weights, spans, level.metric, out, totals
        )
        if beside is not None:
            forces.compute_difference_force(guides, moved[1:], weights, spans, level.metric, beside, further)
            out += beside
            totals += further

    return force


def _difference(level: GreedyLevel, spans: NDArray[np.int32]) -> Force:
    def force(moved: Array, weights: Array, out: Array, totals: NDArray[np.float64]) -> None:
        forces.compute_difference_force(level.fixed, moved, weights, spans, level.metric, out, totals)

    return force
