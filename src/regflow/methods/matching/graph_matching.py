"""Points of two images matched as a graph: neighbors must move alike.

Each fixed point has some candidates. On the graph of nearest neighbors either loopy belief propagation
finds the labeling of least cost, or the principal eigenvector of the agreements tells the strongest cluster
of assignments.

Sources: Felzenszwalb and Huttenlocher, IJCV 70(1):41-54, 2006 (min-sum belief propagation); Hansen and
Heinrich, IEEE Trans. Medical Imaging 40(9):2246-2257, 2021 (on sparse points); Leordeanu and Hebert, ICCV
2005, 1482-1489 (spectral matching).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ROUNDS = 30
DAMPING = 0.5
POWER_ROUNDS = 60
NO_MATCH = 0.8
"""Cost of leaving a point without a match, in the cost of two neighbors that do not move alike."""
EDGE_SHARE = 3.0
"""What all edges of a point weigh against its descriptor."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What each of ``N`` fixed points may be matched with: ``K`` moving points.

    Attributes:
        numbers: ``(N, K)`` of moving points.
        costs: ``(N, K)`` differences of descriptors, from about 0 to 1.
        shifts: ``(N, K, d)`` displacements that they mean.
    """

    numbers: Array
    costs: Array
    shifts: Array


def find_candidates(
    places: Array, descriptors: Array, others: Array, theirs: Array, radius: float, count: int
) -> Candidates:
    """Return, for each place, the places within a radius whose descriptors are most alike.

    Args:
        places: ``(N, d)``.
        descriptors: ``(N, C)``.
        others: ``(M, d)`` places of the moving image.
        theirs: ``(M, C)``.
        radius: farthest candidate along an axis.
        count: candidates of each place; places with fewer within the radius take what costs 1.
    """
    difference = measure_differences(descriptors, theirs)
    shifts = others[None] - places[:, None]
    far = (np.abs(shifts) > radius).any(axis=2)
    typical = float(np.median(difference[~far])) if not far.all() else 1.0
    difference = np.where(far, 4 * typical, difference)
    numbers = np.argsort(difference, axis=1, kind="stable")[:, : min(count, len(others))]
    least = difference.min(axis=1, keepdims=True)
    # The best candidate's difference is noise; what tells is how much worse the others are.
    costs = np.take_along_axis(difference, numbers, axis=1)
    spread = np.maximum(typical - least, 1e-6 * typical)
    scaled = np.clip(0.5 * (costs - least) / spread + 0.5 * costs / max(typical, 1e-12), 0, 2)
    return Candidates(numbers, scaled, np.take_along_axis(shifts, numbers[..., None], axis=1))


def measure_differences(descriptors: Array, theirs: Array) -> Array:
    """Return the mean squared differences ``(N, M)`` of descriptors ``(N, C)`` and ``(M, C)``."""
    squares = np.square(descriptors).sum(axis=1)[:, None] + np.square(theirs).sum(axis=1)
    # One product in float64: sums of floats would depend on how the library divides them.
    product = np.einsum(
        "nc,mc->nm", descriptors.astype(np.float64), theirs.astype(np.float64), optimize=False
    )
    return np.asarray(np.maximum(squares - 2 * product, 0) / descriptors.shape[1])


def find_edges(places: Array, neighbors: int) -> Array:
    """Return the edges ``(E, 2)`` between each place and its nearest neighbors, in both directions."""
    from scipy.spatial import cKDTree

    count = min(neighbors + 1, len(places))
    _, near = cKDTree(places).query(places, count)
    pairs = np.stack([np.repeat(np.arange(len(places)), count), np.ravel(near)], axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)


def measure_disagreement(places: Array, candidates: Candidates, edges: Array, strain: float) -> Array:
    """Return ``(E, K, K)`` from 0 to 1: how unlike two neighbors' displacements are, by their distance.

    Args:
        places: ``(N, d)``.
        candidates: of the places.
        edges: ``(E, 2)``.
        strain: change of displacement per distance that costs 1.
    """
    first, second = edges[:, 0], edges[:, 1]
    reach = strain * np.linalg.norm(places[first] - places[second], axis=1) + 1.0
    apart = candidates.shifts[first][:, :, None] - candidates.shifts[second][:, None]
    return np.minimum(np.square(apart).sum(axis=3) / np.square(reach)[:, None, None], 1.0)


def match_by_belief_propagation(candidates: Candidates, edges: Array, disagreement: Array) -> Array:
    """Return the candidate ``(N,)`` of each point, -1 for none, of about least cost."""
    count, labels = candidates.costs.shape
    weight = EDGE_SHARE * count / max(len(edges), 1)
    unary = np.concatenate([candidates.costs, np.full((count, 1), NO_MATCH)], axis=1)
    pairwise = np.full((len(edges), labels + 1, labels + 1), 0.5 * weight)
    pairwise[:, :labels, :labels] = weight * disagreement
    reverse = _find_reverse(edges, count)
    messages = np.zeros((len(edges), labels + 1))
    for _ in range(ROUNDS):
        beliefs = unary + _sum_messages(messages, edges[:, 1], count)
        toward = beliefs[edges[:, 0]] - messages[reverse]
        new = (toward[:, :, None] + pairwise).min(axis=1)
        new -= new.min(axis=1, keepdims=True)
        messages = DAMPING * messages + (1 - DAMPING) * new
    beliefs = unary + _sum_messages(messages, edges[:, 1], count)
    best = beliefs.argmin(axis=1)
    return np.where(best == labels, -1, best)


def match_by_eigenvector(candidates: Candidates, edges: Array, disagreement: Array) -> Array:
    """Return the candidate ``(N,)`` of each point in the strongest cluster, -1 for none.

    No partner is taken twice.
    """
    count, labels = candidates.costs.shape
    agreement = np.exp(-4.0 * disagreement) - np.exp(-4.0)
    likely = np.exp(-candidates.costs)
    strength = np.full((count, labels), 1.0)
    for _ in range(POWER_ROUNDS):
        given = np.einsum("ekl,ek->el", agreement, strength[edges[:, 0]])
        strength = likely * _sum_messages(given, edges[:, 1], count) + 1e-12
        strength /= np.sqrt(np.square(strength).sum())
    chosen, taken = np.full(count, -1), set()
    best = strength.argmax(axis=1)
    highest = strength[np.arange(count), best]
    for point in np.argsort(-highest, kind="stable"):
        partner = int(candidates.numbers[point, best[point]])
        if highest[point] > 1e-3 * highest.max() and partner not in taken:
            chosen[point] = best[point]
            taken.add(partner)
    return chosen


def _sum_messages(messages: Array, targets: Array, count: int) -> Array:
    """Add messages ``(E, K)`` up at the points that they go to, in the order of the edges."""
    total = np.zeros((count, messages.shape[1]))
    np.add.at(total, targets, messages)
    return total


def _find_reverse(edges: Array, count: int) -> Array:
    """Return for each edge the number of the one that goes back; edges are sorted."""
    keys = edges[:, 0] * count + edges[:, 1]
    return np.searchsorted(keys, edges[:, 1] * count + edges[:, 0])


SOLVERS = {"belief-propagation": match_by_belief_propagation, "spectral": match_by_eigenvector}
