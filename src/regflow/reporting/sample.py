"""The page of one sample: its verdict, pictures, figures, stages and methods."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regflow.core.gate import worst
from regflow.metrics.catalog import FIGURES, STAGES
from regflow.reporting import drawing, pictures
from regflow.reporting.methods_text import methods_text
from regflow.reporting.render import render

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
STAGE_COLORS = {
    "ingest": "#8a94a6",
    "preprocess": "#4f8fd9",
    "initialize": "#3fae9a",
    "refine": "#d98b3a",
    "apply": "#9a6fd0",
    "assess": "#c75f7f",
    "detect": "#b58a1b",
    "report": "#7d8a4e",
}
SOURCES = {
    "refine": "refine, the last stage",
    "initialize": "initialize; no deformation on top of it was found or asked for",
    "header": "the headers or the georeference; no better alignment was found or asked for",
}
"""Where the transform of the products may come from, in words."""
SKIPPED = "an earlier stage could not be done"
SHORT_NAMES = {"fixed": "Fixed", "start": "Start", "initialize": "Affine", "refine": "Warped"}
MODES = (
    ("flicker", "Flicker"),
    ("blend", "Blend"),
    ("swipe", "Swipe"),
    ("checker", "Checkerboard"),
    ("difference", "Difference"),
)


@dataclass(frozen=True)
class Story:
    """What a sample's page tells.

    Attributes:
        sample: its id.
        status: ``pass``, ``warn``, ``fail``, or ``error`` when it could not be done.
        reason: the sentence behind it.
        stages: contents of the stages' ``stage.json``, in order.
        quality: content of ``quality.json``, or empty when there is none.
        facts: short lines under the title: name and value.
        provenance: titles and texts to fold out: versions, configuration, checksums.
        home: link to the cohort's page, if there is one.
    """

    sample: str
    status: str
    reason: str
    stages: Sequence[Mapping[str, Any]]
    quality: Mapping[str, Any] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    provenance: Sequence[tuple[str, str]] = ()
    home: str | None = None


def sample_page(story: Story, scene: pictures.Scene | None, product: Any = None) -> str:
    """Return the page of a sample.

    Args:
        story: what is told.
        scene: what is drawn, or None when there is nothing to show.
        product: the warped product on the scene's grid, or None.
    """
    figures = story.quality.get("figures", {})
    context = {
        "sample": story.sample,
        "status": story.status,
        "sentence": sentence(story.reason),
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
            story.quality.get("landmark_notes", {}).get(name) for name in ("unpaired", "other_order")
        ),
        "stages": list(stage_rows(story.stages)),
        "clock": clock(story.stages) if story.quality else [],
        "methods": methods_text(story.stages, figures),
        "provenance": story.provenance,
    }
    drawn = None if scene is None else _scene(scene, product, same_contrast(figures))
    title = f"{story.sample}: registration report"
    return render("sample.html", script="viewer.js", title=title, story=context, scene=drawn)


def same_contrast(figures: Mapping[str, Any]) -> bool:
    """Tell whether fixed and moving image look alike enough for their difference to mean something."""
    return (figures.get("ncc_refine") or 0.0) >= 0.7


def clock(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the seconds of each stage and their share in percent, in order, for a bar."""
    seconds: dict[str, float] = {}
    for record in stages:
        seconds[record["stage"]] = seconds.get(record["stage"], 0.0) + float(record.get("seconds") or 0)
    total = sum(seconds.values())
    return [
        {
            "title": stage,
            "seconds": spent,
            "share": 100 * spent / total,
            "text": duration(spent),
            "color": STAGE_COLORS[stage],
        }
        for stage, spent in seconds.items()
        if spent > 0
    ]


def duration(seconds: float | None) -> str:
    """Return a time in words: ``0.42 s``, ``12.3 s``, ``2 min 5 s``."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def source_fact(source: str | None) -> list[tuple[str, str]]:
    """Return the line that says where the products' transform comes from, of :data:`SOURCES`."""
    return [] if source is None else [("transform by", SOURCES[source])]


def sentence(reason: str) -> str:
    """Return a reason as a sentence; a name or a path at its beginning is left as it is."""
    first = reason.partition(" ")[0]
    start = reason if any(sign in first for sign in "_/\\.") else reason[:1].upper() + reason[1:]
    return start if start.endswith((".", "!", "?")) else start + "."


