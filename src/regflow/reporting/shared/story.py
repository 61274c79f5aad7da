"""What every page tells of a sample: verdict, stages and times, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regflow.core.gate import find_worst_verdict

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
MODES = (
    ("flicker", "Flicker"),
    ("blend", "Blend"),
    ("swipe", "Swipe"),
    ("checker", "Checkerboard"),
    ("difference", "Difference"),
)


@dataclass(frozen=True)
class PageStory:
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


def list_stage_seconds(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
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
            "text": format_duration(spent),
            "color": STAGE_COLORS[stage],
        }
        for stage, spent in seconds.items()
        if spent > 0
    ]


def format_duration(seconds: float | None) -> str:
    """Return a time in words: ``0.42 s``, ``12.3 s``, ``2 min 5 s``."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def describe_source(source: str | None) -> list[tuple[str, str]]:
    """Return the line that says where the products' transform comes from, of :data:`SOURCES`."""
    return [] if source is None else [("transform by", SOURCES[source])]


def make_sentence(reason: str) -> str:
    """Return a reason as a sentence; a name or a path at its beginning is left as it is."""
    first = reason.partition(" ")[0]
    start = reason if any(sign in first for sign in "_/\\.") else reason[:1].upper() + reason[1:]
    return start if start.endswith((".", "!", "?")) else start + "."


def list_stage_rows(stages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row per stage, each followed by a row per step."""
    for record in stages:
        state, verdict = record["state"], record["verdict"]
        told = state != "done" or verdict["reason"] != find_worst_verdict([]).reason
        blocked = state == "skipped" and verdict["status"] == "fail"
        reason = SKIPPED if blocked else verdict["reason"]
        yield {
            "stage": record.get("title", record["stage"]),
            "step": "",
            "time": format_duration(record.get("seconds")),
            "status": (verdict["status"] if state == "done" else state) if told else "",
            "reason": reason if told else "",
        }
        for step in record["steps"]:
            verdict = step.get("verdict") or {}
            failed = step.get("state") == "error"
            yield {
                "stage": "",
                "step": _step_title(step),
                "time": format_duration(step.get("seconds")),
                "status": "fail" if failed else verdict.get("status", ""),
                "reason": step.get("reason") or verdict.get("reason") or step.get("skipped") or "",
            }


def _step_title(step: Mapping[str, Any]) -> str:
    """Return what a step is, by what method, and of which image where a stage works on both."""
    method, image = step.get("method"), step.get("image")
    return step["name"] + (f": {method}" if method else "") + (f" ({image})" if image else "")
