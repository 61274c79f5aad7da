"""The page of a comparison: which ladder to take, every method with its errors, pictures to flip between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.metrics.catalog import Catalog
from regflow.reporting.shared.drawing import choose_window, draw_gray, encode_data_uri
from regflow.reporting.shared.render import render_template

RANKS = ("error", "fail", "warn", "pass")
PICTURE_SIDE = 960
MISSING = {"text": "", "value": ""}


@dataclass(frozen=True)
class ComparedMethod:
    """A method on the page.

    Attributes:
        name: of the method; ``default`` is the whole ladder.
        stage: ``initialize`` or ``refine``.
        status: its verdict on the user's pair; empty where it was not tried there.
        reason: of that verdict, or of its failure.
        link: to its report on the user's pair; None without.
        errors: mean error by the name of a motion; None where it failed.
        sentences: by the name of a motion on which it failed, why.
        figures: of quality on the user's pair.
        seconds: of the registration's methods.
        cpu_seconds: of the whole registration.
        peak_mb: most memory taken.
    """

    name: str
    stage: str
    status: str
    reason: str
    link: str | None
    errors: Mapping[str, float | None]
    sentences: Mapping[str, str]
    figures: Mapping[str, float]
    seconds: float | None
    cpu_seconds: float | None
    peak_mb: float | None


def render_comparison_page(
    methods: Sequence[ComparedMethod],
    *,
    motions: Sequence[str],
    sentence: str,
    reasons: Sequence[tuple[str, str]],
    config: str,
    facts: Sequence[tuple[str, str]],
    how: Sequence[str],
    facts_told: str,
    branch: Any,
    unit: str,
    solved: float,
    catalog: Catalog,
    pictures: Mapping[str, NDArray[np.floating]],
) -> str:
    """Return the page.

    Args:
        methods: a row for each.
        motions: names of the known motions, in order.
        sentence: what the comparison came to.
        reasons: why each stage's methods are recommended.
        config: the recommended ladder as YAML.
        facts: titles and texts below the heading.
        how: paragraphs on how it was measured.
        facts_told: what is known of the pair.
        branch: where on the guideline it lies: ``question``, ``initialize``, ``refine`` and ``why``.
        unit: of the errors.
        solved: error up to which a motion counts as found.
        catalog: of the figures of the kind.
        pictures: 2-D gray pictures: ``fixed``, and the moving image by the name of a method.
    """
    known = {name for method in methods for name in method.figures}
    columns = [name for name in catalog.columns if catalog.name_final_column(name) in known]
    window = choose_window(np.concatenate([picture.ravel() for picture in list(pictures.values())[1:2]]))
    story = {
        **{"sentence": sentence, "reasons": reasons, "config": config, "facts": facts, "how": how},
        **{
            "pair": facts_told,
            "branch": branch,
            "unit": unit,
            "solved": f"{solved:.2g} {unit}",
            "motions": motions,
        },
        "figures": [catalog.figures[name] for name in columns],
        "rows": [_describe_row(method, motions, columns, solved, catalog) for method in methods],
        "fixed": _draw(pictures["fixed"], choose_window(pictures["fixed"].ravel())),
        "pictures": [
            {"name": name, "src": _draw(picture, window)}
            for name, picture in pictures.items()
            if name != "fixed"
        ],
    }
    return render_template(
        "comparison.html", scripts=("table.js", "flip.js"), title="Comparison", story=story
    )


def _describe_row(
    method: ComparedMethod, motions: Sequence[str], columns: Sequence[str], solved: float, catalog: Catalog
) -> dict[str, Any]:
    return {
        **{"method": method.name, "stage": method.stage, "status": method.status, "link": method.link},
        **{"reason": method.reason, "rank": RANKS.index(method.status) if method.status else len(RANKS)},
        "errors": [_describe_error(method, name, solved) for name in motions],
        "figures": [_describe_figure(method, name, catalog) for name in columns],
        "seconds": _number(method.seconds, "{:.1f}"),
        "cpu": _number(method.cpu_seconds, "{:.1f}"),
        "memory": _number(method.peak_mb, "{:.0f} MB"),
    }


def _describe_error(method: ComparedMethod, motion: str, solved: float) -> dict[str, Any]:
    if motion not in method.errors:
        return {**MISSING, "solved": False, "title": ""}
    error = method.errors[motion]
    if error is None:
        return {"text": "failed", "value": 1e9, "solved": False, "title": method.sentences[motion]}
    digits = 3 if error < 0.1 else 2 if error < 10 else 1
    return {"text": f"{error:.{digits}f}", "value": error, "solved": error <= solved, "title": ""}


def _describe_figure(method: ComparedMethod, name: str, catalog: Catalog) -> dict[str, Any]:
    value = method.figures.get(catalog.name_final_column(name))
    return MISSING if value is None else {"text": catalog.figures[name].format_value(value), "value": value}


def _number(value: float | None, form: str) -> dict[str, Any]:
    return MISSING if value is None else {"text": form.format(value), "value": value}


def _draw(picture: NDArray[np.floating], window: tuple[float, float]) -> str:
    return encode_data_uri(draw_gray(picture, window), PICTURE_SIDE)
