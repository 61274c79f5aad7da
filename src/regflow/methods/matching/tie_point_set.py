"""Tie points with what is known about each: where, how far, how sure, and why one does not count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.transform import Transform

if TYPE_CHECKING:
    from regflow.methods.matching.cross_check import CrossCheck

Array = NDArray[Any]

REASONS = (
    "",
    "no data",
    "texture",
    "correlation",
    "reliability",
    "forward-backward",
    "neighbors",
    "fit",
)
"""Why a point does not count, in the order in which that is looked at; empty when it does."""

CORRELATED_SAMPLES = 9.0
"""Samples of a window that count as one independent sample: images are smooth over about 3 by 3."""
LEAST_VALID = 0.15
"""Share of a window that must be valid in both scenes, as in ``tie_point_windows``."""
BACK_SCALE_PX = 0.5
"""Disagreement between there and back at which the reliability has fallen to 61%."""


@dataclass(frozen=True, eq=False)
class TiePoints:
    """Matches of points of the fixed scene.

    Attributes:
        points: ``(N, 2)`` ``(x, y)``, pixels of the fixed working grid, whole.
        shifts: ``(N, 2)`` what is left, after the initial transform, from each point to its match,
            in pixels of the fixed grid; NaN where there is none.
        measures: further columns ``(N,)`` by name.
        reason: ``(N,)`` index into :data:`REASONS`.
        window_px: side of the windows.
        channels: ``intensity``, ``inverted`` or ``gradients``: what was compared.
        residuals: ``(N, 2)`` shift less the fitted field's, pixels; NaN before the fit.
        check: what a second measure says of the field; None where there was nothing to check.
    """

    points: Array
    shifts: Array
    measures: Mapping[str, Array]
    reason: NDArray[np.int8]
    window_px: int
    channels: str
    residuals: Array = field(default_factory=lambda: np.empty((0, 2)))
    check: "CrossCheck | None" = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def is_used(self) -> NDArray[np.bool_]:
        """The points that count."""
        return np.asarray(self.reason == 0)

    @property
    def error_px(self) -> Array:
        """Standard error of each shift that the windows' residual predicts, pixels."""
        return np.hypot(self.measures["error_x"], self.measures["error_y"])

    @property
    def back_px(self) -> Array:
        """Distance between a point and its match's match, pixels."""
        return np.hypot(self.measures["back_x"], self.measures["back_y"])


def judge_matches(
    points: Array, rows: Array, columns: tuple[str, ...], options: Mapping[str, Any], channels: str
) -> TiePoints:
    """Turn the rows that ``match_windows`` filled into tie points with reliability and reasons."""
    measures = {name: rows[:, k] for k, name in enumerate(columns)}
    window = int(options["window_px"])
    samples = np.nan_to_num(measures["valid"]) * int(options["search_window"]) ** 2 / CORRELATED_SAMPLES
    back = np.hypot(measures["back_x"], measures["back_y"])
    measures["reliability"] = compute_reliability(measures["peak"], measures["rival"], back, samples)
    reason = np.zeros(len(points), np.int8)
    checks = {
        "no data": ~(measures["valid"] >= LEAST_VALID),
        "texture": ~np.isfinite(measures["zncc"]),
        "correlation": ~(measures["zncc"] >= options["min_correlation"]),
        "reliability": ~(measures["reliability"] >= options["min_reliability_percent"]),
        "forward-backward": ~(back <= options["max_forward_backward_px"]),
    }
    for name, failed in checks.items():
        reason[(reason == 0) & failed] = REASONS.index(name)
    shifts = np.stack([measures.pop("shift_x"), measures.pop("shift_y")], axis=1)
    return TiePoints(points, shifts, measures, reason, window, channels)


def compute_reliability(peak: Array, rival: Array, back: Array, samples: Array | float) -> Array:
    """Return, in percent, how sure it is that a match is the right one.

    It is the probability, by Fisher's transformation, that the search's highest correlation is truly
    higher than its rival's, lowered by the disagreement between there and back.

    Args:
        peak: highest correlation of the search.
        rival: highest one elsewhere.
        back: distance between a point and its match's match, pixels.
        samples: independent samples that were compared.
    """
    from scipy.special import ndtr

    z = np.arctanh(np.clip(peak, -0.999, 0.999)) - np.arctanh(np.clip(rival, -0.999, 0.999))
    ahead = ndtr(z * np.sqrt(np.maximum(samples - 3.0, 1.0) / 2.0))
    return np.asarray(100.0 * ahead * np.exp(-0.5 * (back / BACK_SCALE_PX) ** 2))


def list_table_columns(
    found: TiePoints, fixed: Grid, initial: Transform, meters: tuple[float, float] | None
) -> dict[str, Array]:
    """Return the table of the points, ready to be written: AROSICS' names where it has the column.

    ``x_im, y_im``: pixel of the fixed scene's working grid; ``x_map, y_map``: there in CRS units;
    ``x_moving, y_moving``: the match, in the moving scene, in the fixed scene's CRS; ``dx, dy``: from
    the one to the other, CRS units; ``x_shift_px, y_shift_px, abs_shift_px, angle_deg``: the same in
    pixels of the fixed grid (x right, y down); ``x_shift_m, y_shift_m, abs_shift_m``: in meters, where
    a CRS says how long a unit is; ``residual_x_px, residual_y_px``: less the fitted field;
    ``reliability`` in percent; ``outlier`` and its ``reason``.

    Args:
        found: the points.
        fixed: working grid of the fixed scene.
        initial: the transform that the shifts are added to.
        meters: length in meters of a CRS unit along x and along y; None without one.
    """
    here = fixed.to_world(found.points)
    there = initial.apply(fixed.to_world(found.points + np.nan_to_num(found.shifts)))
    there[~np.isfinite(found.shifts).all(1)] = np.nan
    moved = there - here
    pixels = fixed.to_index_vectors(moved)
    angle = np.degrees(np.arctan2(pixels[:, 1], pixels[:, 0]))
    table: dict[str, Array] = {"point_id": np.arange(len(found))}
    _pair(table, "x_im", "y_im", found.points)
    _pair(table, "x_map", "y_map", here)
    _pair(table, "x_moving", "y_moving", there)
    _pair(table, "dx", "dy", moved)
    _pair(table, "x_shift_px", "y_shift_px", pixels)
    table["abs_shift_px"] = np.hypot(*pixels.T)
    table["angle_deg"] = angle
    if meters is not None:
        _pair(table, "x_shift_m", "y_shift_m", moved * meters)
        table["abs_shift_m"] = np.hypot(*(moved * meters).T)
    residuals = found.residuals if len(found.residuals) else np.full_like(found.shifts, np.nan)
    _pair(table, "residual_x_px", "residual_y_px", residuals)
    table["reliability"] = found.measures["reliability"]
    table["correlation"] = found.measures["zncc"]
    table["ssim_before"], table["ssim_after"] = found.measures["ssim_before"], found.measures["ssim_after"]
    table["error_px"], table["forward_backward_px"] = found.error_px, found.back_px
    table["valid_percent"] = 100.0 * found.measures["valid"]
    table["win_size_px"] = np.full(len(found), found.window_px)
    table["outlier"] = ~found.is_used
    table["reason"] = np.array(REASONS)[found.reason]
    return table


def _pair(table: dict[str, Array], x: str, y: str, values: Array) -> None:
    table[x], table[y] = values[:, 0], values[:, 1]
