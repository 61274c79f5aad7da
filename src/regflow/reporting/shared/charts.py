"""Distributions over the cohort as inline SVG: one strip of dots per stage, outliers marked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from regflow.metrics.catalog import VOLUMES, Figure

WIDTH = 300
LEFT = 52
RIGHT = 10
ROW = 34
MOST_DOTS = 400
"""Dots per strip; of a larger cohort only the outliers are drawn, beside box and median."""


@dataclass(frozen=True)
class StripDot:
    """One sample's value in a strip."""

    sample: str
    value: float
    link: str | None = None
    outlier: bool = False


def draw_strips(
    rows: Mapping[str, Sequence[StripDot]], figure: Figure, names: Mapping[str, str] = VOLUMES.states
) -> str:
    """Return an ``svg`` element with one strip of dots per row.

    Args:
        rows: dots by the stage's name, top first; an empty name has no label.
        figure: names the values.
        names: of the rows, for people.
    """
    values = [dot.value for dots in rows.values() for dot in dots]
    low, high = _extent(values)
    left = LEFT if any(rows) else RIGHT

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - RIGHT)

    height = ROW * len(rows) + 24
    told = escape(_described(rows, figure, names))
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{told}">']
    for tick in choose_ticks(low, high):
        place = f"{x(tick):.1f}"
        parts.append(f'<line class="axis" x1="{place}" x2="{place}" y1="2" y2="{height - 18}"/>')
        parts.append(f'<text x="{place}" y="{height - 5}" text-anchor="middle">{tick:g}</text>')
    for number, (name, dots) in enumerate(rows.items()):
        middle = ROW * number + ROW / 2 + 2
        parts.append(f'<text x="0" y="{middle + 4:.0f}">{names[name]}</text>')
        parts += _strip(dots, x, middle, figure)
    return "".join([*parts, "</svg>"])


def _strip(dots: Sequence[StripDot], x: Any, middle: float, figure: Figure) -> list[str]:
    if not dots:
        return []
    quarter, median, three = np.percentile([dot.value for dot in dots], (25, 50, 75))
    box = f'<rect class="box" x="{x(quarter):.1f}" y="{middle - 11}" width="{x(three) - x(quarter):.1f}"'
    line = f'<line class="median" x1="{x(median):.1f}" x2="{x(median):.1f}"'
    parts = [f'{box} height="22" rx="3"/>', f'{line} y1="{middle - 11}" y2="{middle + 11}"/>']
    drawn = dots if len(dots) <= MOST_DOTS else [dot for dot in dots if dot.outlier]
    for number, dot in enumerate(drawn):
        # The golden ratio spreads neighbors evenly without a random number.
        offset = ((number * 0.618034) % 1 - 0.5) * 16 if len(drawn) > 1 else 0.0
        kind, radius = ("dot out", 4) if dot.outlier else ("dot", 3)
        title = f"<title>{escape(dot.sample)}: {escape(figure.format_value(dot.value))}</title>"
        circle = f'<circle class="{kind}" cx="{x(dot.value):.1f}" cy="{middle + offset:.1f}" r="{radius}"'
        mark = f"{circle}>{title}</circle>"
        if dot.link:
            mark = f'<a href="{escape(dot.link)}">{mark}</a>'
        parts.append(mark)
    return parts


def _extent(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return low - margin, high + margin


def choose_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Return round numbers within an interval."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def _described(rows: Mapping[str, Sequence[StripDot]], figure: Figure, names: Mapping[str, str]) -> str:
    """Say a chart in words for those who do not see it."""
    told = []
    for name, dots in rows.items():
        values = [dot.value for dot in dots]
        if values:
            median = figure.format_value(float(np.median(values)))
            span = f"{figure.format_value(min(values))} to {figure.format_value(max(values))}"
            told.append(f"{names[name]} median {median}, {span}".strip())
    return f"{figure.title}: {'; '.join(told)}"
