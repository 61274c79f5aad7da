"""The cohort: one sample per moving image, from a sheet or a BIDS data set.

Reading it is cheap and looks at no image file: Snakemake does it again for each job. Whether the
files exist and what they hold is found at ``ingest``, so that a missing one fails alone.
"""

from collections.abc import Iterable, Mapping
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


def estimate_samples(files: Iterable[str]) -> int:
    """Return about how many samples images have, by the sizes of their files, which are not opened.

    A sample is taken for two bytes, of a compressed file for one; a file elsewhere for none.
    """
    from regflow.io.raster_names import find_local_file

    found = [path for path in map(find_local_file, files) if path is not None]
    sizes = [(max(0, read_file_stamp(path)[0]), path.suffix in COMPRESSED) for path in found]
    return sum(size if compressed else size // 2 for size, compressed in sizes)


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
