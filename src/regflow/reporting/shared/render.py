"""Templates filled in: one HTML file that holds its styles, scripts and pictures."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from regflow import __version__
from regflow.core.addresses import redact_value

WORDS = {
    "pass": "Passed",
    "warn": "Look at it",
    "fail": "Failed",
    "error": "Could not be done",
    "skipped": "Skipped",
}
"""What a verdict or a state is called in the report."""


def render_template(template: str, *, scripts: Sequence[str] = (), **context: Any) -> str:
    """Fill a template of ``reporting/templates``; ``scripts`` name JavaScript files to include."""
    environment = _environment()
    loader = environment.loader
    style, _, _ = loader.get_source(environment, "style.css")
    code = "\n".join(loader.get_source(environment, name)[0] for name in scripts)
    context |= {"style": style, "script": code, "version": __version__, "words": WORDS}
    page: str = environment.get_template(template).render(context)
    return page


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("regflow.reporting.shared"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=redact_value,
    )
    environment.filters["raw"] = Markup
    return environment
