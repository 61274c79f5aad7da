"""How far one ends from the start after following links around a loop: an error that needs no truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.groupwise.arrays import GraphArrays

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

MOST_LOOPS_EACH = 24
"""Short loops through a link that are looked at, at most; graphs in which all are linked have millions."""


@dataclass(frozen=True, eq=False)
class LoopSet:
    """Loops of one length, as the links to follow and the direction of each.

    Attributes:
        links: ``(L, k)`` numbers of links, the first one forward.
        backward: ``(L, k)`` which are followed from second to first node.
    """

    links: Indices
    backward: NDArray[np.bool_]

    def measure_closures(self, arrays: GraphArrays) -> tuple[Array, Array]:
        """Return how far the first link's points end from where they began.

        Returns:
            ``(L,)`` root mean square distance in world units, and the same in units of the uncertainty that
            the links of the loop add up to.
        """
        ndim = arrays.ndim
        around = np.broadcast_to(np.eye(ndim + 1), (len(self.links), ndim + 1, ndim + 1))
        inverses = np.linalg.inv(arrays.maps)
        for link, backward in zip(self.links.T, self.backward.T, strict=True):
            step = np.where(backward[:, None, None], inverses[link], arrays.maps[link])
            around = step @ around
        starts = arrays.vectors[self.links[:, 0]]
        moved = ((around - np.eye(ndim + 1)) @ starts)[:, :ndim]
        distances = np.sqrt((moved**2).sum(axis=(1, 2)))
        variances = _measure_variances(arrays)[self.links].sum(axis=1)
        return distances * arrays.length, distances / np.sqrt(np.maximum(variances, 1e-300))


def list_nodes_around(arrays: GraphArrays, links: Sequence[int], backward: Sequence[bool]) -> list[int]:
    """Return the nodes of a loop in the order in which it passes them."""
    pairs = zip(links, backward, strict=True)
    return [int(arrays.second[link] if back else arrays.first[link]) for link, back in pairs]


def find_triples(arrays: GraphArrays) -> LoopSet:
    """Return the loops of three links, each once; of several links between two nodes the first counts."""
    joined = _join_neighbors(arrays)
    found: list[tuple[int, int, int]] = []
    for link, (a, b) in enumerate(zip(arrays.first.tolist(), arrays.second.tolist(), strict=True)):
        common = sorted(joined[a].keys() & joined[b].keys())
        taken = [c for c in common if c > max(a, b)]
        if joined[a][b] == link:
            found += [(link, joined[b][c], joined[c][a]) for c in _thin(taken)]
    return _orient_loops(arrays, found, 3)


def find_squares(arrays: GraphArrays) -> LoopSet:
    """Return loops of four links through each link, as those of grids; those through two are found twice."""
    joined = _join_neighbors(arrays)
    found: list[tuple[int, int, int, int]] = []
    for link, (a, b) in enumerate(zip(arrays.first.tolist(), arrays.second.tolist(), strict=True)):
        corners = [
            (link, joined[b][c], joined[c][d], joined[d][a])
            for c in sorted(joined[b].keys() - {a})
            for d in sorted(joined[c].keys() & joined[a].keys() - {b})
        ]
        found += _thin(corners)
    return _orient_loops(arrays, found, 4)


def find_cycle_basis(arrays: GraphArrays, used: NDArray[np.bool_]) -> list[tuple[list[int], list[bool]]]:
    """Return one loop for each link that closes one: the link, and the way back through a shallow tree.

    Args:
        arrays: the graph.
        used: ``(E,)`` which links may be followed.

    Returns:
        For each loop its links and which of them are followed backward.
    """
    parents = _grow_tree(arrays, used)
    loops = []
    tree = {link for _, link, _ in parents.values()}
    for link in np.flatnonzero(used).tolist():
        if link not in tree:
            loops.append(_close_loop(arrays, link, parents))
    return loops


def measure_loop(arrays: GraphArrays, links: Sequence[int], backward: Sequence[bool]) -> float:
    """Return how far a loop ends from where it began, in world units."""
    around = np.eye(arrays.ndim + 1)
    for link, back in zip(links, backward, strict=True):
        around = (np.linalg.inv(arrays.maps[link]) if back else arrays.maps[link]) @ around
    moved = ((around - np.eye(arrays.ndim + 1)) @ arrays.vectors[links[0]])[: arrays.ndim]
    return float(np.sqrt((moved**2).sum()) * arrays.length)


def _measure_variances(arrays: GraphArrays) -> Array:
    """Return each link's variance of a point, all coordinates together."""
    whole = np.linalg.inv(arrays.whitening) / np.sqrt(arrays.ndim)
    return np.asarray((whole**2).sum(axis=(1, 2)))


