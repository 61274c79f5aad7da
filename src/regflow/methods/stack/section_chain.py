"""Where sections lie in one block: links made consistent, and the block's slow shape kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.transform import Affine
from regflow.methods.groupwise.graph import Link, TransformGraph
from regflow.methods.groupwise.motion import fit_local_lines
from regflow.methods.groupwise.solution import GraphSolution
from regflow.methods.groupwise.solver import solve_graph
from regflow.methods.stack.section_links import JudgedSections, SectionPair, list_usable_links

Array = NDArray[np.float64]

LINK_ERROR = 0.002
"""Standard deviation of a link between neighbors, as a part of the sections' diagonal: bends and tissue
that changes, which no rigid map explains, not the precision of the comparison."""
WIDTHS = (2.0, 3.0, 4.5, 7.0, 10.0, 15.0, 22.0, 33.0, 50.0)
"""Standard deviations in sections of the weights that tell slow from fast, of which the best is chosen."""
CLIPPED = 3.0
BETTER = 0.95
"""Residuals count as no more than so many times their median when widths are compared, and a narrower width
must leave no more than this part of the mean square of a wider one: chance alone prefers one by percents."""
AROUND, OUTLYING = 9, 6.0
"""Sections around each whose median is its usual place, and standard deviations from which one lies askew."""
FEWEST = 6
"""Sections from which a slow path is looked for."""
TURNED = 0.9
"""Mean length of the directions of scanned sections below which their turns say nothing of the block."""


@dataclass(frozen=True, eq=False)
class SectionPlaces:
    """Where sections lie.

    Attributes:
        poses: ``(N, 3, 3)`` from pixels of each section, upright, to those of the block's plane.
        solution: of the graph, sections by their names.
        widths: ``(3,)`` for x, y and the turn: over how many sections the block's shape is that of the
            sections as scanned; infinite where the links alone tell it, but for one move of all.
        jitter_px: spread of the scanned places about that shape.
    """

    poses: Array
    solution: GraphSolution
    widths: tuple[float, float, float]
    jitter_px: float


def place_sections(
    names: Sequence[str],
    order: Sequence[int],
    judged: JudgedSections,
    points: Sequence[Array],
    sizes: Array,
    width: float | None = None,
) -> SectionPlaces:
    """Return where sections lie by their links, and by the places of scanning what links leave open.

    Args:
        names: of all sections.
        order: numbers of the sections that were compared, as they follow one another.
        judged: their links.
        points: of the tissue of each section in its own pixels, ``(K, 2)``.
        sizes: ``(N, 2)`` widths and heights of the pictures.
        width: see :class:`SectionPlaces`; chosen by the scanned places themselves when None.
    """
    diagonal = float(np.median(np.linalg.norm(sizes, axis=1)))
    upright = [_turn_points(points[n], sizes[n], bool(judged.mirrored[n])) for n in range(len(names))]
    links = [
        _make_link(names, judged, pair, share, (upright, sizes), diagonal)
        for pair, share in sorted(list_usable_links(judged, order).items())
    ]
    solution = solve_graph(TransformGraph(tuple(names), tuple(links)), "rigid")
    spread = _measure_spread([upright[n] for n in order])
    poses, widths, jitter = _keep_shape(names, order, solution, (sizes, spread), width, judged.fitting)
    return SectionPlaces(poses, solution, widths, jitter)


def make_mirror(width: float) -> Array:
    """Return the map ``(3, 3)`` that mirrors pixels of a picture so wide, left to right."""
    return np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])


def make_upright_link(judged: JudgedSections, pair: SectionPair, sizes: Array) -> Array:
    """Return the map ``(3, 3)`` between pixels of two sections after those mirrored were turned over."""
    pose = judged.find_pose(pair)
    assert pose is not None
    matrix = pose.matrix
    # The measured map leads to a picture that is mirrored where one of both is.
    if judged.mirrored[pair[0]]:
        matrix = make_mirror(sizes[pair[1]][0]) @ matrix @ make_mirror(sizes[pair[0]][0])
    return matrix


def _turn_points(points: Array, size: Array, mirrored: bool) -> Array:
    if not mirrored or not len(points):
        return points
    return np.stack([size[0] - 1 - points[:, 0], points[:, 1]], axis=1)


def _make_link(
    names: Sequence[str],
    judged: JudgedSections,
    pair: SectionPair,
    share: float,
    where: tuple[Sequence[Array], Array],
    diagonal: float,
) -> Link:
    upright, sizes = where
    steps = abs(pair[1] - pair[0])
    sigma = LINK_ERROR * diagonal * math.sqrt(steps) / min(max(share, 0.1), 1.0)
    transform = Affine(make_upright_link(judged, pair, sizes))
    return Link(names[pair[0]], names[pair[1]], transform, sigma, points=upright[pair[0]])


def _measure_spread(points: Sequence[Array]) -> float:
    """Return the usual distance of tissue from its middle."""
    away = [np.sqrt(((part - part.mean(axis=0)) ** 2).sum(axis=1).mean()) for part in points if len(part)]
    return float(np.median(away)) if away else 1.0


def _keep_shape(
    names: Sequence[str],
    order: Sequence[int],
    solution: GraphSolution,
    scale: tuple[Array, float],
    width: float | None,
    fitting: NDArray[np.bool_],
) -> tuple[Array, tuple[float, float, float], float]:
    """Return poses without what the links' own slow path adds to the places of scanning."""
    sizes, spread = scale
    centers = (sizes - 1) / 2
    middle = np.median(centers, axis=0)
    ranks = {names[number]: rank for rank, number in enumerate(order)}
    poses = np.tile(np.eye(3), (len(names), 1, 1))
    poses[:, :2, 2] = middle - centers
    found: list[tuple[tuple[float, float, float], float]] = []
    for part in solution.parts:
        along = sorted((name for name in part if name in ranks), key=ranks.__getitem__)
        if len(along) < 2:
            continue
        numbers = [names.index(name) for name in along]
        changes = np.array([solution.poses[name].matrix for name in along]) @ np.linalg.inv(poses[numbers])
        # Where a section that fits none was scanned is known no better than where it belongs.
        told = np.flatnonzero(fitting[numbers]) if fitting[numbers].any() else np.arange(len(numbers))
        slow, widths, jitter = find_slow_path(changes[told], middle, spread, width)
        whole = fill_maps(slow, told, len(numbers))
        poses[numbers] = np.linalg.inv(whole) @ changes @ poses[numbers]
        found.append((widths, jitter))
    return poses, *(found[0] if found else ((math.inf,) * 3, 0.0))


