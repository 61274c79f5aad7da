"""Whether what lies in a run's folder is still what its crate says."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from regflow.core.files import compute_sha256
from regflow.provenance.inventory import list_present_files
from regflow.provenance.run_crate import RunCrate, read_crate


@dataclass(frozen=True)
class Verification:
    """What re-checking a run's folder found.

    Attributes:
        checked: how many files were held against the crate.
        problems: one sentence for each file that is missing, changed, or not of the run.
    """

    checked: int
    problems: list[str]


def verify_run(folder: str | Path, *, inputs: bool = False, threads: int = 1) -> Verification:
    """Hold the files of a run against its crate.

    Args:
        folder: of the run's results.
        inputs: whether to look at the files on this machine too that the run has read.
        threads: files read together.

    Raises:
        InputError: there is no crate, or it cannot be trusted.
    """
    crate = read_crate(folder)
    expected = {str(crate.folder / name): checksum for name, checksum in crate.files.items()}
    if inputs:
        expected.update(_list_local_inputs(crate))
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(_read_checksum, expected))
    problems = [
        f"{path}: is missing" if checksum is None else f"{path}: has changed"
        for (path, known), checksum in zip(expected.items(), found, strict=True)
        if checksum != known
    ]
    unknown = (name for name in list_present_files(crate.folder) if name not in crate.files)
    problems += [f"{crate.folder / name}: is not of this run" for name in unknown]
    return Verification(len(expected), problems)


def _list_local_inputs(crate: RunCrate) -> Iterator[tuple[str, str]]:
    for address, checksum in crate.inputs.items():
        parts = urlsplit(address)
        if parts.scheme == "file" and checksum is not None:
            yield unquote(parts.path), checksum


def _read_checksum(path: str) -> str | None:
    """Return the checksum of a file or a folder; None where there is none."""
    return compute_sha256(path) if Path(path).exists() else None
