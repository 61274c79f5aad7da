"""The page of one pair of scenes: verdict, pictures, figures, change, stages and methods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.metrics.catalog import STATES
from regflow.metrics.raster_catalog import FIGURES, RASTERS
from regflow.reporting.rasters import pictures as raster_pictures
from regflow.reporting.rasters.charts import draw_histogram, draw_scatter
from regflow.reporting.rasters.pictures import MeasuredPoints
from regflow.reporting.rasters.views import LAYERS, DetailWindow, Overview
from regflow.reporting.shared import drawing
from regflow.reporting.shared.methods_text import write_methods_text
from regflow.reporting.shared.render import render_template
from regflow.reporting.shared.story import (
    MODES,
    PageStory,
    list_stage_rows,
    list_stage_seconds,
    make_sentence,
)

Array = NDArray[Any]

KEYS = (
    "truth_rmse_px",
    "rmse_px",
    "rmse_m",
    "ce90_px",
    "left_out_rms_px",
    "bias_px",
    "ncc",
    "ssim",
    "mi",
    "check_points_used",
    "shift_mean_px",
)
"""The figures on the cards, the most telling first."""
CARDS = 8
FIELD = (
    "shift_mean_px",
    "shift_max_px",
    "local_mean_px",
    "local_max_px",
    "folding_percent",
    "jacobian_min",
    "jacobian_max",
)
SHORT_NAMES = {"fixed": "Reference", "start": "As given", "initialize": "Initial", "refine": "Registered"}
LEAD = (
    "Places at full resolution, chosen by what is left at the check points around them. Two pictures lie "
    "over one another on the reference's pixels: what does not move when they flip is aligned."
)
LEAD_ALIGNED = "Places at full resolution on the same pixels. What moves or turns when they flip has changed."
OVERVIEW_LEAD = "Arrows point from a place in the reference to the same place in the moving scene."
LARGEST_CHANGES = 20


@dataclass(frozen=True, eq=False)
class ScenePageData:
    """What is drawn of a pair of scenes.

    Attributes:
        overview: the reference, small.
        moved: ``(H, W)`` the registered scene on the overview's pixels, NaN where there is nothing.
        windows: at full resolution.
        ties: what was found at the tie points, or None.
        checks: by state (``initialize``, ``refine``), what is left at the check points.
        ce90_px: by state, radius that holds nine of ten check points.
    """

    overview: Overview
    moved: NDArray[np.float32]
    windows: Sequence[DetailWindow]
    ties: MeasuredPoints | None = None
    checks: Mapping[str, MeasuredPoints] = field(default_factory=dict)
    ce90_px: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ChangePageData:
    """What is drawn of a change map.

    Attributes:
        record: content of ``detect.json``.
        overview: the scene's pixels, small.
        shares: ``changed`` and ``explained``, ``(H, W)`` shares of the overview's pixels.
        magnitude: ``(H, W)`` mean magnitude.
        valid: ``(H, W)``.
        columns: of ``changes.gpkg``.
        outlines: its polygons, shapely.
    """

    record: Mapping[str, Any]
    overview: Overview
    shares: Mapping[str, Array]
    magnitude: Array
    valid: NDArray[np.bool_]
    columns: Mapping[str, Array]
    outlines: Sequence[Any]

    @property
    def size_order(self) -> NDArray[np.intp]:
        """Positions of the polygons, the largest first."""
        return np.argsort(-np.asarray(self.columns["pixels"]), kind="stable")


def render_scene_page(
    story: PageStory, scene: ScenePageData | None, change: ChangePageData | None = None
) -> str:
    """Return the page of a pair of scenes.

    Args:
        story: what is told.
        scene: what is drawn, or None when there is nothing to show.
        change: of the change map, if one was made.
    """
    figures = story.quality.get("figures", {})
    context = {
        "sample": story.sample,
        "status": story.status,
        "sentence": make_sentence(story.reason),
        "facts": story.facts,
        "home": story.home,
        "cards": list(_cards(figures))[:CARDS],
        "similarity": list(_staged(figures)),
        "field": [
            (_meaning(name), FIGURES[name].format_value(figures[name]))
            for name in FIELD
            if _known(figures, name)
        ],
        "stages": list(list_stage_rows(story.stages)),
        "clock": list_stage_seconds(story.stages),
        "methods": write_methods_text(story.stages, figures, RASTERS),
        "provenance": story.provenance,
    }
    return render_template(
        "scene.html",
        scripts=["viewer.js"],
        title=f"{story.sample}: {'registration' if figures else 'change'} report",
        story=context,
        scene=None if scene is None else _scene(scene, change, figures),
        change=None if change is None else _change(change, scene),
    )


def _cards(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in KEYS:
        figure = FIGURES[name]
        column = RASTERS.name_final_column(name)
        if not _known(figures, column):
            continue
        whole = name == "check_points_used"
        number, _, unit = (
            f"{figures[column]:.0f}" if whole else figure.format_value(figures[column])
        ).partition(" ")
        card: dict[str, Any] = {
            "title": figure.title,
            "number": number,
            "unit": unit,
            "was": [],
            "meaning": figure.meaning,
        }
        if figure.staged:
            before = [figure.format_value(figures.get(f"{name}_{stage}")).split()[0] for stage in STATES[:2]]
            card["was"] = [f"start {before[0]}", f"initial {before[1]}"]
        yield card


def _staged(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, figure in FIGURES.items():
        if figure.staged and _known(figures, f"{name}_refine"):
            cells = [figure.format_value(figures.get(f"{name}_{stage}")) for stage in STATES]
            yield {"title": figure.title, "meaning": figure.meaning, "better": figure.better, "cells": cells}


def _scene(scene: ScenePageData, change: ChangePageData | None, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the template draws of the registration."""
    aligned = not any("start" in window.layers for window in scene.windows)
    differences = (figures.get("ncc_refine") or 0.0) >= 0.7
    base = scene.overview.image
    valid = np.ones(base.grid.shape, bool) if base.mask is None else base.mask
    reference = np.where(valid, base.channel, np.nan)
    panels = [
        raster_pictures.draw_panel(
            scene.overview,
            raster_pictures.draw_composite(reference, scene.moved),
            f"{'First date' if aligned else 'Reference'} red, "
            f"{'second date' if aligned else 'registered scene'} cyan: gray where they agree",
        )
    ]
    gray = raster_pictures.draw_gray_overview(base.channel, valid)
    if scene.ties is not None:
        title = "Tie points: the shift that was found"
        panels.append(raster_pictures.draw_panel(scene.overview, gray, title, vectors=scene.ties))
    titles = {
        "initialize": "Check points, which no fit has seen: what the initial transform leaves",
        "refine": "Check points: what is left at the end",
    }
    for state, title in titles.items():
        if state in scene.checks:
            panels.append(
                raster_pictures.draw_panel(scene.overview, gray, title, vectors=scene.checks[state])
            )
    names = dict(LAYERS) if not aligned else {"fixed": "First date", "refine": "Second date"}
    short = SHORT_NAMES if not aligned else {"fixed": "First date", "refine": "Second date"}
    outlines = [] if change is None else [change.outlines[k] for k in change.size_order]
    return {
        "tiles": raster_pictures.render_tiles(
            scene.windows, outlines[: raster_pictures.MOST_OUTLINES], scene.overview.full
        ),
        "names": names,
        "choices": [(name, short[name]) for name in names],
        "before": "fixed" if aligned else "start",
        "outlined": aligned,
        "modes": [mode for mode in MODES if differences or mode[0] != "difference"],
        "differences": differences,
        "lead": LEAD_ALIGNED if aligned else LEAD,
        "overview_lead": "" if aligned else OVERVIEW_LEAD,
        "panels": panels,
        "residuals": _residuals(scene),
    }


