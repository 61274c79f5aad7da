"""How a stage ends: a whole directory with its ``stage.json``, also for a sample that cannot go on."""

import importlib
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import (
    compute_sha256,
    list_checksums,
    read_json,
    write_json,
    write_whole_directory,
)
from regflow.core.gate import Verdict
from regflow.core.processor import read_processor_name
from regflow.stages.freshness import MADE_FROM, STAGE_FILE, derive_key, read_current_key, record_key

log = logging.getLogger(__name__)

FILES = "files"
"""Name, in a stage's record, of the checksums of what it wrote, by path as seen from the record's folder."""
STARTED = "started"
"""Name, in a stage's record, of the time at which it began."""

HEADER = "header"
"""Name of the headers' or the georeference's own alignment, which the initialize stage begins with."""


def run_stage(
    stage: str,
    kind: str,
    output: str | Path,
    *,
    source: str,
    networks: Mapping[str, str] | None = None,
    record: str | Path | None = None,
    **arguments: Any,
) -> None:
    """Run a stage of a kind of image: its function gets those of the arguments that it takes.

    Args:
        stage: ``ingest``, ``preprocess`` ...
        kind: ``volumes`` or ``rasters``.
        output: what the stage writes.
        source: version and digest of the stage's sources.
        networks: that it may ask, with the checksums of their files.
        record: file for what is recorded of a stage whose output holds no record.
        arguments: all that a job knows; not every kind needs each.
    """
    function, taken = _find_stage(stage, kind, arguments)
    key = compute_stage_key(stage, kind, source=source, networks=networks, **arguments)
    started, begun = _read_clock(), time.perf_counter()
    with record_key(key):
        function(output, **taken)
    if record is not None:
        written = (Path(path) for path in (output, taken.get("picture")) if path is not None)
        folder = Path(record).parent
        files = {Path(os.path.relpath(path, folder)).as_posix(): compute_sha256(path) for path in written}
        spent = {STARTED: started, "seconds": time.perf_counter() - begun}
        write_json(record, {"stage": stage, **spent, FILES: files, MADE_FROM: key})


def compute_stage_key(
    stage: str, kind: str, *, source: str, networks: Mapping[str, str] | None = None, **arguments: Any
) -> str:
    """Return the key of what :func:`run_stage` would make; the arguments are those of that function."""
    _, taken = _find_stage(stage, kind, arguments)
    return derive_key(stage, kind, source, {**taken, "networks": networks or {}})


