"""The figures of a cohort for MultiQC: files that its custom content reads without a module or settings.

Format: https://docs.seqera.io/multiqc/custom_content. Cells hold numbers and the words of verdicts alone, as
MultiQC takes text for HTML.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regflow.core.files import write_json, write_whole_directory
from regflow.metrics.catalog import STATES, Catalog, Figure
from regflow.reporting.shared.cohort import find_status

Record = Mapping[str, Any]
Content = dict[str, Any]

GENERAL_FIGURES = 3
"""How many figures stand in the first table of MultiQC, which all tools share."""
VERDICT = {"title": "Verdict", "description": "whether the registration can be used", "scale": False}
PARENT = {
    "parent_id": "regflow",
    "parent_name": "regflow",
    "parent_description": "Registration of volumes and scenes: figures of quality of each sample.",
}


def write_multiqc_files(folder: str | Path, rows: Sequence[Record], catalog: Catalog) -> None:
    """Write the general statistics, a table of all figures, and a section for each figure that is watched.

    Args:
        folder: to make; it holds nothing else.
        rows: of the cohort's table of samples.
        catalog: of the kind of image.
    """
    known = [
        name
        for name in catalog.columns
        if any(_is_known(row, catalog.name_final_column(name)) for row in rows)
    ]
    finals = {catalog.name_final_column(name): catalog.figures[name] for name in known}
    general = dict(list(finals.items())[:GENERAL_FIGURES])
    contents = {
        "general": {
            "plot_type": "generalstats",
            "pconfig": [{"verdict": VERDICT}, *({name: _header(fig)} for name, fig in general.items())],
            "data": _select(rows, general),
        },
        "figures": {
            **_describe_table("figures", "Figures of quality", "Each figure at the end of the registration."),
            "headers": {"verdict": VERDICT, **{name: _header(fig) for name, fig in finals.items()}},
            "data": _select(rows, finals),
        },
    }
    for name in catalog.watched:
        section = _describe_figure(name, rows, catalog)
        if section["data"]:
            contents[name] = section
    with write_whole_directory(folder) as part:
        for name, content in contents.items():
            write_json(part / f"regflow_{name}_mqc.json", {"id": f"regflow_{name}", **content})


def _describe_figure(name: str, rows: Sequence[Record], catalog: Catalog) -> Content:
    """Return the section of a figure: its values at each state of the registration."""
    figure = catalog.figures[name]
    columns = {f"{name}_{state}": state for state in STATES} if figure.staged else {name: ""}
    headers = {
        column: {**_header(figure), "title": catalog.states[state] or figure.title}
        for column, state in columns.items()
    }
    data = {row["sample"]: _numbers(row, columns) for row in rows}
    known = {sample: numbers for sample, numbers in data.items() if numbers}
    about = f"{figure.meaning[0].upper()}{figure.meaning[1:]}; {figure.better} is better."
    return {**_describe_table(name, figure.title, about), "headers": headers, "data": known}


def _describe_table(name: str, title: str, about: str) -> Content:
    settings = {"id": f"regflow_{name}_table", "title": f"regflow: {title}", "namespace": "regflow"}
    return {
        **PARENT,
        "section_name": title,
        "description": about,
        "plot_type": "table",
        "pconfig": settings,
    }


def _select(rows: Sequence[Record], columns: Mapping[str, Figure]) -> dict[str, Content]:
    return {row["sample"]: {"verdict": find_status(row), **_numbers(row, columns)} for row in rows}


def _numbers(row: Record, columns: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[name]) for name in columns if _is_known(row, name)}


def _is_known(row: Record, column: str) -> bool:
    value = row.get(column)
    return value is not None and math.isfinite(value)


def _header(figure: Figure) -> Content:
    """Return how MultiQC shows a figure; green is good."""
    unit = f" {figure.unit}" if figure.unit else ""
    scale = "RdYlGn" if figure.better == "high" else "RdYlGn-rev"
    shown = {"suffix": unit, "format": "{:,.3f}", "scale": scale}
    return {"title": figure.title, "description": figure.meaning, **shown}
