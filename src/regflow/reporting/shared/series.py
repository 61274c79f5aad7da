"""The page of a series: its images on one another, where each was moved, links and closures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regflow.core.image import Image
from regflow.reporting.shared.drawing import choose_window, draw_gray, encode_data_uri
from regflow.reporting.shared.render import render_template

PICTURE_SIDE = 480
MOST_ROWS = 400
"""Of links and closures on the page, the worst ones; the tables hold them all."""
_CHART = (720.0, 180.0, 30.0)
"""Width, height and margin of the chart of shifts, in its own units."""


def render_series_report(pictures: Mapping[str, Image], record: Mapping[str, Any], unit: str) -> str:
    """Return the page.

    Args:
        pictures: aligned images by name, in order.
        record: the content of ``series.json``.
        unit: of shifts, residuals and closures.
    """
    figures, images = record["figures"], record["images"]
    used = [row for row in images if row["used"] == "yes"]
    story = {
        "sentence": _summarize(record, unit),
        "facts": [(name, str(record["options"][name])) for name in ("model", "onto", "motion")],
        "pictures": [{"name": name, "src": _draw(image)} for name, image in pictures.items()],
        "chart": draw_shift_chart(used, unit),
        "unit": unit,
        "figures": [(name.replace("_", " "), f"{value:.4g}") for name, value in figures.items()],
        "images": images,
        "axes": [axis for axis in "xyz" if any(f"shift_{axis}_{unit}" in row for row in used)],
        "links": _pick_worst(record["links"], f"residual_{unit}"),
        "closures": _pick_worst(record["closures"], f"closure_{unit}"),
        "changes": record["changes"],
        "volumes": record["volumes"],
    }
    return render_template("series.html", scripts=("table.js", "flip.js"), title="Series", story=story)


def draw_shift_chart(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Return an ``svg`` element with a line for each axis of the images' shifts over the series."""
    width, height, margin = _CHART
    lines = {
        axis: [row[f"shift_{axis}_{unit}"] for row in rows]
        for axis in "xyz"
        if rows and f"shift_{axis}_{unit}" in rows[0]
    }
    values = [value for line in lines.values() for value in line]
    if len(rows) < 2:
        return ""
    low, high = min([*values, 0.0]), max([*values, 0.0])
    span = (high - low) or 1.0
    across = (width - 2 * margin) / (len(rows) - 1)

    def place(value: float) -> float:
        return height - margin - (value - low) / span * (height - 2 * margin)

    parts = [
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="Shifts of the images, {unit}">',
        f'<line x1="{margin:g}" x2="{width - margin:g}" y1="{place(0):.1f}" y2="{place(0):.1f}" '
        'stroke="currentColor" opacity=".3"/>',
    ]
    for (axis, line), color in zip(lines.items(), ("#2468b2", "#c4501b", "#3a7d44"), strict=False):
        points = " ".join(f"{margin + n * across:.1f},{place(value):.1f}" for n, value in enumerate(line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(
            f'<text x="{width - margin + 4:g}" y="{place(line[-1]):.1f}" fill="{color}">{axis}</text>'
        )
    for value in (low, high):
        parts.append(
            f'<text x="2" y="{place(value):.1f}" font-size="10" fill="currentColor">{value:.2f}</text>'
        )
    return "".join([*parts, "</svg>"])


def _summarize(record: Mapping[str, Any], unit: str) -> str:
    figures = record["figures"]
    images = record["images"]
    used = sum(row["used"] == "yes" for row in images)
    parts = sum(len(part) > 1 for part in record["parts"])
    told = f"{used} of {len(images)} images lie on one grid"
    if parts > 1:
        told += f", in {parts} parts that nothing joins"
    closure = f"{figures[f'closure_median_{unit}']:.3f} {unit}"
    dropped = f"{figures['links_dropped']:.0f} of {figures['links']:.0f} links"
    return (
        f"{told}; loops of three measured registrations close to {closure} in the middle, and {dropped} "
        "contradicted the others."
    )


def _pick_worst(rows: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    ranked = sorted(rows, key=lambda row: -float(row.get(name, np.inf)))
    return ranked[:MOST_ROWS]


def _draw(image: Image) -> str:
    values = image.channel.astype(np.float32)
    valid = np.isfinite(values) if image.mask is None else image.mask
    window = choose_window(values[valid])
    return encode_data_uri(draw_gray(np.where(valid, values, window[0]), window), PICTURE_SIDE)
