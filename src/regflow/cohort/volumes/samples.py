"""A sample of volumes: one moving image, the fixed image it goes to, and what belongs to both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regflow.cohort.examples import resolve_example


@dataclass(frozen=True)
class FixedVolume:
    """A fixed image and what belongs to it; paths as the stages open them.

    Attributes:
        name: names its folder of results: the atlas's name, or the file's with a short hash.
        image: the volume.
        mask: where it may steer the registration.
        labels: label map.
        landmarks: the atlas's landmarks; a row's own are in :attr:`VolumeSample.fixed_landmarks`.
        modality: as stated in the configuration.
    """

    name: str
    image: str
    mask: str | None = None
    labels: str | None = None
    landmarks: str | None = None
    modality: str | None = None

    def list_files(self) -> dict[str, str]:
        """Return the files by their part: ``image``, ``mask`` ..."""
        return _given({name: getattr(self, name) for name in ("image", "mask", "labels", "landmarks")})


@dataclass(frozen=True)
class VolumeSample:
    """One moving image, the fixed image it goes to, and what belongs to both.

    The fields bear the names of the sheet's columns; paths are as the stages open them.

    Attributes:
        sample: the id; names every result.
        moving: the volume.
        fixed: where it goes.
        moving_mask: where it may steer the registration.
        moving_labels: label map that follows the transform.
        moving_landmarks: landmarks, partners of ``fixed_landmarks``.
        fixed_landmarks: the row's own, else the atlas's.
        companions: other volumes that follow the same transform, by name.
        modality: ``T1w``, ``CT`` ...; None when not stated.
        volume: index in a 4-D file, or number or UID of a DICOM series.
        group: any word, for comparisons in the report.
        session: any word.
        weight: in a template of the cohort.
        subject: whose image it is; None when not stated.
        truth: a known transform from fixed to moving points.
        entities: BIDS entities, empty for a sheet.
        series: name of the series over time that the image belongs to.
        derived: ``mask`` and ``labels`` that were found in the derivatives of a data set, not named.
    """

    sample: str
    moving: str
    fixed: FixedVolume
    moving_mask: str | None = None
    moving_labels: str | None = None
    moving_landmarks: str | None = None
    fixed_landmarks: str | None = None
    companions: dict[str, str] = field(default_factory=dict)
    modality: str | None = None
    volume: int | str | None = None
    group: str | None = None
    session: str | None = None
    weight: float = 1.0
    subject: str | None = None
    truth: str | None = None
    entities: dict[str, str] = field(default_factory=dict)
    series: str | None = None
    derived: frozenset[str] = frozenset()

    def list_files(self) -> dict[str, str]:
        """Return the moving side's files by their part: ``image``, ``mask``, ``companions.NAME`` ..."""
        parts = {
            "image": self.moving,
            "mask": self.moving_mask,
            "labels": self.moving_labels,
            "landmarks": self.moving_landmarks,
            "fixed_landmarks": self.fixed_landmarks,
            "truth": self.truth,
            **{f"companions.{name}": path for name, path in self.companions.items()},
        }
        return _given(parts)


def parse_atlas(config: Mapping[str, Any], name: str) -> FixedVolume:
    """Return an atlas of the configuration."""
    given = config["atlases"][name]
    parts = {part: given[part] and resolve_example(given[part]) for part in ("mask", "labels", "landmarks")}
    return FixedVolume(name, resolve_example(given["image"]), **parts, modality=given["modality"])


def _given(parts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: path for name, path in parts.items() if path is not None}
