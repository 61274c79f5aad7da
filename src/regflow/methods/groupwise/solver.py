"""Solve a graph of pairwise transforms: one map for each image, under which the links agree best.

Links that contradict the others lose their weight step by step (Geman and McClure's function, whose scale
shrinks with the residuals), then are left out altogether, and least squares with all that remains is the
solution.

Sources: Geman and McClure, Bulletin of the ISI 52(4):5-21, 1987; Yang, Antonante, Tzoumas and Carlone, IEEE
Robotics and Automation Letters 5(2):1127-1134, 2020.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.methods.groupwise.arrays import GraphArrays, make_arrays
from regflow.methods.groupwise.closures import (
    LoopSet,
    find_cycle_basis,
    find_triples,
    list_nodes_around,
    measure_loop,
)
from regflow.methods.groupwise.gauss_newton import GaussNewton
from regflow.methods.groupwise.graph import TransformGraph, label_parts
from regflow.methods.groupwise.models import average_maps
from regflow.methods.groupwise.normal_equations import ROUGH
from regflow.methods.groupwise.reseating import move_nodes_to_majorities
from regflow.methods.groupwise.solution import GraphSolution, LinkResidual, LoopClosure
from regflow.methods.groupwise.starts import list_starts

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

CUTOFF = 4.0
"""Residual in units of its uncertainty from which a link contradicts the others."""
TYPICAL = 0.83
"""Median of such residuals where all is well, in two dimensions; in three it is 0.89."""
SHRINKAGE = 0.5
"""By what factor the scale of residuals that count may shrink from one step to the next, squared."""
MOST_STEPS = 60
MOST_WEIGHINGS = 30
MOST_SELECTIONS = 10
STILL = 1e-9
"""Change of scaled poses that is as good as none."""
NEARLY_STILL = 1e-5
"""The same while weights are still sought."""
MEAN = "mean"


def solve_graph(
    graph: TransformGraph,
    model: str = "rigid",
    *,
    gauge: str = MEAN,
    cutoff: float = CUTOFF,
    robust: bool = True,
) -> GraphSolution:
    """Find one map for each image under which all links agree best.

    Args:
        graph: images and links; the result does not depend on their order.
        model: ``translation``, ``rigid``, ``similarity`` or ``affine``, in two or three dimensions.
        gauge: where the common world lies in parts without anchors or expected positions: ``mean``, in the
            middle of the images, or the name of one of them, whose world it becomes in its part.
        cutoff: residual in units of its uncertainty from which a link contradicts the others. Where most
            residuals exceed their uncertainties, these are taken for too small, all by one factor.
        robust: whether to look for contradictions; else all links count as they are.

    Returns:
        The maps, residuals, closures and connected parts.

    Raises:
        InputError: the model or the gauge is unknown, or links lack what the model needs.
    """
    if gauge != MEAN and gauge not in graph.nodes:
        raise InputError(f"the gauge '{gauge}' is no image of the graph; name one, or write {MEAN}")
    arrays = make_arrays(graph, model)
    search = _Search(arrays, cutoff if robust else math.inf)
    poses, kept, scale = search.run()
    labels = label_parts(arrays.count, arrays.first[kept], arrays.second[kept])
    poses = _fix_gauge(arrays, poses, labels, None if gauge == MEAN else graph.nodes.index(gauge))
    return _describe_solution(graph, arrays, _Outcome(poses, kept, scale, labels))


@dataclass(frozen=True, eq=False)
class _Outcome:
    """Poses, which links they come from, the scale of residuals, and the parts of nodes."""

    poses: Array
    kept: Flags
    scale: float
    labels: NDArray[np.intp]


class _Search:
    """Looks for poses and for the links that contradict them."""

    def __init__(self, arrays: GraphArrays, cutoff: float) -> None:
        self.arrays, self.cutoff = arrays, cutoff
        self.roots = _choose_roots(arrays)
        guided = np.zeros(arrays.count, bool)
        labels = label_parts(arrays.count, arrays.first, arrays.second)
        guided[np.isin(labels, labels[arrays.prior_nodes])] = True
        self.steps = GaussNewton(arrays, arrays.anchored | (self.roots & ~guided))

    def run(self) -> tuple[Array, Flags, float]:
        """Return the poses, which links were kept, and by how much residuals exceed their uncertainties."""
        every = np.ones(len(self.arrays.first), bool)
        starts = list_starts(self.arrays, self.arrays.anchored | self.roots)
        poses = min(starts, key=self._score)
        if not math.isfinite(self.cutoff):
            return self._settle(poses, every), every, 1.0
        return self._select(self._weigh(poses))

    def _score(self, poses: Array) -> float:
        """Return the sum of squares of residuals, none counted for more than the cutoff's."""
        squares = self.arrays.measure_residuals(poses) ** 2
        return float(
            np.minimum(squares, self.cutoff**2).sum() if math.isfinite(self.cutoff) else squares.sum()
        )

    def _weigh(self, poses: Array) -> Array:
        """Return poses found with weights that fall with the residual, on a scale that shrinks."""
        scale = math.inf
        for _ in range(MOST_WEIGHINGS):
            residuals = self.arrays.measure_residuals(poses)
            floor = (self.cutoff * self._estimate_scale(residuals)) ** 2
            scale = max(floor, scale * SHRINKAGE) if math.isfinite(scale) else floor
            weights = (scale / (residuals**2 + scale)) ** 2
            poses, change = self.steps.move(poses, weights, ROUGH)
            if change < NEARLY_STILL and scale == floor:
                break
        return poses

    def _select(self, poses: Array) -> tuple[Array, Flags, float]:
        """Return least squares with the links that agree with it."""
        kept = np.zeros(0, bool)
        scale = 1.0
        for _ in range(MOST_SELECTIONS):
            scale = self._estimate_scale(self.arrays.measure_residuals(poses))
            poses, _ = move_nodes_to_majorities(self.arrays, self.steps.held, poses, self.cutoff * scale)
            residuals = self.arrays.measure_residuals(poses)
            found = residuals <= self.cutoff * scale
            if np.array_equal(found, kept):
                break
            kept = found
            poses = self._settle(poses, kept)
        return poses, kept, scale

    def _settle(self, poses: Array, kept: Flags) -> Array:
        for _ in range(MOST_STEPS):
            poses, change = self.steps.move(poses, kept.astype(np.float64))
            if change < STILL:
                break
        return poses

    def _estimate_scale(self, residuals: Array) -> float:
        """Return by how much residuals exceed their uncertainties, as far as the middle one tells."""
        typical = TYPICAL if self.arrays.ndim == 2 else 0.89
        return max(1.0, float(np.median(residuals)) / typical) if residuals.size else 1.0


