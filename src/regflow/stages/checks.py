"""What ingest shares between kinds of image: how findings are told, and what a manifest promises."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from regflow.core.errors import InputError
from regflow.core.files import read_json

log = logging.getLogger(__name__)

Subject = TypeVar("Subject")
Progress = Callable[[int, int], None]


class Findings(Protocol):
    """What looking at an image's files found, in sentences."""

    problems: list[str]
    warnings: list[str]


def told(name: str, found: Findings) -> None:
    """Log what was found about an image."""
    for sentence in found.problems:
        log.error("%s: %s", name, sentence)
    for sentence in found.warnings:
        log.warning("%s: %s", name, sentence)


def read_done(path: str | Path) -> dict[str, Any]:
    """Read the manifest of an image that is fit for use.

    Raises:
        InputError: ingest found problems; all of them are named.
    """
    manifest: dict[str, Any] = read_json(path)
    if manifest["state"] != "done":
        raise InputError("; ".join(manifest["problems"]))
    return manifest


def problems_of(
    subjects: Sequence[Subject],
    examine: Callable[[Subject], Findings],
    name_of: Callable[[Subject], str],
    threads: int,
    progress: Progress | None,
) -> list[str]:
    """Look at many images together; what is odd about them is logged as a warning.

    Args:
        subjects: samples and fixed images.
        examine: looks at one.
        name_of: names one.
        threads: images looked at together.
        progress: called with how many are done and how many there are.

    Returns:
        Every problem, each beginning with the name of its image; a fault of the program's own is one.
    """
    problems = []
    with ThreadPoolExecutor(threads) as pool:
        looks = [pool.submit(examine, subject) for subject in subjects]
        for count, (subject, look) in enumerate(zip(subjects, looks, strict=True), start=1):
            fault = look.exception()
            problems += [f"{name_of(subject)}: {sentence}" for sentence in _problems(look, fault)]
            for sentence in () if fault else look.result().warnings:
                log.warning("%s: %s", name_of(subject), sentence)
            if progress is not None:
                progress(count, len(subjects))
    return problems


def _problems(look: Future[Any], fault: BaseException | None) -> list[str]:
    """Return what looking at an image found; a fault that nobody foresaw must not hide the other images."""
    if fault is None:
        return list(look.result().problems)
    if not isinstance(fault, Exception):
        raise fault
    log.debug("the fault in full", exc_info=fault)
    told = " ".join(f"{type(fault).__name__}: {fault}".split())
    return [f"could not be looked at ({told}); convert its files with another program, and report this"]
