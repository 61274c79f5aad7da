"""A graph of transforms as arrays, in coordinates in which all its numbers are of the size of one.

Every node's world is shifted to the middle of its overlaps, and all worlds and the common one are scaled by
the same length; so coordinates of millions of meters cost no digits, and models stay what they are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.transform import Affine
from regflow.methods.groupwise.graph import Link, TransformGraph, find_overlap_points, map_names
from regflow.methods.groupwise.models import MODELS

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class GraphArrays:
    """A graph of N nodes and E links, scaled.

    Attributes:
        model: the kind of maps.
        first: ``(E,)`` number of each link's first node.
        second: ``(E,)``.
        maps: ``(E, d + 1, d + 1)`` measured maps from first to second.
        vectors: ``(E, d + 1, m)`` homogeneous vectors, the squares of whose images under a matrix add up to
            the mean over the link's points.
        whitening: ``(E, d, d)`` factors that make a measured point's error one of unit variance, over the
            root of d.
        centers: ``(N, d)`` points of the nodes' worlds that became their origins.
        origin: ``(d,)`` point of the common world that became its own.
        length: world units that became one.
        anchored: ``(N,)`` which nodes are held.
        anchors: ``(N, d + 1, d + 1)`` where.
        prior_nodes: ``(P,)`` numbers of the nodes with an expected position.
        prior_points: ``(P, d + 1)`` homogeneous points of theirs.
        prior_positions: ``(P, d)`` where they are expected.
        prior_sigmas: ``(P,)``.
    """

    model: str
    first: Indices
    second: Indices
    maps: Array
    vectors: Array
    whitening: Array
    centers: Array
    origin: Array
    length: float
    anchored: NDArray[np.bool_]
    anchors: Array
    prior_nodes: Indices
    prior_points: Array
    prior_positions: Array
    prior_sigmas: Array

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return int(self.centers.shape[1])

    @property
    def count(self) -> int:
        """Number of nodes."""
        return len(self.centers)

    def measure_residuals(self, poses: Array) -> Array:
        """Return ``(E,)`` residuals over the links' points in units of their uncertainty: about 1 at best."""
        return np.asarray(np.sqrt((self.compute_errors(poses) ** 2).sum(axis=(1, 2))))

    def measure_distances(self, poses: Array) -> Array:
        """Return each link's root mean square residual over its points in world units."""
        errors = (compute_relations(self, poses) - self.maps) @ self.vectors
        return np.asarray(np.sqrt((errors[:, : self.ndim] ** 2).sum(axis=(1, 2))) * self.length)

    def compute_errors(self, poses: Array) -> Array:
        """Return ``(E, d, m)`` whitened errors of the links' vectors."""
        errors = (compute_relations(self, poses) - self.maps) @ self.vectors
        return np.asarray(self.whitening @ errors[:, : self.ndim])

    def compute_pose(self, node: int, pose: Array) -> Affine:
        """Return a node's map to the common world in world units."""
        linear = pose[: self.ndim, : self.ndim]
        shift = pose[: self.ndim, self.ndim] * self.length + self.origin
        return Affine.from_parts(linear, shift - self.centers[node], self.centers[node])


def compute_relations(arrays: GraphArrays, poses: Array) -> Array:
    """Return the map from first to second node of each link that follows from poses."""
    return np.asarray(np.linalg.inv(poses)[arrays.second] @ poses[arrays.first])


def make_arrays(graph: TransformGraph, model: str) -> GraphArrays:
    """Return a graph's arrays.

    Raises:
        InputError: the model is not known, a link lacks points that the model needs, or a link turns or
            scales where translations are asked for.
    """
    if model not in MODELS:
        raise InputError(f"'{model}' is no model of a graph; the models are: {', '.join(MODELS)}")
    ndim = graph.ndim
    numbers = map_names(graph.nodes)
    first = np.array([numbers[link.first] for link in graph.links], np.intp)
    second = np.array([numbers[link.second] for link in graph.links], np.intp)
    for link in graph.links:
        _check_model(link, model)
    moments = [_summarize_points(find_overlap_points(link, ndim)) for link in graph.links]
    middles = np.array([middle for middle, _ in moments]).reshape(-1, ndim)
    there = np.array(
        [link.transform.apply(m[None])[0] for link, m in zip(graph.links, middles, strict=True)]
    ).reshape(-1, ndim)
    centers = _find_centers(len(graph.nodes), (first, second), (middles, there))
    length = _find_length([roots for _, roots in moments], there - middles)
    maps = np.array([link.transform.matrix for link in graph.links]).reshape(-1, ndim + 1, ndim + 1)
    whitening = np.array([_find_whitening(link, ndim) for link in graph.links]).reshape(-1, ndim, ndim)
    anchored, anchors, origin = _place_anchors(graph, numbers, centers, length)
    points = np.array([np.asarray(prior.point, float) for prior in graph.priors]).reshape(-1, ndim)
    owners = np.array([numbers[prior.node] for prior in graph.priors], np.intp)
    positions = np.array([np.asarray(prior.position, float) for prior in graph.priors]).reshape(-1, ndim)
    sigmas = np.array([float(prior.sigma) for prior in graph.priors])
    return GraphArrays(
        model,
        first,
        second,
        _scale_maps(maps, centers[first], centers[second], length),
        _make_vectors(model, (middles - centers[first]) / length, [r / length for _, r in moments]),
        whitening * length,
        centers,
        origin,
        length,
        anchored,
        anchors,
        owners,
        np.concatenate([(points - centers[owners]) / length, np.ones((len(points), 1))], axis=1),
        (positions - origin) / length,
        sigmas / length,
    )


