"""Steps of a series in a folder: working images and links, each whole or absent, and done once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.core.progress import StageListener, ignore_events
from regflow.io.raster_names import find_local_file
from regflow.pipeline.series_samples import SeriesSample
from regflow.pipeline.step_folders import STEPS, compute_step_key, read_refusals

ALIGNED, JACOBIAN = "aligned", "jacobian"
_IMAGES, _LINKS = "images", "links"
_SOURCES = {"rasters": ("series_links", "warping"), "volumes": ("series_links", "apply", "series_change")}


@dataclass(frozen=True)
class SeriesJob:
    """What is aligned, where and how.

    Attributes:
        folder: of the results.
        kind: ``volumes`` or ``rasters``.
        samples: the images in order.
        settings: the complete configuration of the kind.
        threads: most threads to use.
        progress: is told of each step.
    """

    folder: Path
    kind: str
    samples: Sequence[SeriesSample]
    settings: Mapping[str, Any]
    threads: int = 1
    progress: StageListener = ignore_events

    @property
    def options(self) -> Mapping[str, Any]:
        """The section ``series`` of the configuration."""
        options: Mapping[str, Any] = self.settings["series"]
        return options

    @property
    def unit(self) -> str:
        """In which shifts, residuals and closures are told."""
        return "px" if self.kind == "rasters" else "mm"

    def find_image_folder(self, name: str) -> Path:
        """Return the folder of an image's working image."""
        return self.folder / STEPS / _IMAGES / name

    def find_link_folder(self, first: str, second: str) -> Path:
        """Return the folder of the link between two images."""
        return self.folder / STEPS / _LINKS / f"{first}--{second}"

    def find_product_folder(self, name: str) -> Path:
        """Return the folder of an aligned image."""
        return self.folder / ALIGNED / name

    def find_change_folder(self, name: str) -> Path:
        """Return the folder of how volume changed between the first session and another one."""
        return self.folder / JACOBIAN / name

    def list_prepared(self) -> list[str]:
        """Return the names of the images that could be read, in order."""
        unread = self.list_unread()
        return [sample.name for sample in self.samples if sample.name not in unread]

    def list_unread(self) -> dict[str, str]:
        """Return a sentence for each image that could not be read, by name."""
        return read_refusals({sample.name: self.find_image_folder(sample.name) for sample in self.samples})

    def make_key(self, *parts: Any) -> str:
        """Return a digest of what a step of the series is made from, and of the sources that compute it."""
        return compute_step_key(parts, _SOURCES[self.kind], self.kind)


def compute_content_sums(sample: SeriesSample) -> dict[str, str | None]:
    """Return the checksum of each of an image's files by part, or its address where it lies elsewhere.

    A file that is not there has None.
    """
    from regflow.core.files import compute_sha256

    sums: dict[str, str | None] = {}
    for part, name in sorted(sample.list_files().items()):
        file = find_local_file(name)
        if file is None:
            sums[part] = name
        else:
            # Pages of one file differ by their names alone.
            page = name.replace(str(file), "") if str(file) != name else ""
            sums[part] = page + compute_sha256(file) if file.exists() else None
    return sums
