"""Pages of a report without what tells when, how fast and by which jobs they were made."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

DURATION = r"(?:\d+ min \d+ s|\d+(?:\.\d+)? s)"
"""As :func:`regflow.reporting.shared.story.format_duration` writes it."""
OF_THE_RUN: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]] = (
    # A bar of times: how wide each stage's part is.
    (r'<div class="time".*?</div>', lambda bar: re.sub(r"width:[\d.]+%", "width:-", bar[0])),
    # A cell that is sorted by its time.
    (rf'data-sort="[\d.e-]*">{DURATION}<', 'data-sort="-">- s<'),
    # A time by itself, in a cell, a fact, a bar's title or its legend; no other text ends so.
    (rf"(?<=[> ]){DURATION}(?=[<,\"])", "- s"),
    # A sample's files are larger by the digits of times.
    (r"(?<=Median seconds of each stage\.)[^<]*", ""),
    # What the page says of the run itself, and of its jobs.
    (r"(?m)((?:^|>)(?:recorded|command|folder)): .*(\n  .*)*$", r"\1: -"),
    # Wherever the configuration gives them.
    (r"(?m)^jobs:\n(  .*\n)+", ""),
)


def strip_times(text: str) -> str:
    """Return a page's text without times, and without how its jobs were shared out."""
    for pattern, instead in OF_THE_RUN:
        text = re.sub(pattern, instead, text, flags=re.DOTALL if "<div" in pattern else 0)
    return text


def read_undated(results: Path) -> dict[str, str]:
    """Return the pages of a run by their path, without times."""
    pages = sorted(results.rglob("*.html"))
    return {str(page.relative_to(results)): strip_times(page.read_text(encoding="utf-8")) for page in pages}
