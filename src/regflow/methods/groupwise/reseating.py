"""Nodes that wrong links hold are moved to where more of their links agree."""

import numpy as np
from numpy.typing import NDArray

from regflow.methods.groupwise.arrays import GraphArrays
from regflow.methods.groupwise.models import project_maps

Array = NDArray[np.float64]


def move_nodes_to_majorities(
    arrays: GraphArrays, held: NDArray[np.bool_], poses: Array, limit: float
) -> tuple[Array, int]:
    """Move each node to the pose, among those that its links ask for, with which most of them agree.

    Least squares with shrinking weights may end where a single wrong link holds a node against several that
    agree; its neighbors are taken as they are.

    Args:
        arrays: the graph.
        held: ``(N,)`` nodes that stay.
        poses: ``(N, d + 1, d + 1)``.
        limit: residual in units of its uncertainty up to which a link agrees.

    Returns:
        The poses, and how many were moved.
    """
    result = poses.copy()
    agreeing = arrays.measure_residuals(result) <= limit
    around = _list_links(arrays)
    doubtful = np.unique(np.concatenate([arrays.first[~agreeing], arrays.second[~agreeing]]))
    moved = 0
    for node in doubtful[~held[doubtful]].tolist():
        links = around[node]
        proposals = project_maps(arrays.model, _propose_poses(arrays, result, node, links))
        counts = [_count_agreeing(arrays, result, node, links, pose, limit) for pose in proposals]
        best = int(np.argmax(counts))
        if counts[best] > max(_count_agreeing(arrays, result, node, links, result[node], limit), 1):
            result[node] = proposals[best]
            moved += 1
    return result, moved


def _list_links(arrays: GraphArrays) -> list[NDArray[np.intp]]:
    """Return the numbers of each node's links."""
    ends = np.concatenate([arrays.first, arrays.second])
    links = np.tile(np.arange(len(arrays.first)), 2)
    order = np.argsort(ends, kind="stable")
    return np.split(links[order], np.searchsorted(ends[order], np.arange(1, arrays.count)))


def _propose_poses(arrays: GraphArrays, poses: Array, node: int, links: NDArray[np.intp]) -> Array:
    """Return the pose of a node that each of its links asks for."""
    forward = (arrays.first[links] == node)[:, None, None]
    others = np.where(arrays.first[links] == node, arrays.second[links], arrays.first[links])
    maps = arrays.maps[links]
    return np.asarray(poses[others] @ np.where(forward, maps, np.linalg.inv(maps)))


def _count_agreeing(
    arrays: GraphArrays, poses: Array, node: int, links: NDArray[np.intp], pose: Array, limit: float
) -> int:
    """Return with how many of its links a node's pose agrees."""
    here = [
        np.where((ends[links] == node)[:, None, None], pose, poses[ends[links]])
        for ends in (arrays.first, arrays.second)
    ]
    errors = (np.linalg.inv(here[1]) @ here[0] - arrays.maps[links]) @ arrays.vectors[links]
    whitened = arrays.whitening[links] @ errors[:, : arrays.ndim]
    return int((np.sqrt((whitened**2).sum(axis=(1, 2))) <= limit).sum())
