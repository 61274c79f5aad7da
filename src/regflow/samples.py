"""The cohort: one sample per moving image, from a sheet or a BIDS data set.

Reading it is cheap and looks at no image file: Snakemake does it again for each job. Whether the
files exist and what they hold is found at ``ingest``, so that a missing one fails alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from regflow.core.errors import InputError
from regflow.core.files import is_there
from regflow.core.names import nearest
from regflow.realdata import RASTERS, SOURCES
from regflow.realdata import locate as locate_example

if TYPE_CHECKING:
    from regflow.raster_samples import RasterSample

EXAMPLE = "example:"
"""Start of a path that names a real volume of an installed package, as in ``example:mni2009c``."""


WILDCARD_MARKS = frozenset("{}<>")
"""Characters in which Snakemake sees a wildcard or a variable of a path."""

STATED = ("group", "session", "modality")
"""What the sheet of volumes says of a sample beside its files."""

FixedImage = TypeVar("FixedImage", bound="_Named", covariant=True)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _Goes(Protocol[FixedImage]):
    """What samples of all kinds have: an id, and a fixed image to go to."""

    @property
    def sample(self) -> str: ...

    @property
    def fixed(self) -> FixedImage: ...


@dataclass(frozen=True)
class Fixed:
    """A fixed image and what belongs to it; paths as the stages open them.

    Attributes:
        name: names its folder of results: the atlas's name, or the file's with a short hash.
        image: the volume.
        mask: where it may steer the registration.
        labels: label map.
        landmarks: the atlas's landmarks; a row's own are in :attr:`Sample.fixed_landmarks`.
        modality: as stated in the configuration.
    """

    name: str
    image: str
    mask: str | None = None
    labels: str | None = None
    landmarks: str | None = None
    modality: str | None = None

    def files(self) -> dict[str, str]:
        """Return the files by their part: ``image``, ``mask`` ..."""
        return _given({name: getattr(self, name) for name in ("image", "mask", "labels", "landmarks")})


@dataclass(frozen=True)
class Sample:
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
        truth: a known transform from fixed to moving points.
        entities: BIDS entities, empty for a sheet.
        derived: ``mask`` and ``labels`` that were found in the derivatives of a data set, not named.
    """

    sample: str
    moving: str
    fixed: Fixed
    moving_mask: str | None = None
    moving_labels: str | None = None
    moving_landmarks: str | None = None
    fixed_landmarks: str | None = None
    companions: dict[str, str] = field(default_factory=dict)
    modality: str | None = None
    volume: int | str | None = None
    group: str | None = None
    session: str | None = None
    truth: str | None = None
    entities: dict[str, str] = field(default_factory=dict)
    derived: frozenset[str] = frozenset()

    def files(self) -> dict[str, str]:
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


def read_samples(config: Mapping[str, Any]) -> list[Sample]:
    """Return the cohort of a complete configuration, in the sheet's order.

    A relative path in a sheet is looked up from the sheet's folder; where the path's first folder
    is not there, from the working directory. Paths in the configuration count from the latter.

    Raises:
        InputError: one sentence for each problem of the sheet, one to a line: unknown columns
            (the nearest valid one is named), bad or repeated ids, unknown atlases, bad cells.
    """
    if config["bids"] is not None:
        from regflow.bids import find_samples

        return find_samples(config)
    from regflow.sheet import Sheet

    return Sheet(Path(config["samples"]), config).read()


def read_cohort(config: Mapping[str, Any]) -> "list[Sample] | list[RasterSample]":
    """Return the cohort of a complete configuration of either kind, in the sheet's order.

    Raises:
        InputError: one sentence for each problem, one to a line.
    """
    if config["kind"] == "rasters":
        from regflow.raster_samples import read_raster_samples

        return read_raster_samples(config)
    return read_samples(config)


def fixed_images(samples: Iterable[_Goes[FixedImage]]) -> dict[str, FixedImage]:
    """Return each fixed image of the cohort once, by name."""
    return {sample.fixed.name: sample.fixed for sample in samples}


def stated(kind: str) -> tuple[str, ...]:
    """Return what the sheet of a kind says of a sample beside its files."""
    if kind == "rasters":
        from regflow.raster_samples import STATED as OF_RASTERS

        return OF_RASTERS
    return STATED


def earlier_dates(config: Mapping[str, Any], samples: Iterable[Any]) -> dict[str, str | None]:
    """Return the sample before each one whose changes are wanted, None for the fixed scene.

    Raises:
        InputError: changes from date to date are wanted, and only some samples have a date.
    """
    if config["kind"] != "rasters" or config["detect"]["method"] is None:
        return {}
    from regflow.raster_samples import predecessors

    return predecessors(samples, config["detect"]["pairs"])


def in_batches(names: Iterable[str], size: int) -> dict[str, list[str]]:
    """Divide samples, in their order, into batches of ``size``; the last may be smaller."""
    ordered = list(names)
    starts = range(0, len(ordered), size)
    return {f"{number:04d}": ordered[first : first + size] for number, first in enumerate(starts, start=1)}


def there(files: Mapping[str, str]) -> list[str]:
    """Return the files on this machine that exist, for Snakemake to watch.

    A missing one is ingest's to tell, and stops no other sample. One elsewhere cannot be watched, nor one
    whose name holds what Snakemake takes for a wildcard.
    """
    from regflow.core.io.raster_names import local_file

    found = [path for path in map(local_file, files.values()) if path is not None and is_there(path)]
    return [str(path) for path in found if not set(str(path)) & WILDCARD_MARKS]


def described(
    samples: Iterable[_Goes[_Named]], words: Sequence[str] = STATED
) -> dict[str, dict[str, str | None]]:
    """Return what the sheet says of each sample beside its files, by id."""
    return {
        sample.sample: {"fixed": sample.fixed.name, **{key: getattr(sample, key) for key in words}}
        for sample in samples
    }


def atlas(config: Mapping[str, Any], name: str) -> Fixed:
    """Return an atlas of the configuration."""
    given = config["atlases"][name]
    parts = {part: given[part] and resolve_example(given[part]) for part in ("mask", "labels", "landmarks")}
    return Fixed(name, resolve_example(given["image"]), **parts, modality=given["modality"])


def resolve_example(text: str) -> str:
    """Return the path behind ``example:NAME``; any other text as it is.

    Raises:
        InputError: there is no such example, or its package is not installed.
    """
    if not text.startswith(EXAMPLE):
        return text
    name = text.removeprefix(EXAMPLE)
    known = {**SOURCES, **RASTERS}
    if name not in known:
        raise InputError(f"'{text}' is not known; did you mean '{EXAMPLE}{nearest(name, known)}'?")
    path = locate_example(name)
    if path is None:
        package = known[name].package
        raise InputError(
            f"'{text}' is part of the package {package}; install that, or give a file of your own"
        )
    return str(path)


def _given(parts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: path for name, path in parts.items() if path is not None}