def _check_model(link: Link, model: str) -> None:
    ndim = link.transform.ndim
    if model == "translation":
        if np.abs(link.transform.linear - np.eye(ndim)).max() > 1e-9:
            raise InputError(f"the link {link.name} turns or scales; ask for another model than translations")
    elif link.points is None:
        raise InputError(f"the link {link.name} has no points over its overlap, which {model} maps need")


def _summarize_points(points: Array) -> tuple[Array, Array]:
    """Return the mean ``(d,)`` of points, and columns ``(d, d)`` whose squares add up to their spread."""
    middle = points.mean(axis=0)
    spread = (points - middle).T @ (points - middle) / len(points)
    values, axes = np.linalg.eigh(spread)
    return middle, axes * np.sqrt(np.maximum(values, 0))


def _find_centers(count: int, ends: tuple[Indices, Indices], places: tuple[Array, Array]) -> Array:
    sums, hits = np.zeros((count, places[0].shape[1])), np.zeros(count)
    for nodes, points in zip(ends, places, strict=True):
        np.add.at(sums, nodes, points)
        np.add.at(hits, nodes, 1.0)
    return sums / np.maximum(hits, 1)[:, None]


def _find_length(roots: list[Array], shifts: Array) -> float:
    """Return a length of the size of the overlaps, or of the shifts where overlaps are points."""
    spreads = np.sqrt([float((root**2).sum()) for root in roots] or [0.0])
    sizes = spreads if spreads.max() > 0 else np.linalg.norm(shifts, axis=1)
    return float(np.sqrt(np.mean(sizes**2))) if sizes.size and sizes.max() > 0 else 1.0


def _find_whitening(link: Link, ndim: int) -> Array:
    if link.covariance is None:
        return np.eye(ndim) / (link.sigma * np.sqrt(ndim))
    factor = np.linalg.cholesky(np.asarray(link.covariance, np.float64))
    return np.asarray(np.linalg.inv(factor) / np.sqrt(ndim))


def _place_anchors(
    graph: TransformGraph, numbers: dict[str, int], centers: Array, length: float
) -> tuple[NDArray[np.bool_], Array, Array]:
    """Return which nodes are held, where, and the point of the common world that becomes its origin."""
    ndim = graph.ndim
    held = {numbers[name]: graph.anchors[name] for name in sorted(graph.anchors)}
    known = [anchor.apply(centers[node][None])[0] for node, anchor in held.items()]
    known += [np.asarray(prior.position, np.float64) for prior in graph.priors]
    origin = np.mean(known, axis=0) if known else np.zeros(ndim)
    anchored = np.zeros(len(centers), bool)
    anchors = np.tile(np.eye(ndim + 1), (len(centers), 1, 1))
    for node, anchor in held.items():
        anchored[node] = True
        anchors[node, :ndim, :ndim] = anchor.linear
        anchors[node, :ndim, ndim] = (anchor.apply(centers[node][None])[0] - origin) / length
    return anchored, anchors, origin


def _scale_maps(maps: Array, before: Array, after: Array, length: float) -> Array:
    """Return maps between worlds that are shifted by ``before`` and ``after`` and scaled by a length."""
    ndim = maps.shape[-1] - 1
    scaled = maps.copy()
    moved = np.einsum("eij,ej->ei", maps[:, :ndim, :ndim], before) + maps[:, :ndim, ndim]
    scaled[:, :ndim, ndim] = (moved - after) / length
    return scaled


def _make_vectors(model: str, middles: Array, roots: list[Array]) -> Array:
    """Return the vectors of links whose points have these middles and spreads."""
    count, ndim = middles.shape
    columns = 1 if model == "translation" else ndim + 1
    vectors = np.zeros((count, ndim + 1, columns))
    vectors[:, :ndim, 0] = middles
    vectors[:, ndim, 0] = 1.0
    if columns > 1 and count:
        vectors[:, :ndim, 1:] = np.stack(roots)
    return vectors