def _join_neighbors(arrays: GraphArrays) -> list[dict[int, int]]:
    """Return for each node its neighbors and the first link to each."""
    joined: list[dict[int, int]] = [{} for _ in range(arrays.count)]
    for link, (a, b) in enumerate(zip(arrays.first.tolist(), arrays.second.tolist(), strict=True)):
        joined[a].setdefault(b, link)
        joined[b].setdefault(a, link)
    return joined


def _thin(found: list[Any]) -> list[Any]:
    """Return evenly chosen ones of too many."""
    if len(found) <= MOST_LOOPS_EACH:
        return found
    return [found[index * len(found) // MOST_LOOPS_EACH] for index in range(MOST_LOOPS_EACH)]


def _orient_loops(arrays: GraphArrays, loops: Iterable[tuple[int, ...]], length: int) -> LoopSet:
    """Return loops, each link with its direction; the first is followed forward."""
    links = np.array(list(loops), np.intp).reshape(-1, length)
    backward = np.zeros(links.shape, bool)
    here = arrays.second[links[:, 0]]
    for column in range(1, length):
        backward[:, column] = arrays.first[links[:, column]] != here
        here = np.where(backward[:, column], arrays.first[links[:, column]], arrays.second[links[:, column]])
    return LoopSet(links, backward)


def _grow_tree(arrays: GraphArrays, used: NDArray[np.bool_]) -> dict[int, tuple[int, int, int]]:
    """Return for each node its parent, the link from it and the steps from the root, as few as can be."""
    neighbors: list[list[tuple[int, int]]] = [[] for _ in range(arrays.count)]
    for link in np.flatnonzero(used).tolist():
        a, b = int(arrays.first[link]), int(arrays.second[link])
        neighbors[a].append((b, link))
        neighbors[b].append((a, link))
    parents: dict[int, tuple[int, int, int]] = {}
    for root in range(arrays.count):
        if root in parents:
            continue
        parents[root] = (-1, -1, 0)
        level = [root]
        while level:
            following = []
            for node in level:
                for other, link in neighbors[node]:
                    if other not in parents:
                        parents[other] = (node, link, parents[node][2] + 1)
                        following.append(other)
            level = following
    return parents


def _close_loop(
    arrays: GraphArrays, link: int, parents: dict[int, tuple[int, int, int]]
) -> tuple[list[int], list[bool]]:
    """Return a link and the way from its second node back to its first through a tree."""
    ahead, behind = int(arrays.second[link]), int(arrays.first[link])
    up: list[int] = []
    down: list[int] = []
    while ahead != behind:
        if parents[ahead][2] >= parents[behind][2]:
            up.append(parents[ahead][1])
            ahead = parents[ahead][0]
        else:
            down.append(parents[behind][1])
            behind = parents[behind][0]
    links = [link, *up, *reversed(down)]
    here = int(arrays.second[link])
    backward = [False]
    for each in links[1:]:
        backward.append(int(arrays.first[each]) != here)
        here = int(arrays.first[each] if backward[-1] else arrays.second[each])
    return links, backward
