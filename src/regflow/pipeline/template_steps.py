"""Steps of a template in a folder: where its images, registrations and means lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.core.files import compute_sha256
from regflow.core.progress import StageListener, ignore_events
from regflow.pipeline.step_folders import STEPS, compute_step_key, read_key, read_refusals
from regflow.pipeline.template_samples import TemplateSample
from regflow.stages.volumes.template_mean import OPTIONS

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
        found = self._find_image_folders()
        unread = read_refusals(found)
        return sorted(found.keys() - unread.keys(), key=lambda name: (read_key(found[name]), name))

    def list_unread(self) -> dict[str, str]:
        """Return a sentence for each image that could not be read, by name."""
        return read_refusals(self._find_image_folders())

    def _find_image_folders(self) -> dict[str, Path]:
        return {sample.name: self.find_image_folder(sample.name) for sample in self.samples}


def make_key(*parts: Any) -> str:
    """Return a digest of what a step of a template is made from, and of the sources that compute it."""
    return compute_step_key(parts, _SOURCES, "volumes")


def compute_file_sums(sample: TemplateSample) -> dict[str, str | None]:
    """Return the checksums of a sample's files by part; None for a file that is not there."""
    return {
        part: compute_sha256(path) if Path(path).exists() else None
        for part, path in sorted(sample.list_files().items())
    }
