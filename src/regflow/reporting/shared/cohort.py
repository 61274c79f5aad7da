"""The cohort's page: what failed and why, distributions, groups, structures, every sample."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from regflow.metrics.catalog import STATES, VOLUMES, Catalog
from regflow.reporting.shared.charts import StripDot, draw_strips
from regflow.reporting.shared.methods_text import write_methods_text
from regflow.reporting.shared.render import WORDS, render_template
from regflow.reporting.shared.story import (
    SOURCES,
    STAGE_COLORS,
    format_duration,
    list_stage_seconds,
    make_sentence,
)

Record = Mapping[str, Any]

MOST_CARDS = 60
"""Samples shown at the top as wanting a look; the table below lists them all."""
MOST_ROWS = 300
"""Rows of the table that a browser lays out at once; it takes the others as they come into sight."""
ORDER = ("error", "fail", "warn", "pass")


def render_cohort_page(
    rows: Sequence[Record],
    structures: Sequence[Record],
    stages: Sequence[Mapping[str, Any]],
    links: Mapping[str, str],
    thumbnails: Mapping[str, str],
    provenance: Sequence[tuple[str, str]] = (),
    catalog: Catalog = VOLUMES,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """Return the cohort's page.

    Args:
        rows: the samples' table that gather wrote.
        structures: the labels' table.
        stages: what the stages' ``stage.json`` say, for the methods paragraph.
        links: to each sample's page.
        thumbnails: data URI by sample, for those that have one.
        provenance: titles and texts to fold out.
        catalog: of the figures that were measured.
        pictures: addresses of the pictures of samples without a thumbnail, loaded when they are seen.
    """
    pictures = pictures or {}
    told = [_sample(row, links, thumbnails, pictures, catalog) for row in rows]
    counts = Counter(sample["status"] for sample in told)
    attention = sorted(
        (s for s in told if s["status"] != "pass" or s["outliers"]),
        key=lambda s: (ORDER.index(s["status"]), s["sample"]),
    )
    columns = [
        name for name in catalog.columns if any(_known(row, catalog.name_final_column(name)) for row in rows)
    ]
    figures = {name for row in rows for name, value in row.items() if value is not None}
    cohort = {
        "sentence": _summary(counts, len(rows)),
        "tally": [(kind, counts[status], WORDS[status]) for status, kind in _tally(counts)],
        "attention": attention[:MOST_CARDS],
        "more": max(0, len(attention) - MOST_CARDS),
        "charts": list(_charts(rows, links, catalog)),
        "groups": _groups(rows, columns, catalog),
        "structures": _structures(structures),
        "columns": [catalog.figures[name] for name in columns],
        "samples": [{**s, "cells": _cells(row, columns, catalog)} for s, row in zip(told, rows, strict=True)],
        "thumbnails": bool(thumbnails or pictures),
        "most_rows": MOST_ROWS,
        "clock": _clock(rows),
        "stored": _stored(rows),
        "methods": write_methods_text(stages, figures, catalog),
        "provenance": provenance,
    }
    title = f"Registration report: {len(rows)} samples"
    return render_template("index.html", scripts=["table.js"], title=title, story=cohort)


def find_status(row: Record) -> str:
    """Return the verdict of a sample that was done, else ``error``."""
    return str(row["status"]) if row["state"] == "done" else "error"


def _tally(counts: Counter[str]) -> Iterator[tuple[str, str]]:
    for status in reversed(ORDER):
        if counts[status]:
            yield status, status if status in ("pass", "warn") else "fail"


def _summary(counts: Counter[str], total: int) -> str:
    if not total:
        return "The sheet has no samples."
    words = {
        "pass": "passed",
        "warn": "should be looked at",
        "fail": "failed the checks",
        "error": "could not be done",
    }
    told = [f"{counts[status]} {words[status]}" for status in reversed(ORDER) if counts[status]]
    whole = f"{total} sample" + ("s" if total != 1 else "")
    return f"Of {whole}, {', '.join(told)}."


def _sample(
    row: Record,
    links: Mapping[str, str],
    thumbnails: Mapping[str, str],
    pictures: Mapping[str, str],
    catalog: Catalog,
) -> dict[str, Any]:
    return {
        "sample": row["sample"],
        "status": find_status(row),
        "rank": ORDER.index(find_status(row)),
        "reason": make_sentence(str(row["reason"])),
        "outliers": list_outlier_titles(row, catalog),
        "source": _source(row),
        "link": links.get(row["sample"]),
        "thumbnail": thumbnails.get(row["sample"]),
        "picture": pictures.get(row["sample"]),
        "group": row.get("group") or "",
        "seconds": _seconds(row),
        "time": format_duration(_seconds(row)),
    }


def _source(row: Record) -> str:
    """Return from which stage's transform a sample's products come, where it is not the last one's."""
    source = row.get("transform_from")
    return f"Products by {SOURCES[source]}." if source and source != "refine" else ""


