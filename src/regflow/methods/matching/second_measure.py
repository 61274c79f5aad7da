"""A second measure of the same points, independent of the first, and what a field keeps of both.

Where the sun has moved, windows of intensities follow the borders of shadows, and neighboring points
agree on a displacement that is none. The directions of edges count every sample alike, faint or strong,
so that texture outweighs a shadow's border. Windows of another size hold another mixture of the two. A
true displacement is the same for all of them.
"""

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.matching.cross_check import CrossCheck
from regflow.methods.matching.tie_point_set import TiePoints

if TYPE_CHECKING:
    from regflow.methods.matching.spline_field import SplineField

log = logging.getLogger(__name__)

Array = NDArray[Any]

ENOUGH_POINTS = 256
"""Up to so many points all are measured again, else every second along both axes."""
WIDER, NARROWER = 1.5, 0.6
"""Side of windows of another size, in that of the first: wide ones bear noise, where intensities are
compared; directions of edges are tried in narrow ones first, for wide ones hardly measure otherwise."""
WINDOW_PX = (9, 255)
BEYOND_PX = 3
"""How much farther than the first measure's longest shift the second searches: it is to find either that
shift or none."""
LEAST_SHARE = 0.5
"""Of the points measured again that are matched: with fewer the next measure is tried too."""
LEAST_KNOWN = 1 / 3
"""The same, below which the second measure does not say anything against a field."""
NEAR = 12
"""Points around a place whose median tells what the second measure finds there."""
LEAST_NEAR = 3
"""Of these that must have been matched; with fewer the second measure tells nothing."""
SURE = 3.0
"""Standard errors that a difference may have by chance."""
TOLERANCE_PX = 0.1
"""Difference of two measures, beyond their errors, that is no matter."""
RAMP = (0.75, 1.25)
"""The field gives way over this range of difference to what is allowed, so that it bends smoothly."""


def measure_again(
    found: TiePoints,
    fixed: Image,
    moving: Image,
    initial: Transform,
    options: Mapping[str, Any],
    context: RunContext,
) -> TiePoints:
    """Match points that count by another measure; a quarter of them where there are many.

    Args:
        found: what was matched.
        fixed: the fixed scene, lazy or in memory.
        moving: the moving scene.
        initial: the transform from which the shifts count.
        options: those by which the points were matched.
        context: of the run.

    Returns:
        The matches: of directions of edges and windows of another size the first that matches enough
        points, else the one that matches most.
    """
    from regflow.methods.matching.tie_points import match_tie_points

    points = found.points[_spread(found)]
    longest = float(np.abs(found.shifts[found.is_used]).max(initial=0.0))
    options = {**options, "search_px": min(options["search_px"], math.ceil(longest) + BEYOND_PX)}
    best: TiePoints | None = None
    for change in _others(found):
        again = match_tie_points(fixed, moving, initial, points, {**options, **change}, context)
        if best is None or again.is_used.sum() > best.is_used.sum():
            best = again
        if best.is_used.sum() >= LEAST_SHARE * len(points):
            break
    assert best is not None
    return best


def check_field(found: TiePoints, field: "SplineField", again: TiePoints) -> CrossCheck:
    """Hold a field against a second measure and find what both carry.

    At every control point of the field the median of the nearest matches of the second measure is
    compared with the field. Where they differ by :data:`TOLERANCE_PX` and either :data:`SURE` standard
    errors, or one and more than the second measure differs from no local displacement, the field falls
    back to the shortest displacement between the two, counted from the second measure's median over the
    scene. One that matches too few points leaves the field as it is.

    Args:
        found: the points of the first measure.
        field: fitted to them.
        again: the second measure of some of them.
    """
    from regflow.methods.matching.spline_field import SplineField, list_control_places

    nodes = list_control_places(field)
    base = np.median(again.shifts[again.is_used], axis=0) if again.is_used.any() else np.zeros(2)
    local = field.evaluate(nodes) - base
    # A window measures the mean over its side, which in a field that curves is not the middle's.
    spread = (again.window_px**2 - 1) / 12.0
    expected = field.evaluate(again.points) + 0.5 * spread * field.compute_laplacian(again.points)
    differences, errors, counts = compute_local_medians(
        again.points, again.shifts - expected, again.is_used, nodes
    )
    second = np.where(counts[:, None] >= LEAST_NEAR, local + differences, 0.0)
    share = float(again.is_used.mean())
    weight = _doubt(local, second, errors) if share >= LEAST_KNOWN else np.zeros(len(nodes))
    change = weight[:, None] * (_shortest(local, second) - local)
    shape = field.coefs.shape[1:]
    correction = SplineField(change.T.reshape(2, *shape), field.origin, field.spacing)
    inside = nodes[_within(nodes, found, field)]
    lengths = np.hypot(*correction.evaluate(inside).T)
    at = inside[int(np.argmax(lengths))]
    return CrossCheck(
        describe_cross_check(again, found),
        100.0 * share,
        correction,
        float(lengths.max()),
        (float(at[0]), float(at[1])),
        100.0 * float((lengths > TOLERANCE_PX).mean()),
    )