def _keys(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the cards: a figure at the end, with what it was before."""
    for name in KEYS:
        figure = FIGURES[name]
        value = figures.get(f"{name}_refine" if figure.staged else name)
        if value is None:
            continue
        number, _, unit = figure.text(value).partition(" ")
        card: dict[str, Any] = {
            "was": [],
            "title": figure.title,
            "number": number,
            "unit": unit,
            "meaning": figure.meaning,
        }
        if figure.staged:
            before = [figure.text(figures.get(f"{name}_{stage}")).split()[0] for stage in STAGES[:2]]
            card["was"] = [f"start {before[0]}", f"affine {before[1]}"]
        yield card


def _similarity(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, figure in FIGURES.items():
        if figure.staged and figures.get(f"{name}_refine") is not None:
            cells = [figure.text(figures.get(f"{name}_{stage}")) for stage in STAGES]
            yield {"title": figure.title, "meaning": figure.meaning, "better": figure.better, "cells": cells}


def _deformation(quality: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = quality.get("jacobian", {})
    for name in DEFORMATION:
        if found.get(name) is not None:
            figure = FIGURES[name]
            yield f"{figure.title}: {figure.meaning}", figure.text(found[name])
    if found.get("affine_determinant") is not None:
        yield "Volume change of the affine part, left out above", f"{found['affine_determinant']:.3f}"
    inverse = quality.get("inverse")
    if inverse:
        told = ", ".join(
            f"{name} {FIGURES['inverse_mean_mm'].text(inverse[f'{name}_mm'])}"
            for name in ("mean", "p95", "max")
        )
        yield "Inverse error: distance from the start after going there and back", told


def _labels(records: Sequence[Mapping[str, Any]], notes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the structures' table, the worst at the end first."""
    partners = {one["label"]: one for one in notes.get("exchanged", ())}
    rows = []
    for record in sorted(records, key=lambda r: (r["dice"]["refine"] or 0.0, r["label"])):
        before, after = (record["dice"][stage] or 0.0 for stage in STAGES[1:])
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
    return [sentence(phrase) for phrase in phrases if phrase]


def _pair(of_stage: Mapping[str, Any] | None) -> list[str]:
    return [FIGURES["asd_mean_mm"].text(of_stage[stage]) for stage in STAGES[1:]] if of_stage else []


def _landmarks(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the landmarks' table, the farthest apart at the end first."""
    text = FIGURES["tre_mean_mm"].text
    ordered = sorted(records, key=lambda record: -record["tre_mm"]["refine"])
    return [{"name": r["name"], "cells": [text(r["tre_mm"][stage]) for stage in STAGES]} for r in ordered]


def stage_rows(stages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row per stage, each followed by a row per step."""
    for record in stages:
        state, verdict = record["state"], record["verdict"]
        told = state != "done" or verdict["reason"] != worst([]).reason
        blocked = state == "skipped" and verdict["status"] == "fail"
        reason = SKIPPED if blocked else verdict["reason"]
        yield {
            "stage": record.get("title", record["stage"]),
            "step": "",
            "time": duration(record.get("seconds")),
            "status": (verdict["status"] if state == "done" else state) if told else "",
            "reason": reason if told else "",
        }
        for step in record["steps"]:
            verdict = step.get("verdict") or {}
            failed = step.get("state") == "error"
            yield {
                "stage": "",
                "step": _step_title(step),
                "time": duration(step.get("seconds")),
                "status": "fail" if failed else verdict.get("status", ""),
                "reason": step.get("reason") or verdict.get("reason") or step.get("skipped") or "",
            }


def _step_title(step: Mapping[str, Any]) -> str:
    """Return what a step is, by what method, and of which image where a stage works on both."""
    method, image = step.get("method"), step.get("image")
    return step["name"] + (f": {method}" if method else "") + (f" ({image})" if image else "")


def _scene(scene: pictures.Scene, product: Any, differences: bool) -> dict[str, Any]:
    """Return all that the templates draw."""
    figures = {figure["name"]: figure for figure in pictures.figures(scene, differences=differences)}
    if product is not None:
        figures["product"] = pictures.product(scene, product)
    lattice = {**figures["refine"], "title": "Deformation grid on the warped image", "contours": False}
    bound = pictures.jacobian_bound(scene)
    ticks = [f"{2 ** (bound * part):.2f}" for part in (-1, -0.5, 0, 0.5, 1)]
    kind = "borders of the fixed labels" if scene.labels is not None else "edges inside the fixed image"
    return {
        "planes": pictures.tiles(scene),
        "figures": figures,
        "lattice": lattice,
        "grid_mm": f"{pictures.GRID_STEP_MM:g}",
        "names": pictures.LAYERS,
        "choices": [(name, SHORT_NAMES[name]) for name in scene.layers],
        "modes": [mode for mode in MODES if differences or mode[0] != "difference"],
        "differences": differences,
        "deformed": scene.deformed,
        "masked": not scene.mask.all(),
        "structures": kind,
        "orientation": scene.orientation,
        "ramp": ", ".join(drawing.DIVERGING),
        "ticks": ticks,
    }