def list_outlier_titles(row: Record, catalog: Catalog = VOLUMES) -> str:
    """Return in words the figures in which a sample stands apart from its cohort."""
    columns = {catalog.name_final_column(name): catalog.figures[name].title for name in catalog.watched}
    return ", ".join(columns[name] for name in (row.get("outliers") or "").split(",") if name)


def _seconds(row: Record) -> float | None:
    known = [row[name] for name in row if name.startswith("seconds_") and row[name] is not None]
    return float(sum(known)) if known else None


def _known(row: Record, column: str) -> bool:
    value = row.get(column)
    return value is not None and bool(np.isfinite(value))


def _cells(row: Record, columns: Sequence[str], catalog: Catalog) -> list[dict[str, Any]]:
    """Return a sample's figures as text, and as a number to sort by."""
    cells = []
    for name in columns:
        column = catalog.name_final_column(name)
        known = _known(row, column)
        text = catalog.figures[name].format_value(row[column]) if known else ""
        outlier = column in (row.get("outliers") or "").split(",")
        cells.append({"text": text, "value": float(row[column]) if known else "", "outlier": outlier})
    return cells


def _charts(rows: Sequence[Record], links: Mapping[str, str], catalog: Catalog) -> Iterator[dict[str, Any]]:
    for name in catalog.watched:
        figure = catalog.figures[name]
        stages = STATES if figure.staged else ("",)
        strip = {}
        for stage in stages:
            column = f"{name}_{stage}" if stage else name
            strip[stage] = [
                StripDot(row["sample"], row[column], links.get(row["sample"]), column in _marks(row))
                for row in rows
                if _known(row, column)
            ]
        if any(strip.values()):
            better = "higher" if figure.better == "high" else "lower"
            unit = f"{figure.unit}, " if figure.unit else ""
            yield {
                "title": figure.title,
                "unit": unit,
                "better": f"{better} is better",
                "svg": draw_strips(strip, figure, catalog.states),
            }


def _marks(row: Record) -> list[str]:
    return (row.get("outliers") or "").split(",")


def _groups(rows: Sequence[Record], columns: Sequence[str], catalog: Catalog) -> list[dict[str, Any]]:
    """Return each group's size, verdicts and medians; empty when there are fewer than two."""
    names = sorted({str(row["group"]) for row in rows if row.get("group")})
    if len(names) < 2:
        return []
    table = []
    for name in names:
        members = [row for row in rows if row.get("group") == name]
        cells = []
        for column in columns:
            name_of = catalog.name_final_column(column)
            values = [row[name_of] for row in members if _known(row, name_of)]
            cells.append(catalog.figures[column].format_value(float(np.median(values))) if values else "")
        passed = sum(find_status(row) == "pass" for row in members)
        table.append({"name": name, "count": len(members), "passed": passed, "cells": cells})
    return table


def _structures(rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Return each structure's medians over the cohort, the worst first."""
    of_label: dict[int, list[Record]] = {}
    for row in rows:
        of_label.setdefault(int(row["label"]), []).append(row)
    table = []
    for label, members in of_label.items():
        before, after = (_values(members, f"dice_{stage}") for stage in STATES[1:])
        if not len(after):
            continue
        low, median, high = np.percentile(after, (25, 50, 75))
        entry = {
            "label": label,
            "count": len(after),
            "median": float(median),
            "before": float(np.median(before)) if len(before) else 0.0,
            "range": f"{low:.3f} to {high:.3f}",
        }
        for figure in ("hd95_mm", "asd_mm"):
            values = _values(members, f"{figure}_refine")
            entry[figure] = (
                VOLUMES.figures["asd_mean_mm"].format_value(float(np.median(values))) if len(values) else ""
            )
        table.append(entry)
    return sorted(table, key=lambda entry: (entry["median"], entry["label"]))


def _values(rows: Sequence[Record], column: str) -> Any:
    return np.array([row[column] for row in rows if _known(row, column)], dtype=np.float64)


def _stored(rows: Sequence[Record]) -> str:
    """Say what a sample takes on the disk; empty where no row tells."""
    known = _values(rows, "stored_mb")
    if not len(known):
        return ""
    whole = f"{known.sum() / 1e3:.3g} GB" if known.sum() >= 1e3 else f"{known.sum():.3g} MB"
    return f"A sample takes {np.median(known):.3g} MB on the disk (median), all together {whole}."


def _clock(rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Return each stage's median seconds per sample, for a bar."""
    medians = []
    for stage in STAGE_COLORS:
        seconds = _values(rows, f"seconds_{stage}")
        if len(seconds):
            medians.append({"stage": stage, "seconds": float(np.median(seconds))})
    return list_stage_seconds(medians)
