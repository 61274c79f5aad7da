"""Displacements that are unlike those around them.

Source: Westerweel & Scarano, Experiments in Fluids 39(6):1096-1100, 2005 (the normalized median test).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NEIGHBORS = 12


def normalized_median_test(
    points: Array, values: Array, limit: float = 3.0, floor: float = 0.1
) -> NDArray[np.bool_]:
    """Tell which displacements differ from their neighbors' by more than those do among themselves.

    The normalized median test, about a plane through the neighbors so that a slope does not count.

    Args:
        points: ``(N, d)`` places.
        values: ``(N, d)`` displacements.
        limit: distance from the neighbors' median, in their median distance from it.
        floor: added to the latter, the noise that is always there.
    """
    from scipy.spatial import cKDTree

    count = min(NEIGHBORS * (points.shape[1] - 1) + 1, len(points))
    if count < 6:
        return np.zeros(len(points), bool)
    near = cKDTree(points).query(points, count)[1][:, 1:]
    offsets = points[near] - points[:, None]
    slopes = _median_slopes(offsets, values[near] - values[:, None])
    level = values[near] - np.einsum("nkd,ndc->nkc", offsets, slopes)
    median = np.median(level, axis=1)
    among = np.median(np.linalg.norm(level - median[:, None], axis=-1), axis=1)
    apart = np.linalg.norm(values - median, axis=-1)
    return np.asarray(apart > limit * (among + floor))


def _median_slopes(offsets: Array, rises: Array) -> Array:
    """Return a slope ``(N, d, d)`` per point: the linear trend of its neighbors, fitted robustly."""
    ones = np.ones((*offsets.shape[:2], 1))
    design = np.concatenate([offsets, ones], axis=-1)
    weights = np.ones(offsets.shape[:2])
    for _ in range(4):
        weighted = design * weights[..., None]
        normal = np.einsum("nki,nkj->nij", weighted, design)
        normal += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(design.shape[-1])
        found = np.linalg.solve(normal, np.einsum("nki,nkc->nic", weighted, rises))
        left = np.linalg.norm(rises - np.einsum("nki,nic->nkc", design, found), axis=-1)
        weights = 1.0 / np.maximum(left, 0.05)
    return found[:, :-1]
