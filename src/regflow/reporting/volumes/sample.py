"""The page of one sample: its verdict, pictures, figures, stages and methods."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from regflow.metrics.catalog import FIGURES, STATES
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
from regflow.reporting.volumes import pictures

KEYS = (
    "truth_mean_mm",
    "tre_mean_mm",
    "dice_mean",
    "hd95_mean_mm",
    "ncc",
    "lncc",
    "mi",
    "folding_percent",
    "log_jacobian_std",
    "inverse_mean_mm",
)
"""The figures on the cards, the most telling first."""
CARDS = 8
DEFORMATION = ("folding_percent", "log_jacobian_std", "jacobian_min", "jacobian_max", "sdlogj_learn2reg")
SHORT_NAMES = {"fixed": "Fixed", "start": "Start", "initialize": "Affine", "refine": "Warped"}


def render_sample_page(story: PageStory, rendering: pictures.Rendering | None, product: Any = None) -> str:
    """Return the page of a sample.

    Args:
        story: what is told.
        rendering: what is drawn, or None when there is nothing to show.
        product: the warped product on the rendering's grid, or None.
    """
    figures = story.quality.get("figures", {})
    context = {
        "sample": story.sample,
        "status": story.status,
        "sentence": make_sentence(story.reason),
        "outliers": "",
        "facts": story.facts,
        "home": story.home,
        "cards": list(_keys(figures))[:CARDS],
        "similarity": list(_similarity(figures)),
        "deformation": list(_deformation(story.quality)),
        "labels": _labels(story.quality.get("labels", ()), story.quality.get("label_notes", {})),
        "label_remarks": _sentences(story.quality.get("label_notes", {}).get("remarks", ())),
        "landmarks": _landmarks(story.quality.get("landmarks", ())),
        "landmark_remarks": _sentences(
            story.quality.get("landmark_notes", {}).get(name)
            for name in ("driving", "unpaired", "other_order")
        ),
        "stages": list(list_stage_rows(story.stages)),
        "clock": list_stage_seconds(story.stages) if story.quality else [],
        "methods": write_methods_text(story.stages, figures),
        "provenance": story.provenance,
    }
    drawn = None if rendering is None else _render(rendering, product, has_same_contrast(figures))
    title = f"{story.sample}: registration report"
    return render_template("sample.html", scripts=["viewer.js"], title=title, story=context, rendering=drawn)


def has_same_contrast(figures: Mapping[str, Any]) -> bool:
    """Tell whether fixed and moving image look alike enough for their difference to mean something."""
    return (figures.get("ncc_refine") or 0.0) >= 0.7


def _keys(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the cards: a figure at the end, with what it was before."""
    for name in KEYS:
        figure = FIGURES[name]
        value = figures.get(f"{name}_refine" if figure.staged else name)
        if value is None:
            continue
        number, _, unit = figure.format_value(value).partition(" ")
        card: dict[str, Any] = {
            "was": [],
            "title": figure.title,
            "number": number,
            "unit": unit,
            "meaning": figure.meaning,
        }
        if figure.staged:
            before = [figure.format_value(figures.get(f"{name}_{stage}")).split()[0] for stage in STATES[:2]]
            card["was"] = [f"start {before[0]}", f"affine {before[1]}"]
        yield card


def _similarity(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, figure in FIGURES.items():
        if figure.staged and figures.get(f"{name}_refine") is not None:
            cells = [figure.format_value(figures.get(f"{name}_{stage}")) for stage in STATES]
            yield {"title": figure.title, "meaning": figure.meaning, "better": figure.better, "cells": cells}


def _deformation(quality: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = quality.get("jacobian", {})
    for name in DEFORMATION:
        if found.get(name) is not None:
            figure = FIGURES[name]
            yield f"{figure.title}: {figure.meaning}", figure.format_value(found[name])
    if found.get("affine_determinant") is not None:
        yield "Volume change of the affine part, left out above", f"{found['affine_determinant']:.3f}"
    inverse = quality.get("inverse")
    if inverse:
        told = ", ".join(
            f"{name} {FIGURES['inverse_mean_mm'].format_value(inverse[f'{name}_mm'])}"
            for name in ("mean", "p95", "max")
        )
        yield "Inverse error: distance from the start after going there and back", told


def _labels(records: Sequence[Mapping[str, Any]], notes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the structures' table, the worst at the end first."""
    partners = {one["label"]: one for one in notes.get("exchanged", ())}
    rows = []
    for record in sorted(records, key=lambda r: (r["dice"]["refine"] or 0.0, r["label"])):
        before, after = (record["dice"][stage] or 0.0 for stage in STATES[1:])
        row = {
            "label": record["label"],
            "volume": f"{record['fixed_ml']:.1f} ml",
            "dice": [f"{before:.3f}", f"{after:.3f}"],
            "before": round(100 * before, 1),
            "after": round(100 * after, 1),
            "hd95": _pair(record.get("hd95_mm")),
            "asd": _pair(record.get("asd_mm")),
            "remark": _label_remark(record, partners.get(record["label"])),
        }
        rows.append(row)
    return rows


def _label_remark(record: Mapping[str, Any], partner: Mapping[str, Any] | None) -> str:
    if partner is not None:
        return f"lies on {partner['partner']} (Dice {partner['dice_exchanged']:.2f})"
    if record["seen"] < 1 - record["seen"]:
        return "not seen by the moving image"
    return "out of place" if record["out_of_place"] else ""


def _sentences(phrases: Iterable[str | None]) -> list[str]:
    return [make_sentence(phrase) for phrase in phrases if phrase]


def _pair(of_stage: Mapping[str, Any] | None) -> list[str]:
    return [FIGURES["asd_mean_mm"].format_value(of_stage[stage]) for stage in STATES[1:]] if of_stage else []


def _landmarks(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the landmarks' table, the farthest apart at the end first."""
    text = FIGURES["tre_mean_mm"].format_value
    ordered = sorted(records, key=lambda record: -record["tre_mm"]["refine"])
    return [{"name": r["name"], "cells": [text(r["tre_mm"][stage]) for stage in STATES]} for r in ordered]


def _render(rendering: pictures.Rendering, product: Any, differences: bool) -> dict[str, Any]:
    """Return all that the templates draw."""
    figures = {figure["name"]: figure for figure in pictures.draw_figures(rendering, differences=differences)}
    if product is not None:
        figures["product"] = pictures.draw_product(rendering, product)
    lattice = {**figures["refine"], "title": "Deformation grid on the warped image", "contours": False}
    bound = pictures.find_jacobian_bound(rendering)
    ticks = [f"{2 ** (bound * part):.2f}" for part in (-1, -0.5, 0, 0.5, 1)]
    kind = "borders of the fixed labels" if rendering.labels is not None else "edges inside the fixed image"
    return {
        "planes": pictures.render_tiles(rendering),
        "figures": figures,
        "lattice": lattice,
        "grid_mm": f"{pictures.GRID_STEP_MM * rendering.unit_mm:g}",
        "names": pictures.LAYERS,
        "choices": [(name, SHORT_NAMES[name]) for name in rendering.layers],
        "modes": [mode for mode in MODES if differences or mode[0] != "difference"],
        "differences": differences,
        "deformed": rendering.is_deformed,
        "masked": not rendering.mask.all(),
        "structures": kind,
        "orientation": rendering.orientation,
        "ramp": ", ".join(drawing.DIVERGING),
        "ticks": ticks,
    }