def _residuals(scene: ScenePageData) -> dict[str, Any] | None:
    states = ("initialize", "refine")
    if not all(state in scene.checks and scene.checks[state].used.any() for state in states):
        return None
    names = {"before": "After the initial transform", "after": "At the end"}
    vectors = [scene.checks[state].vectors_px[scene.checks[state].used] for state in states]
    lengths = dict(zip(names, (np.hypot(*part.T) for part in vectors), strict=True))
    rings = [scene.ce90_px.get(state, 0.0) for state in states]
    lead = (
        f"{len(vectors[1])} correspondences that were held out from the fit. Half of them now lie within "
        f"{np.median(lengths['after']):.2f} px, nine of ten within {rings[1]:.2f} px."
    )
    return {
        "lead": lead,
        "names": list(names.values()),
        "histogram": draw_histogram(lengths, names),
        "scatters": [draw_scatter(part, ring) for part, ring in zip(vectors, rings, strict=True)],
    }


def _change(change: ChangePageData, scene: ScenePageData | None) -> dict[str, Any]:
    """Return all that the template draws of the change map."""
    record, figures = change.record, change.record["figures"]
    source = change.overview if scene is None else scene.overview
    base = source.image
    valid = np.ones(base.grid.shape, bool) if base.mask is None else base.mask
    gray = raster_pictures.draw_gray_overview(base.channel, valid)
    if gray.shape != change.magnitude.shape:
        gray = _resized(gray, change.magnitude.shape)
    gray[~change.valid] = 128
    colored, top = raster_pictures.draw_magnitude(change.magnitude, change.valid)
    verdict = record["verdict"]
    return {
        "status": verdict["status"],
        "sentence": make_sentence(verdict["reason"]),
        "lead": _change_lead(record),
        "panels": [
            raster_pictures.draw_panel(
                change.overview, raster_pictures.draw_change(gray, change.shares), "What changed"
            ),
            raster_pictures.draw_panel(change.overview, colored, "Magnitude of change"),
        ],
        "ramp": ", ".join(raster_pictures.SEQUENTIAL),
        "top": f"{top:.3g}",
        "unit": record["magnitude_unit"],
        "facts": list(_change_facts(record)),
        "rows": list(_change_rows(change)),
        "figures": figures,
    }