def _find_stage(
    stage: str, kind: str, arguments: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return a stage's function and the arguments that it takes."""
    function = getattr(importlib.import_module(f"regflow.stages.{kind}.{stage}"), stage)
    known = inspect.signature(function).parameters
    return function, {name: value for name, value in arguments.items() if name in known}


@dataclass(frozen=True)
class Outcome:
    """How one stage of one sample ended.

    Attributes:
        state: ``done``: its products are there; ``error``: this sample's data made the stage
            impossible; ``skipped``: an earlier stage had ended in an error, or (verdict ``warn``)
            there was nothing for this one to do.
        verdict: the gate's verdict; ``fail`` with the reason for ``error``, and for ``skipped``
            after an error.
        steps: one record per step or try, each with ``name`` and ``seconds``.
        details: further figures of the stage, by names that carry their units.
    """

    state: Literal["done", "error", "skipped"]
    verdict: Verdict
    steps: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def make_outcome(verdict: Verdict, steps: Sequence[Mapping[str, Any]] = (), **details: Any) -> Outcome:
    """Return the outcome of a stage that made its products."""
    return Outcome("done", verdict, [dict(step) for step in steps], details)


def read_outcome(folder: str | Path) -> Outcome:
    """Read the outcome that :func:`run_stage_work` wrote into a stage's directory."""
    content = read_json(Path(folder) / STAGE_FILE)
    return Outcome(
        content["state"], Verdict.from_dict(content["verdict"]), content["steps"], content["details"]
    )


def run_stage_work(
    stage: str,
    sample: str,
    output: str | Path,
    upstream: Sequence[str | Path],
    work: Callable[[Path], Outcome],
) -> Outcome:
    """Run ``work`` into a fresh directory and close it with ``stage.json``, whole or not at all.

    ``work`` gets the directory to fill. When it raises InputError or RegistrationError the
    directory holds ``stage.json`` alone, state ``error`` and the sentence; when a directory of
    ``upstream`` did not end as ``done``, ``work`` is not called and the state is ``skipped``. So
    one bad sample never stops a cohort. Any other exception is a defect or the machine's fault:
    it goes on up and leaves no output.
    """
    started, begun = _read_clock(), time.perf_counter()

    def close(folder: Path, outcome: Outcome) -> None:
        spent = {STARTED: started, "seconds": time.perf_counter() - begun}
        _write(folder, {"stage": stage, "sample": sample, **spent}, outcome)

    outcome = _blocked(upstream)
    if outcome is None:
        try:
            with write_whole_directory(output) as folder:
                outcome = work(folder)
                close(folder, outcome)
            return outcome
        except (InputError, RegistrationError) as error:
            log.error("%s: %s: %s", sample, stage, error)
            outcome = Outcome("error", Verdict("fail", str(error)))
    with write_whole_directory(output) as folder:
        close(folder, outcome)
    return outcome


def find_transform_source(records: Iterable[Mapping[str, Any]]) -> str | None:
    """Return where the products' transform comes from; None where there is none.

    ``refine``, ``initialize``, or :data:`HEADER`.

    Args:
        records: contents of the stages' ``stage.json``; ``details.kept`` tells that a stage handed on
            what it began with.
    """
    ended = {record["stage"]: record for record in records if record["state"] == "done"}
    if "refine" not in ended:
        return None
    kept = {stage: bool(record.get("details", {}).get("kept")) for stage, record in ended.items()}
    if not kept["refine"]:
        return "refine"
    return HEADER if kept.get("initialize") else "initialize"


def read_stage_records(prepared: tuple[str | Path, str | Path], *later: str | Path) -> list[dict[str, Any]]:
    """Return what the stages' ``stage.json`` hold, in order, each with a title for the report.

    Checksums of the stages' files are left to the records: a report has no need of them.

    Args:
        prepared: directories of the fixed and the moving image, written by preprocess.
        later: those of the stages after it.
    """
    records: list[dict[str, Any]] = [read_json(Path(folder) / STAGE_FILE) for folder in (*prepared, *later)]
    for number, record in enumerate(records):
        record.pop(FILES, None)
        image = (" (fixed)", " (moving)")[number] if number < len(prepared) else ""
        record["title"] = record["stage"] + image
    return records


@contextmanager
def record_step(steps: list[dict[str, Any]], name: str, **details: Any) -> Iterator[dict[str, Any]]:
    """Append a record of a step to ``steps``; its ``seconds`` are filled in when the block ends."""
    record: dict[str, Any] = {"name": name, **details}
    started = time.perf_counter()
    yield record
    record["seconds"] = time.perf_counter() - started
    steps.append(record)
    log.info("%s: %.2f s", name, record["seconds"])


def _blocked(upstream: Sequence[str | Path]) -> Outcome | None:
    for folder in upstream:
        before = read_outcome(folder)
        if before.state != "done":
            return Outcome("skipped", before.verdict)
    return None


def _write(folder: Path, begun: Mapping[str, Any], outcome: Outcome) -> None:
    """Write a stage's record, with the checksums of what lies beside it."""
    content = {
        **begun,
        "state": outcome.state,
        "verdict": outcome.verdict.to_dict(),
        "steps": outcome.steps,
        "details": outcome.details,
        "processor": read_processor_name(),
        FILES: list_checksums(folder),
        MADE_FROM: read_current_key(),
    }
    write_json(folder / STAGE_FILE, content)


def _read_clock() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
