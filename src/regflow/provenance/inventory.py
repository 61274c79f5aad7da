"""What lies in a run's folder, with checksums: those that the stages recorded are not computed again."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regflow.core.files import compute_sha256, list_visible_files
from regflow.stages import layout
from regflow.stages.checks import list_parts
from regflow.stages.freshness import STAGE_FILE
from regflow.stages.shell import FILES, STARTED


@dataclass(frozen=True)
class RunFile:
    """A file of a run.

    Attributes:
        path: as seen from the run's folder.
        sha256: of its content.
        size: bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass
class RunInventory:
    """What a run has left, and what its stages say of themselves.

    Attributes:
        files: of the run, by path.
        inputs: SHA-256 of what was read, by path or address; None where it could not be had.
        seconds: spent by stage, all samples together.
        processors: how many stages ran on each processor.
        started: when the first stage began (ISO 8601, UTC); None where no stage ran.
        compute_checksum: of a file that no record tells; SHA-256.
    """

    files: dict[str, RunFile] = field(default_factory=dict)
    inputs: dict[str, str | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    processors: Counter[str] = field(default_factory=Counter)
    started: str | None = None
    compute_checksum: Callable[[Path], str] = compute_sha256


def take_inventory(
    results: str | Path,
    samples: Iterable[str],
    fixed: Iterable[str],
    compute_checksum: Callable[[Path], str] = compute_sha256,
) -> RunInventory:
    """Return what a run has left of its cohort.

    Args:
        results: the run's folder.
        samples: ids of the cohort.
        fixed: names of the fixed images.
        compute_checksum: of a file that no record tells; SHA-256.
    """
    results, found = Path(results), RunInventory(compute_checksum=compute_checksum)
    for path in _list_manifests(results, samples, fixed):
        _add_manifest(found, results, path)
    for record, products in _list_records(results, samples, fixed):
        _add_record(found, results, record, products)
    known = {_identity(results / path): file.sha256 for path, file in found.files.items()}
    for path in _list_cohort_files(results):
        _add(found, results, path, known.get(_identity(path)))
    found.files = dict(sorted(found.files.items()))
    found.inputs = dict(sorted(found.inputs.items()))
    return found


def list_present_files(results: str | Path) -> Iterator[str]:
    """Yield all files of a run's folder that are results, by path; hidden ones are not."""
    root = Path(results)
    for entry in sorted(root.iterdir()):
        if entry.name[0] != "." and entry.name not in (*layout.PASSING, layout.CRATE):
            inside = list_visible_files(entry) if entry.is_dir() else [entry]
            yield from (path.relative_to(root).as_posix() for path in inside)


def _list_manifests(results: Path, samples: Iterable[str], fixed: Iterable[str]) -> Iterator[Path]:
    yield from (results / layout.FIXED_MANIFEST.format(fixed=name) for name in fixed)
    yield from (results / layout.MOVING_MANIFEST.format(sample=name) for name in samples)


def _list_records(
    results: Path, samples: Iterable[str], fixed: Iterable[str]
) -> Iterator[tuple[Path, Iterator[Path]]]:
    """Yield each stage's record of an image, with what the stage has left."""
    working = [layout.FIXED_WORKING.format(fixed=name) for name in fixed]
    places = [place for place in layout.OF_A_SAMPLE.values() if not Path(place).suffix]
    working += [place.format(sample=name) for name in samples for place in places]
    for folder in (results / place for place in working):
        yield folder / STAGE_FILE, list_visible_files(folder)
    for name in samples:
        pages = (layout.SAMPLE_PAGE, layout.SAMPLE_PICTURE)
        record = results / layout.SAMPLE_RECORD.format(sample=name)
        yield record, (results / place.format(sample=name) for place in pages)


def _list_cohort_files(results: Path) -> Iterator[Path]:
    tables = (layout.COHORT_TABLE, layout.STRUCTURES_TABLE)
    endings = layout.TABLE_ENDINGS
    names = [table.format(ending=ending) for table in tables for ending in endings]
    for path in (results / name for name in (*layout.WHOLE_COHORT, *names)):
        yield from list_visible_files(path) if path.is_dir() else filter(Path.is_file, [path])


def _add_manifest(found: RunInventory, results: Path, path: Path) -> None:
    content = _add_json(found, results, path)
    if content is not None:
        sums = dict(list_parts(content["sha256"]))
        for part, name in list_parts(content["paths"]):
            found.inputs[name] = sums.get(part)


def _add_record(found: RunInventory, results: Path, record: Path, products: Iterable[Path]) -> None:
    content = _add_json(found, results, record)
    if content is None:
        return
    folder = record.parent
    known = {os.path.normpath(folder / name): sha256 for name, sha256 in content.get(FILES, {}).items()}
    for path in products:
        if path != record:
            _add(found, results, path, known.get(str(path)))
    stage, seconds = content.get("stage"), content.get("seconds")
    if stage is not None and seconds is not None:
        found.seconds[stage] = found.seconds.get(stage, 0.0) + seconds
    if content.get("processor"):
        found.processors[content["processor"]] += 1
    if started := content.get(STARTED):
        found.started = min(found.started or started, started)


def _add_json(found: RunInventory, results: Path, path: Path) -> Any:
    """Add a record itself, which is read but once; return its content, None where there is none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    _add(found, results, path, hashlib.sha256(raw).hexdigest())
    return json.loads(raw)


def _add(found: RunInventory, results: Path, path: Path, checksum: str | None) -> None:
    """Add a file, if it is there; its checksum is computed where no record tells it."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    name = path.relative_to(results).as_posix()
    found.files[name] = RunFile(name, checksum or found.compute_checksum(path), size)


def _identity(path: Path) -> tuple[int, int]:
    """Return what two names of one file have in common: derivatives are links to the products."""
    status = path.stat()
    return status.st_dev, status.st_ino
