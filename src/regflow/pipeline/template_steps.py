"""Steps of a template in a folder: each is whole or absent, and done once.

A step is a folder with a stamp of all that it was made from: files, settings, the steps before, and the
program's own sources. A step whose stamp is the wanted one is taken as it is, so that a build that was
stopped goes on where it was, and comes to the same bytes.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.core.files import compute_sha256, read_json, write_json, write_whole_directory
from regflow.core.progress import StageEvent, StageListener, ignore_events
from regflow.pipeline.template_samples import TemplateSample
from regflow.provenance.digests import compute_source_digest
from regflow.stages.volumes.template_mean import OPTIONS

log = logging.getLogger(__name__)

STAMP, ERROR = "stamp.json", "error.json"
STEPS = "steps"
_IMAGES, _START, _ROUNDS, _FITS, _MEAN = "images", "start", "rounds", "fits", "mean"
_SOURCES = ("template_mean", "template_fits", "template_images")


@dataclass(frozen=True)
class TemplateJob:
    """What is built, where and how.

    Attributes:
        folder: of the template.
        samples: its images.
        settings: the complete configuration of volumes.
        threads: most threads to use.
        progress: is told of each step.
        steps: the folder of the steps; ``steps`` in the template's when None.
    """

    folder: Path
    samples: Sequence[TemplateSample]
    settings: Mapping[str, Any]
    threads: int = 1
    progress: StageListener = ignore_events
    steps: Path | None = None

    @property
    def steps_folder(self) -> Path:
        """The folder of the steps."""
        return self.folder / STEPS if self.steps is None else self.steps

    @property
    def start_folder(self) -> Path:
        """The folder of what the first round registers to."""
        return self.steps_folder / _START

    @property
    def preprocess_settings(self) -> dict[str, Any]:
        """The section ``preprocess`` as the images are prepared by."""
        spacing = self.settings["template"]["spacing_mm"]
        return {**self.settings["preprocess"], **({} if spacing is None else {"spacing_mm": spacing})}

    @property
    def average_settings(self) -> dict[str, Any]:
        """How a round is averaged."""
        return {name: self.settings["template"][name] for name in OPTIONS}

    def find_image_folder(self, name: str) -> Path:
        """Return the folder of an image's working images."""
        return self.steps_folder / _IMAGES / name

    def find_fit_folder(self, number: int, name: str) -> Path:
        """Return the folder of an image's registration in a round."""
        return self.steps_folder / _ROUNDS / f"{number:02d}" / _FITS / name

    def find_mean_folder(self, number: int) -> Path:
        """Return the folder of a round's mean; before the first round that of the start."""
        if number == 0:
            return self.start_folder
        return self.steps_folder / _ROUNDS / f"{number:02d}" / _MEAN

    def list_prepared(self) -> list[str]:
        """Return the names of the images that could be read, in the order of what they were made from.

        The order does not depend on how the images were given.
        """
        folders = {sample.name: self.find_image_folder(sample.name) for sample in self.samples}
        found = {name: path for name, path in folders.items() if not (path / ERROR).is_file()}
        return sorted(found, key=lambda name: (read_key(found[name]), name))

    def list_unread(self) -> dict[str, str]:
        """Return a sentence for each image that could not be read, by name."""
        paths = {sample.name: self.find_image_folder(sample.name) / ERROR for sample in self.samples}
        return {name: str(read_json(path)["reason"]) for name, path in paths.items() if path.is_file()}


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


def make_key(*parts: Any) -> str:
    """Return a digest of anything that JSON can hold, and of the sources that a step is computed by."""
    sources = [compute_source_digest(f"stages.volumes.{module}", "volumes") for module in _SOURCES]
    text = json.dumps([*parts, sources], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def compute_file_sums(sample: TemplateSample) -> dict[str, str | None]:
    """Return the checksums of a sample's files by part; None for a file that is not there."""
    return {
        part: compute_sha256(path) if Path(path).exists() else None
        for part, path in sorted(sample.list_files().items())
    }
