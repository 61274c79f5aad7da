"""Results that lie on a server, because Snakemake's default storage is one: jobs fetch and send them.

Snakemake moves what its rules name. What a batch makes of each sample is named by no rule, so that a batch
that was killed can go on where it was: it is sent as each stage ends, its record last, and what has no record
there does not count.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from regflow.cohort.batches import Batches
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256
from regflow.io.object_store import drop_object, fetch_object, list_objects, measure_object, store_object
from regflow.stages import layout
from regflow.stages.freshness import STAGE_FILE

FETCHED_TOGETHER = 16
STORAGE = "REGFLOW_STORAGE"
"""Environment variable with the provider and the prefix of Snakemake's default storage, as JSON."""


@dataclass(frozen=True)
class Results:
    """A folder of results, and where it lies on a server, if it does.

    Attributes:
        folder: in which a job works.
        provider: name of Snakemake's plugin; None where the results lie in ``folder``.
        prefix: address of the folder on the server.
    """

    folder: Path
    provider: str | None = None
    prefix: str = ""

    def fetch(self, path: Path) -> bool:
        """Fetch a file or a stage's directory below the folder; tell whether there is one.

        Raises:
            OSError: the server refuses, or does not answer.
        """
        if self.provider is None:
            return path.exists()
        address = self._address(path)
        record = path / STAGE_FILE
        of_stage = path.relative_to(self.folder).parent.as_posix() in layout.FOLDERS_OF_STAGES
        if of_stage and not fetch_object(self.provider, f"{address}/{STAGE_FILE}", record):
            return False
        return fetch_object(self.provider, address, path)

    def send(self, path: Path) -> None:
        """Send a file, or a directory whose record comes last, in place of what was there.

        Raises:
            OSError: the server refuses, or does not answer.
        """
        if self.provider is None:
            return
        address = self._address(path)
        if path.is_dir():
            drop_object(self.provider, f"{address}/{STAGE_FILE}")
            drop_object(self.provider, address)
        members = [member for member in path.rglob("*") if member.is_file()] if path.is_dir() else [path]
        for member in sorted(members, key=lambda member: (member.name == STAGE_FILE, member)):
            store_object(self.provider, self._address(member), member)

    def fetch_outline(self, is_read: Callable[[PurePosixPath], bool]) -> None:
        """Lay out all that is on the server, without the content of what is not read.

        Args:
            is_read: tells whether a file's content is needed, by its path below the folder. Any other has
                its size, without taking it on the disk, and every one the time of its last change.

        Raises:
            InputError: only results on S3 can be listed.
            OSError: the server refuses, or does not answer.
        """
        if self.provider is None:
            return
        listed = [(self.folder / found.path, found) for found in list_objects(self.provider, self.prefix)]
        with ThreadPoolExecutor(FETCHED_TOGETHER) as pool:
            needed = (path for path, found in listed if is_read(PurePosixPath(found.path)))
            deque(pool.map(self.fetch, needed), maxlen=0)
        for path, found in listed:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                stream.truncate(found.size)
            os.utime(path, (found.modified, found.modified))

    def compute_checksum(self, path: Path) -> str:
        """Return the SHA-256 of a file, of which only the outline may have been fetched.

        Raises:
            OSError: it is gone, or the server refuses, or does not answer.
        """
        if self.provider is None:
            return compute_sha256(path)
        with TemporaryDirectory(prefix="regflow-") as scratch:
            copy = Path(scratch, path.name)
            if not fetch_object(self.provider, self._address(path), copy):
                raise OSError(f"{self._address(path)}: this is gone; run it again")
            return compute_sha256(copy)

    def remove(self, path: Path) -> None:
        """Remove a file, here and there."""
        path.unlink(missing_ok=True)
        if self.provider is not None:
            drop_object(self.provider, self._address(path))

    def _address(self, path: Path) -> str:
        return f"{self.prefix}/{path.relative_to(self.folder).as_posix()}"


def export_storage(storage: Any, settings: Any, output: str) -> None:
    """Leave to the jobs where results lie.

    Args:
        storage: Snakemake's settings of storage.
        settings: of the default provider; what is given on the command line is left as environment
            variables of the plugin, so that no job's command and no record holds it.
        output: the folder of results, as the configuration names it.

    Raises:
        InputError: the folder has a place of its own, which no prefix can change.
    """
    provider = storage.default_storage_provider
    if provider is None:
        os.environ.pop(STORAGE, None)
        return
    if Path(output).is_absolute():
        raise InputError(f"output: '{output}' is an absolute path; results on a server need a relative one")
    os.environ[STORAGE] = json.dumps({"provider": provider, "prefix": storage.default_storage_prefix})
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.metadata.get("env_var") and value is not None:
            os.environ.setdefault(f"SNAKEMAKE_STORAGE_{provider}_{field.name}".upper(), str(value))


@contextmanager
def open_results(output: str | Path, storage: str | None = None) -> Iterator[Results]:
    """Yield the folder of results that a job works in.

    Args:
        output: the folder of results, as the configuration names it: the one to work in, unless results
            lie on a server. Then it is a temporary folder of this machine.
        storage: address that the storage of the run begins with; where :func:`export_storage` has left it
            when None.
    """
    stored = os.environ.get(STORAGE)
    if storage is not None:
        place = {"provider": storage.partition("://")[0], "prefix": storage}
    elif stored is not None:
        place = json.loads(stored)
    else:
        yield Results(Path(output))
        return
    with TemporaryDirectory(prefix="regflow-") as scratch:
        prefix = f"{place['prefix'].rstrip('/')}/{Path(output).as_posix()}"
        yield Results(Path(scratch) / Path(output).name, place["provider"], prefix)


def measure_sample(output: str | Path, sample: str) -> float | None:
    """Return the megabytes of what the stages keep of a sample on a server; None where they lie here."""
    with open_results(output) as results:
        if results.provider is None:
            return None
        places = [place.format(sample=sample) for place in layout.OF_A_SAMPLE.values()]
        sizes = [measure_object(results.provider, f"{results.prefix}/{place}") for place in places]
        return sum(sizes) / 1e6


def read_batches(output: str | Path) -> Batches | None:
    """Read how a cohort is shared out to jobs; None where that is not decided yet."""
    with open_results(output) as results:
        path = results.folder / layout.BATCHES
        return Batches.read(path) if results.fetch(path) else None


def write_batches(output: str | Path, batches: Batches) -> None:
    """Write down how a cohort is shared out to jobs."""
    with open_results(output) as results:
        path = results.folder / layout.BATCHES
        batches.write(path)
        results.send(path)
