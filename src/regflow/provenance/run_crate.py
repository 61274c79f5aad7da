"""What the crate of a run says, read back; it may come from anywhere, so nothing in it is trusted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from regflow.core.errors import InputError
from regflow.core.files import read_json
from regflow.stages import layout


@dataclass(frozen=True)
class RunCrate:
    """The files that the crate of a run names.

    Attributes:
        folder: the run's.
        files: SHA-256 by path, as seen from the folder.
        inputs: SHA-256 by address of what the run read; None where it could not be had.
    """

    folder: Path
    files: Mapping[str, str]
    inputs: Mapping[str, str | None]


def read_crate(folder: str | Path) -> RunCrate:
    """Read the crate of a run.

    Raises:
        InputError: there is none, it is damaged, or it names files outside of its folder.
    """
    folder = Path(folder)
    path = folder / layout.CRATE
    if not path.is_file():
        raise InputError(
            f"{path}: there is no crate; name the folder of results of a run that has come to its end"
        )
    try:
        entities = {entity["@id"]: entity for entity in read_json(path)["@graph"]}
        files = dict(_list_files(path, entities))
        inputs = {
            name: entity.get("sha256")
            for name, entity in entities.items()
            if ":" in name and entity["@type"] in ("File", "Dataset")
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: this is not the crate of a run ({error!r})") from error
    return RunCrate(folder, files, inputs)


def _list_files(crate: Path, entities: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, entity in entities.items():
        kinds = entity["@type"]
        if "File" not in (kinds if isinstance(kinds, list) else [kinds]) or ":" in name:
            continue
        path = PurePosixPath(unquote(name))
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{crate}: names the file '{path}' outside of its folder; it is not trusted")
        yield path.as_posix(), str(entity["sha256"])