def compute_local_medians(
    points: Array, values: Array, used: Array, places: Array
) -> tuple[Array, Array, Array]:
    """Return medians of the nearest values, their standard errors, and how many there were.

    Args:
        points: ``(N, 2)``.
        values: ``(N, 2)`` at the points.
        used: ``(N,)`` those that count; the others are neighbors too, which tell nothing.
        places: ``(M, 2)`` where medians are wanted.

    Returns:
        ``(M, 2)``, NaN without values; ``(M,)`` of one component, from the scatter nearby or over all
        the points, whichever is greater; ``(M,)``.
    """
    from scipy.spatial import cKDTree

    near = cKDTree(points).query(places, min(NEAR, len(points)))[1].reshape(len(places), -1)
    known = np.where(used[:, None], values, np.nan)[near]
    counts = np.isfinite(known[..., 0]).sum(axis=1)
    medians = np.full((len(places), 2), np.nan)
    scatter = np.full(len(places), np.nan)
    seen = counts > 0
    medians[seen] = np.nanmedian(known[seen], axis=1)
    off = np.abs(known[seen] - medians[seen, None]).reshape(int(seen.sum()), -1)
    scatter[seen] = 1.4826 * np.nanmedian(off, axis=1)
    usual = float(np.nanmedian(scatter)) if seen.any() else np.nan
    # The median's efficiency: its error is 1.25 times that of the mean.
    return medians, 1.2533 * np.fmax(scatter, usual) / np.sqrt(np.maximum(counts, 1)), counts


def describe_cross_check(again: TiePoints, found: TiePoints) -> str:
    """Return the name of a second measure."""
    same = again.channels == found.channels
    return f"windows of {again.window_px} px" if same else "directions of edges"


def _others(found: TiePoints) -> list[dict[str, Any]]:
    """Return what to change in the options for each second measure, the most independent first."""
    narrow, wide = (
        {
            "channels": found.channels,
            "window_px": min(max(round(share * found.window_px), WINDOW_PX[0]), WINDOW_PX[1]),
        }
        for share in (NARROWER, WIDER)
    )
    return [narrow, wide] if found.channels == "gradients" else [{"channels": "gradients"}, wide]


def _spread(found: TiePoints) -> NDArray[np.int64]:
    """Return the points to measure again: of those that count, where many, every second row and column."""
    used = np.flatnonzero(found.is_used)
    if len(used) <= ENOUGH_POINTS:
        return used
    keep = np.ones(len(used), bool)
    for axis in (0, 1):
        values = found.points[used, axis]
        keep &= np.searchsorted(np.unique(values), values) % 2 == 0
    return used[keep]


def _doubt(local: Array, second: Array, errors: Array) -> Array:
    """Return 0 where a second measure confirms a field, 1 where it contradicts it."""
    apart = np.hypot(*(second - local).T)
    errors = np.nan_to_num(errors)
    allowed = TOLERANCE_PX + SURE * errors
    nearer = np.where(apart > TOLERANCE_PX + errors, apart / np.maximum(np.hypot(*second.T), 1e-6), 0.0)
    ratio = np.maximum(apart / allowed, nearer)
    rise = np.clip((ratio - RAMP[0]) / (RAMP[1] - RAMP[0]), 0.0, 1.0)
    return np.asarray(rise * rise * (3.0 - 2.0 * rise))


def _shortest(one: Array, other: Array) -> Array:
    """Return the shortest vectors on the lines from ``one`` to ``other``, ``(N, 2)``."""
    way = other - one
    squares = np.maximum((way**2).sum(axis=1), 1e-24)
    along = np.clip(-(one * way).sum(axis=1) / squares, 0.0, 1.0)
    return np.asarray(one + along[:, None] * way)


def _within(nodes: Array, found: TiePoints, field: "SplineField") -> Array:
    """Return which nodes lie among the points."""
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    return np.asarray(((nodes >= low - field.spacing) & (nodes <= high + field.spacing)).all(axis=1))
