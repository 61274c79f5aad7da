"""Where the solution of a graph begins: a tree of the links that close loops, or all links at once."""

import numpy as np
from numpy.typing import NDArray

from regflow.methods.groupwise.arrays import GraphArrays, Indices
from regflow.methods.groupwise.closures import find_squares, find_triples
from regflow.methods.groupwise.graph import label_parts
from regflow.methods.groupwise.models import find_rotations, fit_common_map, measure_scales, project_maps
from regflow.methods.groupwise.normal_equations import ROUGH, NormalEquations

Array = NDArray[np.float64]

REWEIGHTINGS = 5
"""How often links are weighed by their agreement with a start."""
UNCHECKED = 30.0
"""Closure, in units of the uncertainty, that a link counts with that no short loop checks."""


def list_starts(arrays: GraphArrays, held: NDArray[np.bool_]) -> list[Array]:
    """Return poses from which the solution may begin: which is best is told by the links they agree with.

    Args:
        arrays: the graph.
        held: ``(N,)`` nodes from which the others are reached: those with anchors, or one in each connected
            part without any.

    Returns:
        Poses ``(N, d + 1, d + 1)``; parts without an anchor lie as their expected positions say.
    """
    starts = [_follow_tree(arrays, held)]
    if len(arrays.first):
        starts.append(_relax_robustly(arrays, held))
    return [_place_parts(arrays, poses) for poses in starts]


def _follow_tree(arrays: GraphArrays, held: NDArray[np.bool_]) -> Array:
    """Return poses along the tree of links that close their best short loop most nearly."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    best = _pick_best_links(arrays, 1 + measure_best_closures(arrays))
    ends = arrays.first[best[0]], arrays.second[best[0]]
    costs = coo_array((best[1], ends), shape=(arrays.count, arrays.count)).tocsr()
    tree = minimum_spanning_tree(costs).tocoo()
    chosen = {tuple(sorted(pair)): link for link, *pair in zip(best[0].tolist(), *ends, strict=True)}
    neighbors: list[list[tuple[int, int]]] = [[] for _ in range(arrays.count)]
    for pair in zip(tree.row.tolist(), tree.col.tolist(), strict=True):
        link = chosen[(min(pair), max(pair))]
        neighbors[pair[0]].append((pair[1], link))
        neighbors[pair[1]].append((pair[0], link))
    poses = arrays.anchors.copy()
    inverses = np.linalg.inv(arrays.maps)
    waiting = [*np.flatnonzero(held).tolist(), *np.flatnonzero(~held).tolist()]
    known = held.copy()
    for root in waiting:
        known[root] = True
        level = [root]
        while level:
            following = []
            for node in level:
                for other, link in sorted(neighbors[node]):
                    if not known[other]:
                        # Q_first = Q_second T, whichever of them is known.
                        forward = arrays.first[link] == node
                        poses[other] = poses[node] @ (inverses[link] if forward else arrays.maps[link])
                        known[other] = True
                        following.append(other)
            level = following
    return project_maps(arrays.model, poses)


def measure_best_closures(arrays: GraphArrays) -> Array:
    """Return ``(E,)`` each link's smallest closure among its short loops in units of the uncertainty."""
    closures = np.full(len(arrays.first), UNCHECKED)
    for loops in (find_triples(arrays), find_squares(arrays)):
        _, normalized = loops.measure_closures(arrays)
        for column in loops.links.T:
            np.minimum.at(closures, column, normalized)
    return closures


def _pick_best_links(arrays: GraphArrays, costs: Array) -> tuple[Indices, Array]:
    """Return the cheapest link between each two nodes, and its cost."""
    low, high = (np.minimum(arrays.first, arrays.second), np.maximum(arrays.first, arrays.second))
    order = np.lexsort((costs, high, low))
    pairs = low[order] * arrays.count + high[order]
    taken = order[np.unique(pairs, return_index=True)[1]]
    return taken, costs[taken]


def _relax_robustly(arrays: GraphArrays, held: NDArray[np.bool_]) -> Array:
    """Return poses from all links together, those that disagree with the rest counting less each time."""
    poses = _relax_links(arrays, held, np.ones(len(arrays.first)))
    for _ in range(REWEIGHTINGS):
        squares = arrays.measure_residuals(poses) ** 2
        scale = float(np.median(squares))
        if not scale > 1:
            break
        poses = _relax_links(arrays, held, (scale / (squares + scale)) ** 2)
    return poses


def _relax_links(arrays: GraphArrays, held: NDArray[np.bool_], weights: Array) -> Array:
    """Return poses from all links together: linear parts as plain numbers, then translations.

    Source: Martinec and Pajdla, IEEE Conf. Computer Vision and Pattern Recognition, 2007.
    """
    ndim = arrays.ndim
    poses = arrays.anchors.copy()
    if arrays.model != "translation":
        poses[:, :ndim, :ndim] = _relax_rotations(arrays, held, weights)
        if arrays.model != "rigid":
            scales = _relax_scales(arrays, held, weights)
            poses[:, :ndim, :ndim] *= scales[:, None, None]
    poses = project_maps(arrays.model, poses)
    poses[held] = arrays.anchors[held]
    return _relax_translations(arrays, held, poses, weights)


