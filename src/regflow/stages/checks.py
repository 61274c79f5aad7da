"""What ingest shares between kinds of image: looks at files, the manifest that tells of them, and checks."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from regflow.cohort.samples import list_fixed_images
from regflow.core.errors import InputError
from regflow.core.files import read_json, write_json
from regflow.stages.freshness import MADE_FROM, read_current_key

log = logging.getLogger(__name__)

Subject = TypeVar("Subject")
Progress = Callable[[int, int], None]


@dataclass
class Findings:
    """What looking at an image's files found.

    Attributes:
        problems: sentences; any of them makes the image unusable.
        warnings: sentences on what was decided for the user.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def name_subject(subject: Any) -> str:
    """Return the id of a sample or the name of a fixed image."""
    return str(getattr(subject, "sample", None) or subject.name)


def write_manifest(
    output: str | Path,
    subject: Any,
    found: Findings,
    details: Mapping[str, Any],
    *,
    files: Mapping[str, str],
    sums: Mapping[str, str],
) -> dict[str, Any]:
    """Log what was found about an image and write its manifest, problems included.

    Args:
        output: the JSON file to write, whole or not at all. Its keys: ``name``, ``fixed`` (of a
            sample), ``state`` (``done`` or ``error``), ``problems``, ``warnings``, those of
            ``details``, ``paths`` and ``sha256`` by part.
        subject: the sample or the fixed image.
        found: about its files.
        details: what its kind tells besides.
        files: by part; ``companions.NAME`` are gathered under ``companions``.
        sums: SHA-256 of the files.

    Returns:
        The manifest.
    """
    log_findings(name_subject(subject), found)
    fixed = getattr(subject, "fixed", None)
    manifest = {
        "name": name_subject(subject),
        "fixed": None if fixed is None else fixed.name,
        "state": "error" if found.problems else "done",
        "problems": found.problems,
        "warnings": found.warnings,
        **details,
        "paths": _nested(files),
        "sha256": _nested(sums),
        MADE_FROM: read_current_key(),
    }
    write_json(output, manifest)
    return manifest


def log_findings(name: str, found: Findings) -> None:
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


def check_cohort(
    read_samples: Callable[[], Iterable[Any]],
    examine: Callable[[Any], Findings],
    threads: int,
    progress: Progress | None,
) -> list[str]:
    """Look at every input of a cohort and return all problems at once.

    Args:
        read_samples: reads the cohort.
        examine: looks at a sample or a fixed image.
        threads: images looked at together.
        progress: called with how many images are done and how many there are.

    Returns:
        Sentences that begin with the sample or fixed image they are about; empty when all is well.
    """
    try:
        samples = list(read_samples())
    except InputError as error:
        return str(error).splitlines()
    return find_problems([*list_fixed_images(samples).values(), *samples], examine, threads, progress)


def find_problems(
    subjects: Sequence[Subject],
    examine: Callable[[Subject], Findings],
    threads: int,
    progress: Progress | None,
) -> list[str]:
    """Look at many images together; what is odd about them is logged as a warning.

    Args:
        subjects: samples and fixed images.
        examine: looks at one.
        threads: images looked at together.
        progress: called with how many are done and how many there are.

    Returns:
        Every problem, each beginning with the name of its image; a fault of the program's own is one.
    """
    problems = []
    with ThreadPoolExecutor(threads) as pool:
        looks = [pool.submit(examine, subject) for subject in subjects]
        for count, (subject, look) in enumerate(zip(subjects, looks, strict=True), start=1):
            fault, name = look.exception(), name_subject(subject)
            problems += [f"{name}: {sentence}" for sentence in _problems(look, fault)]
            for sentence in () if fault else look.result().warnings:
                log.warning("%s: %s", name, sentence)
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


def list_parts(parts: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a manifest holds by part, ``companions.NAME`` one by one."""
    for name, value in parts.items():
        if isinstance(value, Mapping):
            yield from list_parts(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", str(value)


def _nested(parts: Mapping[str, str]) -> dict[str, Any]:
    """Return parts by name, ``companions.NAME`` gathered under ``companions``."""
    nested: dict[str, Any] = {}
    for part, value in parts.items():
        group, _, name = part.partition(".")
        if name:
            nested.setdefault(group, {})[name] = value
        else:
            nested[group] = value
    return nested
