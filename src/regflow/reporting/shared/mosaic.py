"""The page of a mosaic: the picture with its tiles and links, figures, and tables of links and loops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.groupwise.solution import GraphSolution, LinkResidual
from regflow.reporting.shared.drawing import choose_window, draw_gray, encode_data_uri
from regflow.reporting.shared.render import render_template

PICTURE_SIDE = 1400
MOST_ROWS = 400
"""Links in the table, the largest residuals first."""
MOST_PROBLEMS = 40
_FIGURES = {
    "tiles": ("tiles", "{:.0f}"),
    "links": ("links", "{:.0f}"),
    "parts": ("connected parts", "{:.0f}"),
    "residual_rms_px": ("residual of links, px", "{:.3f}"),
    "residual_max_px": ("largest residual, px", "{:.3f}"),
    "closure_median_px": ("closure of triples, px", "{:.3f}"),
    "stage_error_rms_px": ("error of expected offsets, px", "{:.1f}"),
    "tiles_without_link": ("tiles without a link", "{:.0f}"),
    "pairs_without_link": ("overlaps without a link", "{:.0f}"),
    "links_dropped": ("links dropped", "{:.0f}"),
    "falloff_percent": ("fall of light, %", "{:.1f}"),
    "gain_spread_percent": ("spread of gains, %", "{:.2f}"),
}


@dataclass(frozen=True, eq=False)
class MosaicStory:
    """What the page tells.

    Attributes:
        picture: a small picture of the mosaic, ``(h, w)``, not-a-number where no tile lies.
        shape: rows and columns of the mosaic.
        names: of the tiles.
        positions: ``(N, 2)`` of their first pixels, ``(x, y)``.
        sizes: ``(N, 2)`` widths and heights.
        solution: of the graph of links.
        figures: of the mosaic.
        problems: sentences.
        places: how expected places were found.
    """

    picture: NDArray[np.float32]
    shape: tuple[int, int]
    names: Sequence[str]
    positions: NDArray[np.float64]
    sizes: NDArray[np.float64]
    solution: GraphSolution
    figures: Mapping[str, float]
    problems: Sequence[str]
    places: str


def render_mosaic_page(story: MosaicStory) -> str:
    """Return the page."""
    figures = story.figures
    covered = np.isfinite(story.picture)
    window = choose_window(story.picture[covered])
    gray = draw_gray(np.where(covered, story.picture, window[1]), window)
    ranked = sorted(story.solution.residuals, key=lambda each: (each.kept, -each.distance, each.link.name))
    content = {
        "sentence": _summarize(figures),
        "facts": [
            (title, form.format(figures[name])) for name, (title, form) in _FIGURES.items() if name in figures
        ],
        "picture": encode_data_uri(gray, PICTURE_SIDE),
        "width": story.shape[1],
        "height": story.shape[0],
        "size": f"{story.shape[1]:,} x {story.shape[0]:,} px",
        "tiles": _outline_tiles(story),
        "lines": _draw_links(story),
        "stroke": max(story.shape) / 500,
        "problems": story.problems[:MOST_PROBLEMS],
        "more_problems": max(0, len(story.problems) - MOST_PROBLEMS),
        "links": [_describe_link(each) for each in ranked[:MOST_ROWS]],
        "more_links": max(0, len(ranked) - MOST_ROWS),
        "places": story.places,
    }
    return render_template("mosaic.html", scripts=("table.js",), title="Mosaic", story=content)


def _summarize(figures: Mapping[str, float]) -> str:
    alone = int(figures["tiles_without_link"])
    tail = f"; {alone} have no link and lie as expected" if alone else ""
    kept = figures["links"] - figures["links_dropped"]
    return (
        f"{figures['tiles']:.0f} tiles are joined by {kept:.0f} links that "
        f"agree to {figures['residual_rms_px']:.2f} px{tail}."
    )


def _outline_tiles(story: MosaicStory) -> list[dict[str, Any]]:
    rows = zip(story.names, story.positions.tolist(), story.sizes.tolist(), strict=True)
    return [
        {"name": name, "x": round(x, 1), "y": round(y, 1), "width": width, "height": height}
        for name, (x, y), (width, height) in rows
    ]


def _draw_links(story: MosaicStory) -> list[dict[str, Any]]:
    centers = dict(zip(story.names, (story.positions + story.sizes / 2).tolist(), strict=True))
    lines = []
    for each in story.solution.residuals:
        (x1, y1), (x2, y2) = centers[each.link.first], centers[each.link.second]
        color = "#cf5246" if not each.kept else "#2f79b5" if each.checked else "#b3861e"
        places = {"x1": round(x1), "y1": round(y1), "x2": round(x2), "y2": round(y2)}
        lines.append({**places, "color": color, "title": f"{each.link.name}: {each.distance:.2f} px"})
    return lines


def _describe_link(each: LinkResidual) -> dict[str, Any]:
    state = "dropped" if not each.kept else "kept" if each.checked else "kept, in no loop"
    x, y = (-each.link.transform.translation).tolist()
    return {
        "first": each.link.first,
        "second": each.link.second,
        "dx": f"{x:.2f}",
        "dy": f"{y:.2f}",
        "sigma": f"{each.link.sigma:.3f}",
        "residual": f"{each.distance:.3f}",
        "state": state,
        "look": not (each.kept and each.checked),
    }
