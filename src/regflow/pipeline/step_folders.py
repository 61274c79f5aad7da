"""Steps of a build in a folder: each is whole or absent, and done once.

A step is a folder with a stamp of all that it was made from: files, settings, the steps before, and the
program's own sources. A step whose stamp is the wanted one is taken as it is, so that a build that was
stopped goes on where it was, and comes to the same bytes.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regflow.core.files import read_json, write_json, write_whole_directory
from regflow.core.progress import StageEvent, StageListener
from regflow.provenance.digests import compute_source_digest

log = logging.getLogger(__name__)

STAMP, ERROR = "stamp.json", "error.json"
STEPS = "steps"


def run_step(
    target: Path, key: str, title: str, progress: StageListener, work: Callable[[Path], Any]
) -> None:
    """Do a step, unless its folder says that it is done.

    Args:
        target: its folder.
        key: of all that it is made from.
        title: for the progress.
        progress: is told.
        work: fills the folder.
    """
    progress(StageEvent(title, "begun"))
    if read_key(target) != key:
        log.info("%s", title)
        with write_whole_directory(target) as folder:
            work(folder)
            write_json(folder / STAMP, {"key": key})
    progress(StageEvent(title, "ended"))


def read_key(folder: Path) -> str:
    """Return the key of a step that is done, empty where it is not."""
    stamp = folder / STAMP
    return str(read_json(stamp)["key"]) if stamp.is_file() else ""


def compute_step_key(parts: Sequence[Any], modules: Sequence[str], kind: str) -> str:
    """Return a digest of anything that JSON can hold, and of the sources that a step is computed by.

    Args:
        parts: what the step is made from.
        modules: of the kind's stages, that compute it.
        kind: ``volumes`` or ``rasters``.
    """
    sources = [compute_source_digest(f"stages.{kind}.{module}", kind) for module in modules]
    text = json.dumps([*parts, sources], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_refusals(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return a sentence for each image that could not be read, by name.

    Args:
        folders: of the working images, by name.
    """
    paths = {name: folder / ERROR for name, folder in folders.items()}
    return {name: str(read_json(path)["reason"]) for name, path in paths.items() if path.is_file()}