def _change_lead(record: Mapping[str, Any]) -> str:
    before, after = (
        record[key]["name"] + (f" ({record[key]['date']})" if record[key]["date"] else "")
        for key in ("before", "after")
    )
    figures = record["figures"]
    return (
        f"From {before} to {after}: {figures['changed_percent']:.2f} % of the valid pixels changed, in "
        f"{figures['regions']:.0f} places. Another {figures['explained_percent']:.2f} % look changed, but a "
        f"shift of up to {record['residual_px']:.2f} px, the remaining registration error, explains them."
    )


def _change_facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    figures = record["figures"]
    yield "Method", record["method"]
    if record["threshold"] == "chi-square":
        yield "Threshold", f"chi-square, {100 * record['level']:g} % of unchanged pixels stay unmarked"
    else:
        yield "Threshold", "Otsu"
    yield (
        "Statistic above",
        f"{record['statistic_limit']:.4g} ({record['degrees_of_freedom']} degrees of freedom)",
    )
    yield (
        "Minimum mapping unit",
        f"{record['mapping_unit_px']} px; {figures['dropped_percent']:.2f} % were smaller",
    )
    yield "Valid at both dates", f"{figures['valid_percent']:.1f} %"
    if _known(figures, "interpolation_noise"):
        yield (
            "Detail lost by resampling",
            f"{100 * figures['interpolation_noise']:.0f} % of half a pixel's shift and back",
        )
    if "iterations" in figures:
        settled = "settled" if figures["converged"] else "still moving"
        yield "IR-MAD rounds", f"{figures['iterations']:.0f}, {settled}"
        yield (
            "Canonical correlations",
            f"{figures['correlation_first']:.3f} to {figures['correlation_last']:.3f}",
        )
    lines = record["normalization"]
    if lines is not None:
        told = ", ".join(f"{gain:.3g}" for gain in lines["gain"])
        yield "Radiometric gain on unchanged pixels", f"{told} (from {lines['pixels']:,} pixels)"


def _change_rows(change: ChangePageData) -> Iterator[dict[str, str]]:
    columns = change.columns
    name = "area_m2" if "area_m2" in columns else "area_px"
    for k in change.size_order[:LARGEST_CHANGES]:
        middle = change.outlines[k].representative_point()
        yield {
            "id": str(columns["id"][k]),
            "area": _area(float(columns[name][k]), name),
            "pixels": f"{columns['pixels'][k]:,}",
            "magnitude": f"{columns['mean_magnitude'][k]:.3g}",
            "probability": f"{columns['no_change_probability'][k]:.2g}",
            "place": f"{middle.x:.6g}, {middle.y:.7g}",
        }


def _area(value: float, column: str) -> str:
    if column == "area_px":
        return f"{value:,.0f} px"
    if value >= 1e6:
        return f"{value / 1e6:.2f} km²"
    return f"{value / 1e4:.2f} ha" if value >= 1e4 else f"{value:,.0f} m²"


def _resized(picture: drawing.Bytes, shape: tuple[int, ...]) -> drawing.Bytes:
    from PIL import Image

    return np.array(Image.fromarray(picture).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _meaning(name: str) -> str:
    return f"{FIGURES[name].title}: {FIGURES[name].meaning}"


def _known(figures: Mapping[str, Any], name: str) -> bool:
    value = figures.get(name)
    return value is not None and value == value
