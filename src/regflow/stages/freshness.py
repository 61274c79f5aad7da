"""Whether what a stage left is still what it would make: a key of all that it is made from.

The key of a stage is a digest of its settings, of the sources that compute it, and of the keys of what it
reads; ingest begins the chain with the sheet's row and the files' checksums. What is equal to its key need
not be made again, whoever made it: a job of one stage, a job of a batch, or a run that was killed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from regflow.core.files import read_file_stamp, read_json
from regflow.io.raster_names import find_local_file

STAGE_FILE = "stage.json"

MADE_FROM = "made_from"
"""Name of the key in a stage's record."""

UPSTREAM = frozenset(
    ("manifest", "manifests", "prepared", "reference", "initial", "refined", "applied", "assessed")
) | frozenset(("detected", "fixed", "warped", "earlier"))
"""Arguments of stages that name what another stage left."""
WITHOUT_EFFECT = frozenset(("threads", "dask", "picture", "home", "prediction"))
"""Arguments that no result depends on."""
PASSING = frozenset((MADE_FROM, "stamps"))
"""What a manifest tells of the files that says nothing about their content."""

_key: ContextVar[str | None] = ContextVar("_key", default=None)


def derive_key(stage: str, kind: str, source: str, arguments: Mapping[str, Any]) -> str:
    """Return the key of what a stage makes.

    Args:
        stage: ``ingest``, ``preprocess`` ...
        kind: ``volumes`` or ``rasters``.
        source: version and digest of the sources.
        arguments: of the stage's function; a ``subject`` counts with size and time of its files.
    """
    content: dict[str, Any] = {"stage": stage, "kind": kind, "source": source}
    for name, value in arguments.items():
        if name in UPSTREAM:
            content[name] = _keys_of(value)
        elif name == "subject":
            content[name] = [_plain(value), list(_stamps(value))]
        elif name not in WITHOUT_EFFECT:
            content[name] = _plain(value)
    return _digest(content)


def read_key(product: str | Path) -> str | None:
    """Return the key of what a stage left: a directory with its record, or a manifest.

    A manifest stands for its content, so that a file that was merely touched changes nothing. None where
    there is nothing, or a record that knows no key.
    """
    record = find_record(product)
    if not record.is_file():
        return None
    content = read_json(record)
    if record == Path(product):
        return _digest({name: part for name, part in content.items() if name not in PASSING})
    key: str | None = content.get(MADE_FROM)
    return key


def is_current(product: str | Path, key: str) -> bool:
    """Return whether a stage's directory, manifest or record was made by a key."""
    record = find_record(product)
    return record.is_file() and read_json(record).get(MADE_FROM) == key


def find_record(product: str | Path) -> Path:
    """Return the file that holds the key of a stage's product: a directory has one, a manifest is its own.

    A sample's id may end as a manifest's name does, so that only what is there tells them apart.
    """
    path = Path(product)
    return path / STAGE_FILE if path.is_dir() else path


@contextmanager
def record_key(key: str | None) -> Iterator[None]:
    """Let the records that are written inside the block hold a key."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


def read_current_key() -> str | None:
    """Return the key of what is being made."""
    return _key.get()


def _keys_of(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_keys_of(part) for part in value]
    return None if value is None else read_key(value)


def _stamps(subject: Any) -> Iterator[list[int]]:
    fixed = getattr(subject, "fixed", None)
    for part in filter(None, (subject, fixed)):
        for name in part.list_files().values():
            path = find_local_file(name)
            yield [] if path is None else read_file_stamp(path)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=sorted)
    return hashlib.sha256(text.encode()).hexdigest()