def _relax_rotations(arrays: GraphArrays, held: NDArray[np.bool_], weights: Array) -> Array:
    """Return ``(N, d, d)`` the rotations nearest to a solution of ``R_first = R_second R_link``."""
    ndim = arrays.ndim
    turns = find_rotations(arrays.maps)
    known = np.swapaxes(find_rotations(arrays.anchors), 1, 2)
    # Transposed, each row of unknowns stands for itself: X_first = R_link' X_second.
    solved = _solve_relaxed(arrays, held, np.swapaxes(turns, 1, 2), np.zeros_like(turns), known, weights)
    matrices = np.zeros((arrays.count, ndim + 1, ndim + 1))
    matrices[:, :ndim, :ndim] = np.swapaxes(solved, 1, 2)
    return find_rotations(matrices)


def _relax_scales(arrays: GraphArrays, held: NDArray[np.bool_], weights: Array) -> Array:
    """Return ``(N,)`` the scales whose logarithms' differences are those of the links."""
    ones = np.ones((len(arrays.maps), 1, 1))
    shifts = np.log(measure_scales(arrays.maps))[:, None, None]
    known = np.log(measure_scales(arrays.anchors))[:, None, None]
    return np.exp(_solve_relaxed(arrays, held, ones, shifts, known, weights)[:, 0, 0])


def _relax_translations(arrays: GraphArrays, held: NDArray[np.bool_], poses: Array, weights: Array) -> Array:
    """Return poses whose translations agree best with the links where their linear parts are given."""
    ndim = arrays.ndim
    middles = arrays.vectors[:, :, :1]
    shifts = (poses[arrays.second] @ arrays.maps @ middles)[:, :ndim] - poses[arrays.first][
        :, :ndim, :ndim
    ] @ middles[:, :ndim]
    # The poses' own translations are no part of what is sought.
    shifts -= poses[arrays.second][:, :ndim, ndim:]
    links = np.broadcast_to(np.eye(ndim), (len(arrays.maps), ndim, ndim))
    result = poses.copy()
    result[:, :ndim, ndim:] = _solve_relaxed(arrays, held, links, shifts, poses[:, :ndim, ndim:], weights)
    return result


def _solve_relaxed(
    arrays: GraphArrays, held: NDArray[np.bool_], links: Array, shifts: Array, known: Array, weights: Array
) -> Array:
    """Solve ``X_first = B_link X_second + C_link`` by least squares.

    Args:
        arrays: the graph.
        held: ``(N,)`` nodes whose unknowns are known.
        links: ``(E, d, d)`` orthogonal matrices B.
        shifts: ``(E, d, k)`` C.
        known: ``(N, d, k)`` the unknowns of held nodes.
        weights: ``(E,)`` factors of the links' own.

    Returns:
        ``(N, d, k)``.
    """
    free = np.flatnonzero(~held)
    numbers = np.full(arrays.count, -1, np.intp)
    numbers[free] = np.arange(len(free))
    a, b = numbers[arrays.first], numbers[arrays.second]
    size = links.shape[1]
    weights = weights / np.maximum((np.linalg.inv(arrays.whitening) ** 2).sum(axis=(1, 2)), 1e-300)
    weights = weights / weights.max(initial=1e-300)
    identities = np.broadcast_to(np.eye(size), links.shape)
    back = np.swapaxes(links, 1, 2)
    blocks = np.concatenate([identities, identities, -links, -back]) * np.tile(weights, 4)[:, None, None]
    right = np.zeros(known.shape)
    fixed = known * held[:, None, None]
    toward = (links @ fixed[arrays.second] + shifts) * weights[:, None, None]
    np.add.at(right, arrays.first, toward)
    away = back @ (fixed[arrays.first] - shifts) * weights[:, None, None]
    np.add.at(right, arrays.second, away)
    equations = NormalEquations(np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a]), len(free), size)
    result = known.copy()
    result[free] = equations.solve(blocks, right[free], ROUGH)
    return result


def _place_parts(arrays: GraphArrays, poses: Array) -> Array:
    """Return poses with each part that no anchor holds brought onto its expected positions."""
    labels = label_parts(arrays.count, arrays.first, arrays.second)
    ndim = arrays.ndim
    result = poses.copy()
    for part in np.unique(labels[arrays.prior_nodes]):
        if not arrays.anchored[labels == part].any():
            own = labels[arrays.prior_nodes] == part
            placed = np.einsum("kij,kj->ki", poses[arrays.prior_nodes[own]], arrays.prior_points[own])
            common = fit_common_map(arrays.model, placed[:, :ndim], arrays.prior_positions[own])
            result[labels == part] = common @ poses[labels == part]
    return result
