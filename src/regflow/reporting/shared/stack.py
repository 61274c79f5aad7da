"""The page of a stack: cuts across the sections before and after, sections, figures and what to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.reporting.shared.drawing import choose_window, draw_gray, encode_data_uri
from regflow.reporting.shared.render import render_template

Planes = NDArray[np.float32]

CUT_SIDE, SECTION_SIDE = 620, 150
"""Longest side in pixels of a cut, and of a picture of one section."""
MOST_PICTURES = 240
"""Sections shown, evenly chosen, besides those to look at."""
MOST_PROBLEMS = 60
SOUND = "sound"
_FIGURES = {
    "sections": ("sections", "{:.0f}"),
    "sections_missing": ("missing", "{:.0f}"),
    "sections_fitting_none": ("fit no neighbor", "{:.0f}"),
    "sections_mirrored": ("mirrored", "{:.0f}"),
    "sections_stained": ("of another contrast", "{:.0f}"),
    "sections_out_of_order": ("out of order", "{:.0f}"),
    "parts": ("connected parts", "{:.0f}"),
    "links": ("links", "{:.0f}"),
    "links_dropped": ("links dropped", "{:.0f}"),
    "residual_rms_px": ("residual of links, px", "{:.2f}"),
    "closure_median_px": ("closure of triples, px", "{:.2f}"),
    "jitter_px": ("jitter of scanning, px", "{:.2f}"),
    "continuity_scanned": ("correlation of neighbors as scanned", "{:.3f}"),
    "continuity_linear": ("turned and shifted", "{:.3f}"),
    "continuity_bent": ("bent", "{:.3f}"),
}


@dataclass(frozen=True, eq=False)
class StackStory:
    """What the page tells.

    Attributes:
        before: ``(N, h, w)`` the sections as scanned, at few pixels.
        after: ``(N, h, w)`` in the volume.
        thickness: distance of sections in these pixels.
        rows: of the table of sections.
        figures: of the stack.
        problems: sentences.
    """

    before: Planes
    after: Planes
    thickness: float
    rows: Sequence[Mapping[str, Any]]
    figures: Mapping[str, float]
    problems: Sequence[str]


def render_stack_page(story: StackStory) -> str:
    """Return the page."""
    inside = story.after[np.abs(story.after) > 0.02]
    window = choose_window(inside) if inside.size else (0.0, 1.0)
    content = {
        "sentence": _summarize(story.figures),
        "facts": [
            (title, form.format(story.figures[name]))
            for name, (title, form) in _FIGURES.items()
            if name in story.figures
        ],
        "cuts": [
            {
                "title": title,
                "before": _draw_cut(story.before, axis, story, window),
                "after": _draw_cut(story.after, axis, story, window),
            }
            for title, axis in (("along the rows", 1), ("along the columns", 2))
        ],
        "sections": _draw_sections(story, (min(window[0], 0.0), window[1])),
        "hidden": max(0, len(story.rows) - MOST_PICTURES),
        "problems": story.problems[:MOST_PROBLEMS],
        "more_problems": max(0, len(story.problems) - MOST_PROBLEMS),
        "rows": [{**row, "look": row["state"] != SOUND or row["mirrored"] == "yes"} for row in story.rows],
    }
    return render_template("stack.html", scripts=("table.js",), title="Stack", story=content)


def _summarize(figures: Mapping[str, float]) -> str:
    damaged = (
        figures["sections_missing"] + figures["sections_fitting_none"] + figures["sections_out_of_order"]
    )
    tail = f"; {damaged:.0f} are missing, fit no neighbor or lie out of order" if damaged else ""
    return (
        f"{figures['sections']:.0f} sections lie in one volume{tail}. Neighbors correlate by "
        f"{figures['continuity_bent']:.3f}, as scanned by {figures['continuity_scanned']:.3f}."
    )


def _draw_cut(volume: Planes, axis: int, story: StackStory, window: tuple[float, float]) -> str:
    """Return a cut through the middle of the tissue, sections from the top down, in true proportions."""
    import cv2

    weight = np.clip(story.after, 0, None).sum(axis=(0, 3 - axis))
    middle = (
        int(np.searchsorted(np.cumsum(weight), weight.sum() / 2)) if weight.sum() > 0 else len(weight) // 2
    )
    cut = np.take(volume, min(middle, volume.shape[axis] - 1), axis=axis)
    height = max(1, round(len(cut) * story.thickness))
    scale = min(4.0, CUT_SIDE / max(height, cut.shape[1]))
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(height * scale)))
    drawn = cv2.resize(cut, size, interpolation=cv2.INTER_NEAREST)
    return encode_data_uri(draw_gray(drawn, (0.0, window[1])), CUT_SIDE)


def _draw_sections(story: StackStory, window: tuple[float, float]) -> list[dict[str, str]]:
    step = max(1, -(-len(story.rows) // MOST_PICTURES))
    found = []
    for place, (row, plane) in enumerate(zip(story.rows, story.after, strict=True)):
        look = row["state"] != SOUND or row["mirrored"] == "yes"
        if place % step and not look:
            continue
        note = row["state"] if row["state"] != SOUND else "mirrored" if row["mirrored"] == "yes" else ""
        found.append(
            {
                "name": row["section"],
                "note": note,
                "src": encode_data_uri(draw_gray(plane, (0.0, window[1])), SECTION_SIDE),
            }
        )
    return found