def find_slow_path(
    changes: Array, middle: Array, spread: float, width: float | None = None
) -> tuple[Array, tuple[float, float, float], float]:
    """Return the slow part of rigid maps along a block.

    How slow it is, for each coordinate, is what predicts a map best from those around it: places of scanning
    scatter from section to section, and what links add up to does not.

    Args:
        changes: ``(N, 3, 3)``.
        middle: ``(2,)`` point whose shift is smoothed.
        spread: pixels by which a turn by one radian moves tissue.
        width: of all coordinates, in sections; each one's own when None.

    Returns:
        Maps ``(N, 3, 3)``, widths of x, y and the turn, and the spread of what is left in pixels.

    Source: of leaving out, Stone, J. Royal Statistical Society B 36(2):111-147, 1974.
    """
    moved = changes[:, :2, :2] @ middle + changes[:, :2, 2] - middle
    directions = changes[:, :2, 0]
    mean = directions.mean(axis=0)
    base = math.atan2(mean[1], mean[0])
    turns = np.arctan2(directions[:, 1], directions[:, 0]) - base
    turns = (turns + math.pi) % (2 * math.pi) - math.pi
    tells = float(np.linalg.norm(mean)) > TURNED
    coordinates = np.column_stack([moved, turns * spread])
    if tells:
        coordinates = _replace_outliers(coordinates)
    smooth = np.empty_like(coordinates)
    widths = []
    for axis, values in enumerate(coordinates.T):
        own = (_choose_width(values) if width is None else width) if tells else math.inf
        smooth[:, axis] = _smooth_values(values, own)
        widths.append(own)
    jitter = float(np.sqrt(((coordinates - smooth) ** 2).mean()))
    maps = [_make_move(x, y, turn / spread + base, middle) for x, y, turn in smooth]
    return np.array(maps), (widths[0], widths[1], widths[2]), jitter


def fill_maps(maps: Array, places: NDArray[np.intp], count: int) -> Array:
    """Return rigid maps at all places from those at some, linearly between and constant beyond them."""
    angles = np.unwrap(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    every = np.arange(count)
    angle = np.interp(every, places, angles)
    result = np.tile(np.eye(3), (count, 1, 1))
    result[:, 0, 0] = result[:, 1, 1] = np.cos(angle)
    result[:, 1, 0] = np.sin(angle)
    result[:, 0, 1] = -result[:, 1, 0]
    for axis in (0, 1):
        result[:, axis, 2] = np.interp(every, places, maps[:, axis, 2])
    return result


def _make_move(x: float, y: float, angle: float, middle: Array) -> Array:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = middle - turn @ middle + np.array([x, y])
    return matrix


def _replace_outliers(values: Array) -> Array:
    """Return values ``(N, k)`` with those far from the median around them put there: slides askew."""
    from scipy.ndimage import median_filter

    middle = median_filter(values, (AROUND, 1), mode="nearest")
    away = np.abs(values - middle)
    usual = 1.4826 * np.median(away, axis=0)
    return np.where(away > OUTLYING * np.maximum(usual, 1e-9), middle, values)


def _smooth_values(values: Array, width: float) -> Array:
    return fit_local_lines(values, width) if math.isfinite(width) else np.full_like(values, values.mean())


def _choose_width(values: Array) -> float:
    """Return the width under which the values around each predict it best; infinite for their mean."""
    count = len(values)
    if count < FEWEST:
        return math.inf
    identity = np.eye(count)
    best, least = math.inf, math.inf
    limit: float | None = None
    # From the widest on: a narrower one must be better.
    for width in (math.inf, *reversed([each for each in WIDTHS if each <= count])):
        hat = fit_local_lines(identity, width) if math.isfinite(width) else np.full((count, count), 1 / count)
        residuals = np.abs((values - hat @ values) / np.maximum(1 - np.diag(hat), 1e-6))
        limit = CLIPPED * float(np.median(residuals)) if limit is None else limit
        cost = float((np.minimum(residuals, limit) ** 2).mean())
        if cost < least * BETTER:
            best, least = width, cost
    return best
