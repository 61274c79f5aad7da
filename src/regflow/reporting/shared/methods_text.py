"""The methods paragraph: what was done to the images, in words, with the papers behind it."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from regflow import __version__
from regflow.methods.table import Method, list_methods_of_kind
from regflow.metrics.catalog import VOLUMES, Catalog

Stage = Mapping[str, Any]

OPENING = {
    "preprocess": "The images that steer the registration were prepared",
    "initialize": "The moving image was brought near the fixed one",
    "refine": "The deformation that was left was found",
    "detect": "Change was told from noise",
}
CLOSING = (
    "Each product was resampled once, from its original file, by the composed transform. "
    "Quality was measured inside the fixed mask: similarity of the images, the Jacobian determinant "
    "of the deformation and the error of its inverse{extras}."
)
CLOSING_RASTERS = (
    "Each product was resampled once, from its original pixels, by the composed transform. Accuracy was "
    "measured at check points that no fit had seen: root mean squared error, bias, and the radii that "
    "hold 90 % and 95 % of the residuals{extras}."
)


def write_methods_text(
    stages: Sequence[Stage], figures: Iterable[str] = (), catalog: Catalog = VOLUMES
) -> dict[str, Any]:
    """Return the paragraph (``text``) and its ``references``, numbered in the text.

    Args:
        stages: contents of ``stage.json`` of one or many samples; only what ran is told, each once.
        figures: names of the measured figures, which add what they need.
        catalog: of the kind of image.
    """
    references: list[str] = []
    registered = not stages or any(record["stage"] != "detect" for record in stages)
    what = "Registration was done" if registered else "Change was mapped"
    sentences = [f"{what} with regflow {__version__}."]
    volumes = catalog is VOLUMES
    kind = "volumes" if volumes else "rasters"
    for stage in OPENING:
        done = [record for record in stages if record["stage"] == stage and record["state"] == "done"]
        told = _steps(stage, (step for record in done for step in record["steps"]), references, kind)
        if told:
            sentences.append(f"{OPENING[stage]}: {'; '.join(told)}.")
    if any(record["stage"] in ("apply", "assess") and record["state"] == "done" for record in stages):
        extras = (_extras if volumes else _raster_extras)(set(figures), references)
        sentences.append((CLOSING if volumes else CLOSING_RASTERS).format(extras=extras))
    return {"text": " ".join(sentences), "references": references}


def _steps(stage: str, steps: Iterable[Mapping[str, Any]], references: list[str], kind: str) -> list[str]:
    """Tell each step that ran, once, with its citation."""
    told: dict[str, None] = {}
    for step in steps:
        if step.get("state", "done") != "done" or "skipped" in step:
            continue
        method = _method(stage, step, kind)
        name = step.get("method", step["name"])
        if method is None:
            continue
        sentence = method.summary[:1].lower() + method.summary[1:].rstrip(".")
        told[f"{name} ({sentence}){_cite(method.citation, references)}"] = None
    return list(told)


def _method(stage: str, step: Mapping[str, Any], kind: str) -> Method | None:
    """Return the row that a step names, of the stage's table for a kind; None for a step of no table."""
    row: Method | None
    module = importlib.import_module(f"regflow.methods.{stage}")
    if stage == "preprocess":
        row = module.TABLES.get(step["name"], {}).get(step.get("method"))
    else:
        row = list_methods_of_kind(module.METHODS, kind).get(step.get("method", step["name"]))
    return row if row is not None and row.target else None


def _extras(figures: set[str], references: list[str]) -> str:
    extras = ""
    if any(name.startswith("dice") for name in figures):
        extras += ", the Dice coefficient" + _cite("Dice, Ecology 26(3):297-302, 1945", references)
    if any(name.startswith("hd95") for name in figures):
        citation = "Maier-Hein et al., Nature Methods 21:195-212, 2024"
        extras += ", surface distances of the labels" + _cite(citation, references)
    if any(name.startswith("tre") for name in figures):
        extras += ", the target registration error of the landmarks"
    if any(name.startswith("truth") for name in figures):
        extras += ", the distance from the known transform"
    return extras


def _raster_extras(figures: set[str], references: list[str]) -> str:
    extras = _cite("FGDC-STD-007.3, Geospatial Positioning Accuracy Standards, 1998", references)
    if any(name.startswith("truth") for name in figures):
        extras += ", and the distance from the known displacement"
    return extras


def _cite(citation: str, references: list[str]) -> str:
    if not citation:
        return ""
    if citation not in references:
        references.append(citation)
    return f" [{references.index(citation) + 1}]"