def _choose_roots(arrays: GraphArrays) -> Flags:
    """Return for each part without an anchor the node with most links."""
    labels = label_parts(arrays.count, arrays.first, arrays.second)
    degrees = np.bincount(np.concatenate([arrays.first, arrays.second]), minlength=arrays.count)
    roots = np.zeros(arrays.count, bool)
    order = np.lexsort((np.arange(arrays.count), -degrees, labels))
    roots[order[np.unique(labels[order], return_index=True)[1]]] = True
    return roots & ~np.isin(labels, labels[arrays.anchored])


def _fix_gauge(arrays: GraphArrays, poses: Array, labels: NDArray[np.intp], node: int | None) -> Array:
    """Return poses with each part moved as a whole to where the gauge has it; parts that are placed stay."""
    placed = set(labels[arrays.anchored].tolist()) | set(labels[arrays.prior_nodes].tolist())
    result = poses.copy()
    for part in range(int(labels.max()) + 1):
        own = np.flatnonzero(labels == part)
        if part in placed:
            continue
        whole = _restore_worlds(arrays, poses, own)
        inside = node is not None and labels[node] == part
        middle = whole[np.flatnonzero(own == node)[0]] if inside else average_maps(arrays.model, whole)
        result[own] = _scale_worlds(arrays, np.linalg.inv(middle) @ whole, own)
    return result


def _restore_worlds(arrays: GraphArrays, poses: Array, nodes: NDArray[np.intp]) -> Array:
    """Return maps between the nodes' own worlds and the common one, in place of the scaled ones."""
    return np.stack([arrays.compute_pose(node, poses[node]).matrix for node in nodes])


def _scale_worlds(arrays: GraphArrays, whole: Array, nodes: NDArray[np.intp]) -> Array:
    """Undo :func:`_restore_worlds`."""
    ndim = arrays.ndim
    scaled = whole.copy()
    placed = np.einsum("nij,nj->ni", whole[:, :ndim, :ndim], arrays.centers[nodes]) + whole[:, :ndim, ndim]
    scaled[:, :ndim, ndim] = (placed - arrays.origin) / arrays.length
    return scaled


def _describe_solution(graph: TransformGraph, arrays: GraphArrays, found: _Outcome) -> GraphSolution:
    basis = find_cycle_basis(arrays, found.kept)
    checked = np.zeros(len(found.kept), bool)
    for links, _ in basis:
        checked[links] = True
    distances = arrays.measure_distances(found.poses)
    deviations = arrays.measure_residuals(found.poses)
    rows = zip(
        graph.links,
        distances.tolist(),
        deviations.tolist(),
        found.kept.tolist(),
        checked.tolist(),
        strict=True,
    )
    names = graph.nodes
    return GraphSolution(
        arrays.model,
        {name: arrays.compute_pose(node, found.poses[node]) for node, name in enumerate(names)},
        tuple(LinkResidual(*row) for row in rows),
        _describe_triples(names, arrays, find_triples(arrays), found.kept),
        tuple(
            LoopClosure(
                tuple(names[node] for node in list_nodes_around(arrays, links, backward)),
                measure_loop(arrays, links, backward),
                True,
            )
            for links, backward in basis
        ),
        tuple(
            tuple(names[node] for node in np.flatnonzero(found.labels == part))
            for part in range(int(found.labels.max()) + 1)
        ),
        found.scale,
    )


def _describe_triples(
    names: tuple[str, ...], arrays: GraphArrays, loops: LoopSet, kept: Flags
) -> tuple[LoopClosure, ...]:
    distances, _ = loops.measure_closures(arrays)
    whole = np.asarray(kept[loops.links].all(axis=1)).tolist()
    rows = zip(loops.links.tolist(), loops.backward.tolist(), distances.tolist(), whole, strict=True)
    return tuple(
        LoopClosure(tuple(names[node] for node in list_nodes_around(arrays, links, back)), distance, own)
        for links, back, distance, own in rows
    )
