"""Where all tiles lie: links between neighbors made consistent, and tiles without links by the stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.transform import Affine
from regflow.methods.groupwise.graph import Link, TransformGraph
from regflow.methods.groupwise.solution import GraphSolution
from regflow.methods.groupwise.solver import solve_graph
from regflow.methods.mosaic.overlap_shift import OverlapShift

Array = NDArray[np.float64]
TilePair = tuple[int, int]

FEWEST_FOR_A_MODEL = 6
"""Linked tiles from which the stage's scale and skew are fitted; its shift alone below."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Positions of all tiles.

    Attributes:
        positions: ``(N, 2)`` pixels of each tile's first pixel, ``(x, y)``.
        solution: of the graph of links, tiles by their names.
        linked: ``(N,)`` whether a kept link holds the tile.
    """

    positions: Array
    solution: GraphSolution
    linked: NDArray[np.bool_]


def place_tiles(names: Sequence[str], expected: Array, links: Mapping[TilePair, OverlapShift]) -> Placement:
    """Return where tiles lie by their links; what links leave open is as expected.

    Each connected part is moved as a whole to where the largest part's stage has it: the positions as
    expected, scaled and sheared as those of the largest part turned out to be.

    Args:
        names: of the tiles, each one's own.
        expected: ``(N, 2)`` positions from the stage, a table or names, in pixels.
        links: measured offsets by the numbers of both tiles.
    """
    measured = tuple(_make_link(names, pair, shift) for pair, shift in sorted(links.items()))
    solution = solve_graph(TransformGraph(tuple(names), measured), "translation")
    solved = np.array([solution.poses[name].translation for name in names]).reshape(-1, 2)
    numbers = {name: index for index, name in enumerate(names)}
    parts = [np.array([numbers[name] for name in part]) for part in solution.parts]
    model = _fit_stage(expected[parts[0]], solved[parts[0]])
    positions = np.empty_like(solved)
    for part in parts:
        wanted = model.apply(expected[part])
        positions[part] = solved[part] + np.median(wanted - solved[part], axis=0)
    # The largest part keeps its own place, to the median; which zero it has is of no account.
    linked = np.zeros(len(names), bool)
    for part in parts:
        linked[part] = len(part) > 1
    return Placement(positions, solution, linked)


def _make_link(names: Sequence[str], pair: TilePair, shift: OverlapShift) -> Link:
    # A pixel of the first tile lies in the second one nearer to the beginning by the offset.
    transform = Affine.from_parts(np.eye(2), -shift.offset)
    return Link(names[pair[0]], names[pair[1]], transform, shift.sigma)


def _fit_stage(expected: Array, solved: Array) -> Affine:
    """Return the map from expected to solved positions: what the stage's steps and axes really are."""
    here, there = np.median(expected, axis=0), np.median(solved, axis=0)
    if len(expected) < FEWEST_FOR_A_MODEL:
        return Affine.from_parts(np.eye(2), there - here)
    centered = expected - expected.mean(axis=0)
    spread = np.linalg.svd(centered, compute_uv=False)
    if spread[1] < 1e-3 * spread[0] or spread[0] == 0:
        return Affine.from_parts(np.eye(2), there - here)
    linear, *_ = np.linalg.lstsq(centered, solved - solved.mean(axis=0), rcond=None)
    if np.abs(linear - np.eye(2)).max() > 0.2:
        return Affine.from_parts(np.eye(2), there - here)
    return Affine.from_parts(linear.T, solved.mean(axis=0) - expected.mean(axis=0), expected.mean(axis=0))


def list_neighbors(positions: Array, sizes: Array, reach: float, least: float) -> list[TilePair]:
    """Return pairs of tiles that overlap as expected, by number.

    Args:
        positions: ``(N, 2)`` expected ``(x, y)``.
        sizes: ``(N, 2)`` widths and heights.
        reach: by how much expected offsets may be wrong, in pixels.
        least: overlap along each axis, in pixels, from which two tiles are neighbors; errors of positions
            may make it more.
    """
    from scipy.spatial import cKDTree

    largest = sizes.max(axis=0)
    # In units of a tile, neighbors are within one along both axes.
    found = cKDTree(positions / largest).query_pairs(1.0 + reach / float(largest.min()), p=np.inf)
    pairs = np.array(sorted(found), np.intp).reshape(-1, 2)
    low = np.maximum(positions[pairs[:, 0]], positions[pairs[:, 1]])
    ends = positions + sizes
    overlap = np.minimum(ends[pairs[:, 0]], ends[pairs[:, 1]]) - low
    near = (overlap + reach >= least).all(axis=1) & (overlap.max(axis=1) > 0)
    # Tiles that share a corner alone say little beside those that share a side.
    share = overlap.max(axis=1) >= 0.3 * np.minimum(*sizes[pairs.T].max(axis=2)) if len(pairs) else near
    return [(int(a), int(b)) for a, b in pairs[near & share]]


def find_doubles(positions: Array, sizes: Array, share: float = 0.98) -> list[TilePair]:
    """Return pairs of tiles that lie in one place, by number: their overlap is nearly all of them."""
    pairs = np.array(list_neighbors(positions, sizes, 0.0, 1.0), np.intp).reshape(-1, 2)
    shifts = np.abs(positions[pairs[:, 0]] - positions[pairs[:, 1]]) / sizes[pairs[:, 0]]
    return [(int(a), int(b)) for a, b in pairs[(shifts < 1 - share).all(axis=1)]]
