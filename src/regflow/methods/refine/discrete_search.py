"""Dense displacement search: every displacement of a window is compared at every node, then they agree.

The cost of each displacement is the difference of self-similarity descriptors. Two steps alternate: at
each node by itself the displacement of least cost, counting its distance from the smooth field so far; and
the smoothing of what was chosen. The coupling of both grows. What is found from the fixed image to the
moving one and back is made consistent, and the search goes on around it with smaller steps.

Sources: Steinbruecker et al., ICCV 2009, 1609-1614 (large displacements without warping); Heinrich et al.,
Non-parametric discrete registration with convex optimisation, WBIR 2014, 51-61 (self-similarities, volumes,
consistency); Siebert et al., arXiv:2306.15044, 2023 (the schedule).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from regflow.core import fields
from regflow.methods.matching import self_similarity_kernels
from regflow.methods.matching.self_similarity import compute_self_similarity, spread_along, view_as_volumes
from regflow.methods.refine import discrete_kernels as kernels
from regflow.methods.refine import greedy_kernels
from regflow.methods.refine.greedy_level import make_half_gaussian

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

HALF = np.float32(0.5)
LEAST_CONFIDENCE = 1e-3
"""Weight, in a smoothing, of a node that says nothing."""
COST_REACH = 1
"""Nodes to either side over which costs are averaged: alone, a node mistakes itself for many others."""
MEDIAN_ROUNDS, MEDIAN_SIDE = 3, 5
"""Rounds in which a median over some nodes precedes the smoothing, because many choices are wrong."""
MOST_COSTS = 150_000_000
"""Costs held at once, 600 MB: a wider window takes larger steps."""


@dataclass(frozen=True)
class SearchLevel:
    """One pass of the search.

    Attributes:
        shrink: samples of the images per node, which is also the step between displacements.
        reach: steps to either side that are compared.
    """

    shrink: int
    reach: int


@dataclass(frozen=True)
class CoupledSmoothing:
    """How the nodes come to one field.

    Attributes:
        couplings: of each round, in units of the mean depth of the costs' minima per squared step.
        sigma: of the Gaussian that smooths what nodes choose, in nodes.
        consistency: rounds in which the fields of both directions are made each other's inverse.
    """

    couplings: Sequence[float]
    sigma: float
    consistency: int


def plan_levels(shape: Sequence[int], search: float, shrinks: Sequence[int], reach: int) -> list[SearchLevel]:
    """Return the passes: the first reaches ``search`` samples, the others ``reach`` of their own steps.

    Where its costs would not fit into memory, the first pass takes larger steps.
    """
    first = shrinks[0]
    ndim = sum(count > 1 for count in shape)
    while True:
        wide = max(1, int(np.ceil(search / first)))
        nodes = float(np.prod([-(-count // first) for count in shape]))
        if nodes * (2 * wide + 1) ** ndim <= MOST_COSTS:
            break
        first += 1
    return [SearchLevel(first, wide), *(SearchLevel(shrink, reach) for shrink in shrinks[1:])]


def search_displacements(
    fixed: Array, moving: Array, weights: Array, levels: Sequence[SearchLevel], smoothing: CoupledSmoothing
) -> Array:
    """Find the displacement of every sample.

    Args:
        fixed: ``(Y, X)`` or ``(Z, Y, X)``.
        moving: on the same grid.
        weights: how much each fixed sample says, 0 to 1.
        levels: the passes, coarse to fine.
        smoothing: how the nodes come to one field.

    Returns:
        Voxel field ``(d, *shape)``, fixed to moving.
    """
    total: Array = np.zeros((fixed.ndim, *fixed.shape), np.float32)
    described = compute_self_similarity(fixed)
    for level in levels:
        moved = fields.warp_channels(moving, total) if total.any() else moving
        residual = _search_level(described, compute_self_similarity(moved), weights, level, smoothing)
        total = fields.compose_displacements(total, residual)
        log.info(
            "discrete: %d samples a step, %d steps a side, longest displacement %.1f samples",
            level.shrink,
            level.reach,
            float(np.sqrt(np.square(total).sum(axis=0).max())),
        )
    return total


def _search_level(
    fixed: Array, moving: Array, weights: Array, level: SearchLevel, smoothing: CoupledSmoothing
) -> Array:
    """Return the voxel field of one pass between descriptors ``(C, *shape)``."""
    shape, ndim = fixed.shape[1:], fixed.ndim - 1
    one, other, said = (
        view_as_volumes(_pool(part, level.shrink), ndim) for part in (fixed, moving, weights[None])
    )
    forward = _find_field(one, other, said[0], ndim, level.reach, smoothing)
    backward = _find_field(other, one, np.ones_like(said[0]), ndim, level.reach, smoothing)
    for _ in range(smoothing.consistency):
        there = fields.compose_displacements(backward, forward)
        back = fields.compose_displacements(forward, backward)
        forward, backward = forward - HALF * there, backward - HALF * back
    nodes = forward if ndim == 3 else forward[::2, :, 0]
    padded = tuple(count * level.shrink for count in nodes.shape[1:])
    whole = fields.resize_displacement(np.ascontiguousarray(nodes), padded)
    return np.ascontiguousarray(whole[(slice(None), *(slice(0, count) for count in shape))])


def _find_field(
    one: Array, other: Array, weights: Array, ndim: int, reach: int, smoothing: CoupledSmoothing
) -> Array:
    """Return the field ``(3, Z, Y, X)`` in nodes between descriptors of volumes of nodes."""
    offsets = np.stack([spread_along(ndim, *step) for step in product(range(-reach, reach + 1), repeat=ndim)])
    costs = np.empty((len(offsets), *one.shape[1:]), np.float32)
    self_similarity_kernels.compute_costs(one, other, offsets, np.ones(3, np.int64), costs)
    around = np.empty_like(costs)
    self_similarity_kernels.average_around(costs, spread_along(ndim, COST_REACH), around)
    costs = around
    depth = costs.mean(axis=0) - costs.min(axis=0)
    depth *= weights
    said = float(weights.sum(dtype=np.float64))
    typical = max(float(depth.sum(dtype=np.float64)) / max(said, 1.0), float(np.finfo(np.float32).tiny))
    costs *= weights / np.float32(typical)
    confidence = depth / np.float32(typical) + np.float32(LEAST_CONFIDENCE)
    steps = offsets.astype(np.float32)
    field, chosen = np.zeros((3, *one.shape[1:]), np.float32), np.empty(one.shape[1:], np.int32)
    for number, coupling in enumerate(smoothing.couplings):
        kernels.find_coupled_minimum(costs, steps, np.float32(coupling), field, chosen)
        found = np.moveaxis(steps[chosen], -1, 0)
        if number < MEDIAN_ROUNDS:
            side = np.minimum(MEDIAN_SIDE, found.shape[1:])
            found = np.stack([median_filter(part, side, mode="nearest") for part in found])
        field = _smooth(found, confidence, smoothing.sigma)
    return field


def _smooth(field: Array, weights: Array, sigma: float) -> Array:
    """Return the weighted average of a field ``(3, Z, Y, X)`` under a Gaussian."""
    stack = np.concatenate([field * weights, weights[None]])
    out, taps = np.empty_like(stack), make_half_gaussian(sigma)
    greedy_kernels.smooth_channels(
        stack, taps, taps, taps, greedy_kernels.make_full_spans(stack.shape[1:]), out
    )
    return np.ascontiguousarray(out[:-1] / out[-1:])


def _pool(channels: Array, factor: int) -> Array:
    """Average ``(C, *shape)`` over blocks of ``factor`` samples a side, the borders repeated to fill them."""
    if factor == 1:
        return channels
    count, *shape = channels.shape
    more = [(0, -size % factor) for size in shape]
    padded = np.pad(channels, [(0, 0), *more], mode="edge") if any(after for _, after in more) else channels
    blocks = [part for size in padded.shape[1:] for part in (size // factor, factor)]
    inner = tuple(range(2, 2 * len(shape) + 1, 2))
    return np.asarray(padded.reshape(count, *blocks).mean(axis=inner, dtype=np.float32))
