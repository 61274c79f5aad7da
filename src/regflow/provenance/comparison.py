"""Whether two runs came to the same results, byte for byte, and where they did not."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regflow.core.files import read_json
from regflow.provenance.run_crate import RunCrate
from regflow.stages import layout
from regflow.stages.freshness import MADE_FROM
from regflow.stages.shell import FILES, STARTED

OF_THE_RUN = frozenset((STARTED, FILES, MADE_FROM, "seconds", "stamps", "recorded", "command", "folder"))
"""Keys of records that tell when, where and from which files of these contents something was made."""
COLUMNS_OF_THE_RUN = ("seconds_", "stored_mb")
"""How columns of the cohort's table begin that tell what making the samples took."""
PLACES = frozenset(("output", "samples"))
"""Keys of a configuration that tell where things lie."""


@dataclass(frozen=True)
class RunComparison:
    """What became of the files of one run in another.

    Attributes:
        same: how many have the same bytes.
        same_but_for_times: equal apart from when they were made, and how long that took.
        pages: other than before, as pages tell times; they show what the other files hold.
        different: with other content.
        missing: that the other run did not make.
        additional: that only the other run made.
        inputs: with other content, by their address.
    """

    same: int = 0
    same_but_for_times: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    additional: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether everything but times came out again."""
        return not (self.different or self.missing or self.additional or self.inputs)


def compare_runs(first: RunCrate, second: RunCrate) -> RunComparison:
    """Compare the files of two runs, by the checksums of their crates."""
    same, groups = 0, RunComparison()
    for path, checksum in first.files.items():
        if path not in second.files:
            groups.missing.append(path)
        elif second.files[path] == checksum:
            same += 1
        elif path.endswith(".html"):
            groups.pages.append(path)
        elif _is_equal_without_times(first.folder / path, second.folder / path, path):
            groups.same_but_for_times.append(path)
        else:
            groups.different.append(path)
    groups.additional.extend(path for path in second.files if path not in first.files)
    # What cannot be found any more has made the samples fail.
    known = {address for address, checksum in second.inputs.items() if checksum is not None}
    groups.inputs.extend(
        address
        for address, checksum in first.inputs.items()
        if checksum is not None and (address not in known or second.inputs[address] != checksum)
    )
    parts = {name: value for name, value in vars(groups).items() if name != "same"}
    return RunComparison(same, **parts)


def _is_equal_without_times(first: Path, second: Path, path: str) -> bool:
    if not (first.is_file() and second.is_file()):
        return False
    read = _READERS.get(path) or _READERS.get(first.suffix)
    return read is not None and bool(read(first) == read(second))


def _read_record(path: Path) -> Any:
    return _drop_times(read_json(path))


def _drop_times(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _drop_times(value) for key, value in content.items() if key not in OF_THE_RUN}
    if isinstance(content, list):
        return [_drop_times(value) for value in content]
    return content


def _read_configuration(path: Path) -> Any:
    import yaml

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in PLACES}


def _read_table(path: Path) -> Any:
    with path.open(encoding="utf-8", newline="") as stream:
        return [_drop_columns(row) for row in csv.DictReader(stream, delimiter="\t")]


def _read_columns(path: Path) -> Any:
    import pyarrow.parquet as pq

    return [_drop_columns(row) for row in pq.read_table(path).to_pylist()]


def _drop_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith(COLUMNS_OF_THE_RUN)}


_READERS: Mapping[str, Callable[[Path], Any]] = {
    layout.CONFIGURATION: _read_configuration,
    ".json": _read_record,
    ".tsv": _read_table,
    ".parquet": _read_columns,
}
"""How a file is read without times, by its path or its ending."""
