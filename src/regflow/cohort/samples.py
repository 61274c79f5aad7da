"""The cohort: one sample per moving image, from a sheet or a BIDS data set.

Reading it is cheap and looks at no image file: Snakemake does it again for each job. Whether the
files exist and what they hold is found at ``ingest``, so that a missing one fails alone.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from regflow.core.files import is_existing_path, read_file_stamp

WILDCARD_MARKS = frozenset("{}<>")
"""Characters in which Snakemake sees a wildcard or a variable of a path."""
COMPRESSED = frozenset((".gz", ".mgz", ".jp2", ".zip"))
"""How the names of files end whose samples are compressed."""


FixedImage = TypeVar("FixedImage", bound="_HasName", covariant=True)


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


class _HasFixed(Protocol[FixedImage]):
    """What samples of all kinds have: an id, and a fixed image to go to."""

    @property
    def sample(self) -> str: ...

    @property
    def fixed(self) -> FixedImage: ...


def list_fixed_images(samples: Iterable[_HasFixed[FixedImage]]) -> dict[str, FixedImage]:
    """Return each fixed image of the cohort once, by name."""
    return {sample.fixed.name: sample.fixed for sample in samples}


def estimate_samples(name: str) -> int:
    """Return about how many samples an image has, by the size of its file, which is not opened.

    A sample is taken for two bytes, of a compressed file for one; the files of a folder for as large as one
    of them; a file elsewhere holds none.
    """
    from regflow.io.raster_names import find_local_file

    path = find_local_file(name)
    if path is None or not is_existing_path(path):
        return 0
    members = [Path(member) for member in os.scandir(path)] if path.is_dir() else [path]
    size = read_file_stamp(members[0])[0] * len(members) if members else 0
    return size if path.suffix in COMPRESSED else size // 2


def existing_local_files(files: Mapping[str, str]) -> list[str]:
    """Return the files on this machine that exist, for Snakemake to watch.

    A missing one is ingest's to tell, and stops no other sample. One elsewhere cannot be watched, nor one
    whose name holds what Snakemake takes for a wildcard.
    """
    from regflow.io.raster_names import find_local_file

    found = [
        path for path in map(find_local_file, files.values()) if path is not None and is_existing_path(path)
    ]
    return [str(path) for path in found if not set(str(path)) & WILDCARD_MARKS]
