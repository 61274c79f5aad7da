"""A run again, from its crate: the same configuration, sample sheet and seeds, into another folder."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.config.loading import read_keys
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, read_json, write_whole
from regflow.core.processor import read_processor
from regflow.provenance.comparison import RunComparison
from regflow.provenance.provenance import list_packages
from regflow.provenance.run_crate import RunCrate
from regflow.stages import layout

RESULTS = "results"


@dataclass(frozen=True)
class Reproduction:
    """A run that is ready to be run again.

    Attributes:
        configuration: the file to run.
        folder: the working directory, from which the paths of the configuration and the sheet count.
        results: where the results will lie.
        changes: one sentence for each version and machine that is not what it was.
    """

    configuration: Path
    folder: Path
    results: Path
    changes: list[str]


def prepare_reproduction(crate: RunCrate, output: str | Path) -> Reproduction:
    """Write the configuration and the sheet of a run into a new folder.

    Args:
        crate: of the run.
        output: the folder, which must not hold anything but an earlier reproduction of the same run.

    Raises:
        InputError: what the run was made from is missing or has changed since, or ``output`` is not free.
    """
    import yaml

    output = Path(output).resolve()
    for name in (layout.CONFIGURATION, layout.SHEET, layout.PROVENANCE):
        _refuse_changed(crate, name)
    settings = read_keys(crate.folder / layout.CONFIGURATION)
    settings["output"] = str(output / RESULTS)
    if layout.SHEET in crate.files:
        settings["samples"] = str(output / layout.SHEET)
    text = yaml.safe_dump(settings, sort_keys=False)
    configuration = output / layout.CONFIGURATION
    if output.exists() and (not configuration.is_file() or configuration.read_text(encoding="utf-8") != text):
        raise InputError(f"{output}: this is there already; name a new folder with --output")
    with write_whole(configuration) as part:
        part.write_text(text, encoding="utf-8")
    if layout.SHEET in crate.files:
        shutil.copyfile(crate.folder / layout.SHEET, output / layout.SHEET)
    record = read_json(crate.folder / layout.PROVENANCE)
    folder = (crate.folder / record["folder"]).resolve()
    here = folder if folder.is_dir() else output
    return Reproduction(configuration, here, output / RESULTS, list(list_changes(record)))


def list_changes(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each version that is not the one of a run's ``provenance.json``."""
    from regflow import __version__

    if record["regflow"] != __version__:
        yield f"regflow was {record['regflow']}, and is {__version__}"
    now = list_packages()
    for name, version in record["packages"].items():
        if now.get(name) != version:
            yield f"{name} was {version}, and is {now.get(name, 'not there')}"
    processor = read_processor()["name"]
    if record["processor"]["name"] != processor:
        yield f"the processor was {record['processor']['name']}, and is {processor}"


def describe_comparison(found: RunComparison) -> Iterator[str]:
    """Yield lines that tell a person how a run compares with its reproduction."""
    for address in found.inputs:
        yield f"{address}: this input has changed since the run, or cannot be read"
    told = {
        "differs": found.different,
        "was not made again": found.missing,
        "was not made by the first run": found.additional,
    }
    for words, paths in told.items():
        yield from (f"{path}: {words}" for path in paths)
    yield (
        f"{found.same} files have the same bytes, {len(found.same_but_for_times)} more are the same but for "
        f"times and places, {len(found.pages)} pages tell other times"
    )
    wrong = len(found.different) + len(found.missing) + len(found.additional)
    yield f"{wrong} files differ" if wrong else "the run came out again"


def _refuse_changed(crate: RunCrate, name: str) -> None:
    path, known = crate.folder / name, crate.files.get(name)
    if known is None and name != layout.SHEET:
        raise InputError(f"{crate.folder / layout.CRATE}: names no {name}; it is not the crate of a run")
    if known is not None and not (path.is_file() and compute_sha256(path) == known):
        raise InputError(f"{path}: is missing or has changed since the run, which cannot be run again")
