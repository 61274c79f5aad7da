"""Check points: correspondences that no fit has seen, and what they say about a transform.

A check point is measured from the initial transform, as a tie point is, but at other places and
without looking at any later transform; so it judges them without bias. Those that count are measured
again by directions of edges: where another sun deceives intensities, tie points and check
points err alike.

Terms: RMSE is the root of the mean squared length of the residuals; CE90 and CE95 are the radii that
hold 90% and 95% of them (FGDC-STD-007.3, Geospatial Positioning Accuracy Standards, 1998); bias is
the mean residual. Check points err themselves: their own error is what their matching states, or what
neighbors differ by where that is more, as neighbors share what is wrong with a transform but not their
errors (the nugget of a variogram: Cressie, Statistics for Spatial Data, 1993, section 2.4).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.matching.second_measure import NEAR, SURE, compute_local_medians
from regflow.methods.matching.tie_point_set import REASONS, TiePoints

Array = NDArray[Any]

OPTIONS: dict[str, Any] = {
    "window_px": 49,
    "search_px": 16,
    "channels": "auto",
    "min_correlation": 0.4,
    "min_reliability_percent": 60.0,
    "max_forward_backward_px": 0.4,
}
"""How check points are matched; see ``tie_point_options``."""

JITTER = 0.35
"""Share of the spacing by which a check point may lie off the middle of its cell: no regular pattern
of them can coincide with that of the tie points."""


@dataclass(frozen=True, eq=False)
class CheckPoints:
    """Measured correspondences.

    Attributes:
        points: ``(N, 2)`` fixed world points.
        partners: ``(N, 2)`` their measured moving world points, NaN where none was found.
        matched: what is known of each match; ``used`` are those that count.
        fixed: grid whose pixels are the unit of residuals.
        again: a second, independent measure of those that count; its ``points`` are pixels of ``fixed``.
        partners_again: ``(M, 2)`` the moving world points that it found, NaN where none.
    """

    points: Array
    partners: Array
    matched: TiePoints
    fixed: Grid
    again: TiePoints
    partners_again: Array

    @property
    def is_used(self) -> NDArray[np.bool_]:
        """The points that count."""
        return self.matched.is_used

    def compute_residuals(self, transform: Transform) -> Array:
        """Return measured less mapped, ``(N, 2)`` world units."""
        return np.asarray(self.partners - transform.apply(self.points))

    def compute_residuals_px(self, transform: Transform) -> Array:
        """Return measured less mapped, ``(N, 2)`` pixels of the fixed grid, x right and y down."""
        return self.fixed.to_index_vectors(self.compute_residuals(transform))

    def find_contradiction(self, transform: Transform) -> tuple[float, tuple[float, float]] | None:
        """Return the largest residual of the second measure that many points share, and where.

        It is the length of a median over neighbors less what that may be by chance, in pixels of the
        fixed grid, and the place of the point in their middle, ``(x, y)`` in its pixels. None where the
        second measure found too few points.
        """
        used = self.again.is_used
        if used.sum() < NEAR:
            return None
        here = self.again.points
        left = self.fixed.to_index_vectors(self.partners_again - transform.apply(self.fixed.to_world(here)))
        medians, errors, counts = compute_local_medians(here, left, used, here)
        told = counts >= NEAR // 2
        beyond = np.where(told, np.hypot(*medians.T) - SURE * errors, -np.inf)
        most = int(np.argmax(np.nan_to_num(beyond, nan=-np.inf)))
        x, y = here[most]
        return max(float(beyond[most]), 0.0), (float(x), float(y))


def measure_check_points(
    fixed: Image,
    moving: Image,
    initial: Transform,
    count: int,
    context: RunContext,
    *,
    options: Mapping[str, Any] | None = None,
) -> CheckPoints:
    """Measure about ``count`` correspondences over the scenes' overlap.

    Args:
        fixed: the fixed scene at working resolution, lazy or in memory.
        moving: the moving scene.
        initial: where to look for partners.
        count: how many to lay out.
        context: of the run; its seed is that of the places.
        options: in place of some of :data:`OPTIONS`.

    Raises:
        RegistrationError: the scenes do not overlap.
    """
    from regflow.methods.matching.second_measure import measure_again
    from regflow.methods.matching.tie_points import find_overlap, match_tie_points

    low, high = find_overlap(fixed.grid, moving.grid, initial)
    places = lay_check_points(low, high, count, np.random.default_rng([context.seed, 0xC4EC]))
    settings = {**OPTIONS, **(options or {})}
    found = match_tie_points(fixed, moving, initial, places, settings, context)
    again = found
    if found.is_used.any():
        again = measure_again(found, fixed, moving, initial, settings, context)
    return CheckPoints(
        fixed.grid.to_world(places),
        _partners(found, fixed.grid, initial),
        found,
        fixed.grid,
        again,
        _partners(again, fixed.grid, initial),
    )


def _partners(found: TiePoints, fixed: Grid, initial: Transform) -> Array:
    """Return the moving world points ``(N, 2)`` that were found, NaN where none."""
    partners = initial.apply(fixed.to_world(found.points + np.nan_to_num(found.shifts)))
    partners[~np.isfinite(found.shifts).all(axis=1)] = np.nan
    return partners


def lay_check_points(low: Array, high: Array, count: int, rng: np.random.Generator) -> Array:
    """Return about ``count`` whole pixels ``(N, 2)``, one at random in each of equal cells."""
    size = high - low + 1
    side = np.sqrt(float(size.prod()) / count)
    cells = np.maximum(np.round(size / side), 1).astype(int)
    axes = [np.arange(n) + 0.5 for n in cells]
    middles = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    places = low + (middles + rng.uniform(-JITTER, JITTER, middles.shape)) * size / cells
    return np.clip(np.round(places), low, high)


def compute_residual_figures(residuals: Array, meters: tuple[float, float] | None) -> dict[str, float]:
    """Return the figures of residuals ``(N, 2)`` in pixels.

    Args:
        residuals: of the points that count.
        meters: in a pixel along x and y; None gives no figures in meters.

    Returns:
        ``rmse_px, ce90_px, ce95_px, median_px, max_px, bias_x_px, bias_y_px, bias_px`` and, with
        meters, ``rmse_m, ce90_m, ce95_m, bias_m``; NaN without points.
    """
    found: dict[str, float] = {}
    units = {"px": (1.0, 1.0), **({"m": meters} if meters else {})}
    for unit, scale in units.items():
        scaled = residuals * np.asarray(scale)
        lengths = np.hypot(*scaled.T)
        empty = len(lengths) == 0
        bias = np.full(2, np.nan) if empty else scaled.mean(axis=0)
        found[f"rmse_{unit}"] = np.nan if empty else float(np.sqrt((lengths**2).mean()))
        for name, percent in (("ce90", 90), ("ce95", 95), ("median", 50), ("max", 100)):
            found[f"{name}_{unit}"] = np.nan if empty else float(np.percentile(lengths, percent))
        found[f"bias_x_{unit}"], found[f"bias_y_{unit}"] = float(bias[0]), float(bias[1])
        found[f"bias_{unit}"] = float(np.hypot(*bias))
    return found


def measure_own_error_ce90(points: Array, residuals: Array, stated: Array) -> float:
    """Return the CE90 that check points would have under the true transform, by their own errors.

    Args:
        points: ``(N, 2)`` places in pixels.
        residuals: ``(N, 2)`` measured less mapped, in pixels.
        stated: ``(N,)`` root mean square length of each point's error as its matching states it, pixels.

    Returns:
        Pixels: the larger of what is stated and what nearest neighbors differ by; NaN without points.
    """
    from scipy.spatial import cKDTree

    if len(points) == 0:
        return float("nan")
    stated_ce90 = _quantile_of_errors(stated, 0.9)
    if len(points) < 3:
        return stated_ce90
    nearest = cKDTree(points).query(points, k=2)[1][:, 1]
    differences = np.hypot(*(residuals - residuals[nearest]).T)
    # A difference has the variance of two errors.
    return max(stated_ce90, float(np.percentile(differences, 90)) / math.sqrt(2))


def _quantile_of_errors(errors: Array, share: float) -> float:
    """Return the length that a share of normal errors stays below, each of its own root mean square."""
    from scipy.optimize import brentq

    known = errors[np.isfinite(errors) & (errors > 0)]
    if len(known) == 0:
        return 0.0

    def excess(length: float) -> float:
        return float(np.mean(-np.expm1(-((length / known) ** 2)))) - share

    return float(brentq(excess, 0.0, 4 * float(known.max())))


def count_reasons(found: TiePoints) -> dict[str, int]:
    """Return how many points do not count, by the reason."""
    counts = np.bincount(found.reason, minlength=len(REASONS))
    return {name: int(counts[k]) for k, name in enumerate(REASONS) if k and counts[k]}


def average_residuals(points: Array, residuals: Array, grid: Grid, along: int = 64) -> tuple[Array, Grid]:
    """Return residuals averaged over their surroundings, on a coarse grid of the fixed scene.

    Args:
        points: ``(N, 2)`` world points.
        residuals: ``(N, 2)`` pixels.
        grid: of the fixed scene.
        along: cells along the longer side.

    Returns:
        ``(3, rows, cols)`` float32: along x, along y, and length; and the coarse grid. NaN where no
        point is within three times the points' mean distance.
    """
    from scipy.spatial import cKDTree

    cell = max(grid.size) / along
    coarse = grid.with_spacing([float(cell * step) for step in grid.spacing])
    rows, cols = coarse.shape
    index = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).reshape(-1, 2)
    here = grid.to_index(coarse.to_world(index))
    out = np.full((3, rows * cols), np.nan, np.float32)
    if len(points):
        places = grid.to_index(points)
        reach = np.sqrt(float(np.prod(np.ptp(places, axis=0) + 1)) / len(places))
        distance, near = cKDTree(places).query(here, k=min(8, len(places)))
        distance, near = distance.reshape(len(here), -1), near.reshape(len(here), -1)
        weight = np.exp(-0.5 * (distance / reach) ** 2) * (distance <= 3 * reach)
        total = weight.sum(axis=1)
        seen = total > 0
        mean = (weight[..., None] * residuals[near]).sum(axis=1)[seen] / total[seen, None]
        out[:2, seen] = mean.T
        out[2, seen] = np.hypot(*mean.T)
    return out.reshape(3, rows, cols), coarse
