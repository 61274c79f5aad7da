"""Files that are whole or absent, their checksums, and JSON side-cars."""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.addresses import redact_text

_CHECKSUM_BLOCK_BYTES = 1 << 20
_POINTER_BYTES = 1024
"""Pointers in place of a file's content are no longer than this."""
_UNFETCHED_ANNEX = "its content has not been fetched; run 'datalad get' or 'git annex get' on it"
_RANDOM_NAME = "[a-z0-9_]{8}"
"""What tempfile adds to a prefix; so the leftovers of ``a`` are told from those of ``a-b``."""


@contextmanager
def write_whole(target: str | Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write; rename it to ``target`` if the block succeeds.

    The yielded name keeps the target's suffixes, because writers choose formats by them. When the
    block raises, nothing is left: neither a half-written target nor the working file.
    """
    target = Path(target)
    folder = _working_folder(target)
    try:
        part = folder / target.name
        yield part
        part.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def write_whole_directory(target: str | Path) -> Iterator[Path]:
    """Yield an empty directory to fill; rename it to ``target`` if the block succeeds.

    An existing ``target`` is replaced as a whole. When the block raises, ``target`` stays as it
    was and the working directory is removed.
    """
    target = Path(target)
    part = _working_folder(target)
    try:
        part.chmod(0o777 & ~_umask())
        yield part
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def describe_absence(path: str | Path) -> str | None:
    """Tell why a file has no content here, in words to be put after its name; None when it has.

    A data set kept by git-annex (DataLad) or Git LFS holds links or small pointers in place of files whose
    content has not been fetched.
    """
    path = Path(path)
    if not is_existing_path(path):
        return _dangling_link(path) or "this file does not exist; correct the path"
    if path.is_file() and path.stat().st_size <= _POINTER_BYTES:
        start = path.read_bytes()
        if start.startswith(b"/annex/objects/"):
            return _UNFETCHED_ANNEX
        if start.startswith(b"version https://git-lfs.github.com/spec/"):
            return "its content has not been fetched; run 'git lfs pull' in its folder"
    return None


def _dangling_link(path: Path) -> str | None:
    """Tell where a link leads that leads nowhere; None for what is no link."""
    try:
        target = path.readlink()
    except (OSError, ValueError):
        return None
    if "annex/objects" in target.as_posix():
        return _UNFETCHED_ANNEX
    return f"this is a link to '{target}', which does not exist; correct the link"


def is_existing_path(path: str | Path) -> bool:
    """Tell whether a path exists; one that no file system can hold does not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; a copy where the file system has no links, or is another one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def compute_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files in name order, as a hex string."""
    path = Path(path)
    digest = hashlib.sha256()
    members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for member in members:
        with member.open("rb") as stream:
            while block := stream.read(_CHECKSUM_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def list_visible_files(folder: str | Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, but for what is hidden, in order."""
    for place, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name[0] != ".")
        yield from (Path(place, name) for name in sorted(files) if name[0] != ".")


def list_checksums(folder: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder, but for hidden ones, by its path in there."""
    root = Path(folder)
    return {path.relative_to(root).as_posix(): compute_sha256(path) for path in list_visible_files(root)}


def read_file_stamp(path: str | Path) -> list[int]:
    """Return size in bytes and time of change of a file, by which most changes are told without reading it.

    A folder has those of all its files: their sum, and the latest. -1 and -1 where there is nothing.
    """
    path = Path(path)
    try:
        members = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        found = [member.stat() for member in members]
    except (OSError, ValueError):
        return [-1, -1]
    return [sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=-1)]


def stamp_file(name: str | Path) -> tuple[int, int, int] | None:
    """Return what changes when a local file does, or is replaced; None for a file elsewhere."""
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as readable JSON, whole or not at all.

    Numpy scalars and arrays become numbers and lists, paths become strings, values that are not
    finite become null, because JSON has no word for them, and addresses lose their secrets.
    """
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    with write_whole(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, (str, Path)):
        return redact_text(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _working_folder(target: Path) -> Path:
    """Make a folder beside ``target``, after removing those that killed writers of it left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".part-{target.name}-"
    left = re.compile(re.escape(prefix) + _RANDOM_NAME)
    for entry in target.parent.iterdir():
        if left.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
