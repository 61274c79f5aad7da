"""What check points confirm, contradict, or cannot tell: the figures of a result held against limits.

Too few points to measure by, or points that scatter as far as their own errors have it, contradict
nothing: across sensors a right map has such points. They leave the result unconfirmed, which is ``warn``.
Where check points confirm a result, windows that correlate less than at the start are worth a ``warn``.
"""

import math
from collections.abc import Mapping

from regflow.core.gate import Verdict, find_worst_verdict, judge_figures

COUNTS = ("check_points_used", "check_points_used_percent")
SCATTERS = {"ce90_px_refine": 1.0, "median_px_refine": 0.55}
CHANGE = "rmse_px_change"
"""Figures of check points: how many, how far they are from the result (and what part of the errors'
radius of 90 % such a figure is for errors alone), and what refinement changed."""
MOST_NOISE = 1.5
"""How many times its limit the scatter may be where the check points' own errors explain it: points that
find nothing scatter over all that they search."""
CORRELATION = "ncc_change"
"""Of all figures the one that a right map may worsen: windows of two sensors correlate by shading too."""

Limits = Mapping[str, Mapping[str, float]]


def judge_scene(
    figures: Mapping[str, float],
    limits: Limits,
    *,
    seen: bool,
    meanings: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Return what the figures of ``quality.json`` say of a result, verdict by verdict.

    Args:
        figures: by name.
        limits: by figure, as :func:`regflow.core.gate.judge_figures` takes them.
        seen: whether an earlier gate has seen evidence of the map; without any, what check points do
            not confirm fails.
        meanings: by figure, what it means when a limit is broken.
    """
    counted = judge_figures(figures, {name: limits.get(name, {}) for name in COUNTS})
    correlated = judge_figures(figures, {CORRELATION: limits.get(CORRELATION, {})}, meanings)
    apart = (*COUNTS, *SCATTERS, CORRELATION)
    rest = {name: bounds for name, bounds in limits.items() if name not in apart}
    if counted.status != "fail":
        scattered = find_worst_verdict(
            [_by_scatter(figures, name, limits.get(name, {})) for name in SCATTERS]
        )
        if correlated.status == "fail" and scattered.status != "fail":
            correlated = Verdict("warn", correlated.reason)
        return [scattered, counted, judge_figures(figures, rest, meanings), correlated]
    rest.pop(CHANGE, None)
    if seen:
        counted = Verdict("warn", f"not confirmed: {counted.reason}")
    return [counted, judge_figures(figures, rest, meanings), correlated]


def _by_scatter(figures: Mapping[str, float], name: str, bounds: Mapping[str, float]) -> Verdict:
    """Hold the check points' distances against limits, beyond what their own errors explain."""
    scatter, own = figures[name], SCATTERS[name] * figures["own_error_ce90_px"]
    whole = judge_figures({name: scatter}, {name: bounds})
    limit = bounds.get("fail_above", math.inf)
    beyond = math.sqrt(max(scatter**2 - own**2, 0.0))
    if whole.status != "fail" or beyond > limit or scatter > MOST_NOISE * limit:
        return whole
    return Verdict(
        "warn",
        f"not confirmed to better than {scatter:.2g} px: check points err by "
        f"{figures['own_error_ce90_px']:.2g} px (CE90) themselves",
    )
