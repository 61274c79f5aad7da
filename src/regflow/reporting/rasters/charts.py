"""Residuals as inline SVG: histograms before and after, and their scatter around zero."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from regflow.reporting.shared.charts import choose_ticks

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 10, 34
BINS = 40
SIDE = 240


def draw_histogram(lengths: Mapping[str, NDArray[np.float64]], names: Mapping[str, str]) -> str:
    """Return an ``svg`` of the residuals' lengths in pixels, one outline per state.

    Args:
        lengths: by state, ``before`` and ``after`` in this order; at least one value each.
        names: of the states, for people.
    """
    end = max(0.1, *(float(np.percentile(values, 98)) * 1.1 for values in lengths.values()))
    edges = np.linspace(0, end, BINS + 1)
    shares = {
        state: np.histogram(np.minimum(values, end), edges)[0] / len(values)
        for state, values in lengths.items()
    }
    top = max(float(share.max()) for share in shares.values()) * 1.08

    def x(value: float) -> float:
        return LEFT + value / end * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share / top * (HEIGHT - BOTTOM - TOP)

    told = "; ".join(f"{names[s]}: median {np.median(v):.2f} px" for s, v in lengths.items())
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Residuals. {escape(told)}">']
    for tick in choose_ticks(0, end):
        parts.append(f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{y(0):.1f}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{y(0) + 14:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in choose_ticks(0, 100 * top, most=3)[1:]:
        parts.append(f'<text x="{LEFT - 5}" y="{y(tick / 100) + 4:.1f}" text-anchor="end">{tick:g}%</text>')
    for state, share in shares.items():
        points = [f"{x(0):.1f} {y(0):.1f}"]
        for low, high, part in zip(edges[:-1], edges[1:], share, strict=True):
            points += [f"{x(low):.1f} {y(float(part)):.1f}", f"{x(high):.1f} {y(float(part)):.1f}"]
        points.append(f"{x(end):.1f} {y(0):.1f}")
        parts.append(f'<path class="hist {state}" d="M{" L".join(points)}z"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 3}" text-anchor="middle">residual in pixels</text>')
    return "".join([*parts, "</svg>"])


def draw_scatter(residuals: NDArray[np.float64], ce90: float) -> str:
    """Return an ``svg`` of residuals ``(N, 2)`` in pixels around zero, with the CE90 circle."""
    bound = max(0.1, 1.25 * ce90, float(np.percentile(np.abs(residuals), 99)) if len(residuals) else 0.1)
    middle = SIDE / 2
    scale = (middle - 26) / bound
    parts = [
        f'<svg class="round" viewBox="0 0 {SIDE} {SIDE}" role="img" '
        f'aria-label="Residuals around zero; nine of ten lie within {ce90:.2f} px">',
        f'<path class="axis" d="M26 {middle}H{SIDE - 26}M{middle} 26V{SIDE - 26}"/>',
    ]
    for tick in choose_ticks(-bound, bound):
        if tick:
            place = middle + tick * scale
            parts.append(
                f'<text x="{place:.1f}" y="{middle + 13:.1f}" text-anchor="middle">{tick:g}</text>'
                f'<path class="axis" d="M{place:.1f} {middle - 3}v6M{middle - 3} {place:.1f}h6"/>'
            )
    for dx, dy in np.clip(residuals, -bound, bound):
        parts.append(
            f'<circle class="dot" cx="{middle + dx * scale:.1f}" cy="{middle + dy * scale:.1f}" r="2.2"/>'
        )
    parts.append(f'<circle class="ring" cx="{middle}" cy="{middle}" r="{ce90 * scale:.1f}"/>')
    parts.append(f'<text x="{middle}" y="{SIDE - 6}" text-anchor="middle">pixels; the ring is CE90</text>')
    return "".join([*parts, "</svg>"])


def draw_arrows(
    starts: NDArray[np.float64], ends: NDArray[np.float64], kinds: Sequence[str]
) -> list[tuple[str, str]]:
    """Return SVG paths of arrows by their kind, in the picture's pixels.

    Args:
        starts: ``(N, 2)`` feet.
        ends: ``(N, 2)`` tips.
        kinds: ``N`` names; each becomes one path.
    """
    found: dict[str, list[str]] = {}
    for (x0, y0), (x1, y1), kind in zip(starts, ends, kinds, strict=True):
        found.setdefault(kind, []).append(_arrow(x0, y0, x1, y1))
    return [(kind, "".join(parts)) for kind, parts in sorted(found.items())]


def _arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    dx, dy = x1 - x0, y1 - y0
    length = float(np.hypot(dx, dy))
    line = f"M{x0:.1f} {y0:.1f}l{dx:.1f} {dy:.1f}"
    if length < 1.5:
        return f"M{x0 - 0.7:.1f} {y0:.1f}h1.4"
    head = min(4.5, 0.4 * length)
    ux, uy = dx / length * head, dy / length * head
    left = f"{-ux - 0.45 * uy:.1f} {-uy + 0.45 * ux:.1f}"
    right = f"{-ux + 0.45 * uy:.1f} {-uy - 0.45 * ux:.1f}"
    return f"{line}l{left}M{x1:.1f} {y1:.1f}l{right}"
