"""BIDS data sets: the cohort from their file names, and BIDS-Derivatives names for the products.

Names are read by a small parser of our own, because Snakemake reads the cohort again for each job.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError
from regflow.core.names import nearest
from regflow.samples import Fixed, Sample, atlas

ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "sample": "sample",
    "task": "task",
    "tracer": "trc",
    "staining": "stain",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "modality": "mod",
    "echo": "echo",
    "flip": "flip",
    "inversion": "inv",
    "part": "part",
    "space": "space",
    "resolution": "res",
    "label": "label",
    "description": "desc",
}
"""Entities by the long name that filters may use, with the short one in file names."""

ENDINGS = (".nii.gz", ".nii")

_PAIR = re.compile(r"^([A-Za-z0-9]+)-([A-Za-z0-9+]+)$")
_SKIPPED = frozenset({"derivatives", "sourcedata", "code"})


@dataclass(frozen=True)
class BidsFile:
    """An image of a data set.

    Attributes:
        path: the file.
        folder: its folder below the root, as ``sub-01/ses-1/anat``.
        entities: short names and values in the order of the name, without the suffix.
        suffix: ``T1w``, ``dseg`` ...
    """

    path: str
    folder: str
    entities: dict[str, str]
    suffix: str

    @property
    def stem(self) -> str:
        """The name without suffix and ending, ``sub-01_ses-1_run-1``."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items())


def parse(name: str) -> tuple[dict[str, str], str] | None:
    """Return the entities and the suffix of an image's name; None when it is not one of BIDS."""
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    if ending is None:
        return None
    *pairs, suffix = name.removesuffix(ending).split("_")
    matches = [_PAIR.match(pair) for pair in pairs]
    if not pairs or not suffix.isalnum() or not all(matches):
        return None
    return {match[1]: match[2] for match in matches if match}, suffix


def find_samples(config: Mapping[str, Any]) -> list[Sample]:
    """Return one sample per image that the ``bids`` section selects, in the order of their names.

    A mask (``..._desc-brain_mask`` or ``..._mask``) and a label map (``..._dseg``) with the same
    entities beside an image belong to it. The column ``group`` of ``participants.tsv``, where there
    is one, becomes the sample's group.

    Raises:
        InputError: no such data set, an unknown filter, nothing selected, or no fixed atlas.
    """
    settings = config["bids"]
    root = Path(settings["path"])
    if not root.is_dir():
        raise InputError(
            f"{root}: this BIDS data set does not exist; correct 'bids.path' in the configuration"
        )
    if config["fixed"] is None:
        raise InputError("with 'bids' every image goes to one atlas; set 'fixed' in the configuration")
    filters = _filters(settings["filters"])
    fixed, groups = atlas(config, config["fixed"]), _groups(root)
    samples: list[Sample] = []
    suffixes: set[str] = set()
    for folder in _subject_files(root):
        suffixes |= {file.suffix for file in folder}
        chosen = [file for file in folder if file.suffix in settings["suffix"] and _matches(file, filters)]
        samples += [_sample(file, folder, fixed, settings, groups) for file in chosen]
    if not samples:
        wanted = settings["suffix"][0]
        near = (
            f"; did you mean '{nearest(wanted, suffixes)}'?"
            if suffixes
            else "; is it the root of a data set?"
        )
        raise InputError(
            f"{root}: no image with suffix {' or '.join(settings['suffix'])} and these filters{near}"
        )
    return samples


def _subject_files(root: Path) -> Iterator[list[BidsFile]]:
    """Yield the images of each session, or of each subject without sessions."""
    for subject in _folders(root, "sub-"):
        sessions = _folders(subject, "ses-") or [subject]
        for session in sessions:
            files = [file for datatype in _folders(session) for file in _images(root, datatype)]
            yield sorted(files, key=lambda file: file.path)


def _folders(path: Path, prefix: str = "") -> list[Path]:
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
    return [path / name for name in names if name not in _SKIPPED]


def _images(root: Path, folder: Path) -> Iterator[BidsFile]:
    below = folder.relative_to(root).as_posix()
    with os.scandir(folder) as entries:
        for entry in entries:
            parsed = parse(entry.name)
            if parsed is not None:
                yield BidsFile(entry.path, below, *parsed)


def _filters(given: Mapping[str, Any]) -> dict[str, list[str]]:
    known = {**{short: short for short in ENTITIES.values()}, **ENTITIES}
    for name in given:
        if name not in known:
            raise InputError(f"bids.filters: unknown entity '{name}'; did you mean '{nearest(name, known)}'?")
    return {known[name]: [value] if isinstance(value, str) else list(value) for name, value in given.items()}


def _matches(file: BidsFile, filters: Mapping[str, Iterable[str]]) -> bool:
    return all(
        key in file.entities and any(_same(key, file.entities[key], value) for value in values)
        for key, values in filters.items()
    )


def _same(key: str, value: str, wanted: str) -> bool:
    wanted = wanted.removeprefix(f"{key}-")
    return value == wanted or (value.isdigit() and wanted.isdigit() and int(value) == int(wanted))


def _sample(
    file: BidsFile,
    beside: list[BidsFile],
    fixed: Fixed,
    settings: Mapping[str, Any],
    groups: Mapping[str, str],
) -> Sample:
    return Sample(
        sample=f"{file.stem}_{file.suffix}",
        moving=file.path,
        fixed=fixed,
        moving_mask=_overlay(file, beside, "mask", "brain"),
        moving_labels=_overlay(file, beside, "dseg", None),
        companions={
            f"{other.stem}_{other.suffix}": other.path
            for other in beside
            if other.suffix in settings["companions"] and other is not file
        },
        modality=file.suffix,
        volume=settings["volume"],
        group=groups.get(f"sub-{file.entities.get('sub')}"),
        session=file.entities.get("ses"),
        entities={**file.entities, "suffix": file.suffix, "folder": file.folder},
    )


def _overlay(file: BidsFile, beside: list[BidsFile], suffix: str, description: str | None) -> str | None:
    """Return the mask or label map with the image's entities, the described one first."""
    described = {**file.entities, "desc": description}
    for entities in (described, file.entities):
        for other in beside:
            if other.suffix == suffix and other.entities == entities:
                return other.path
    return None


def _groups(root: Path) -> dict[str, str]:
    path = root / "participants.tsv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        return {
            row["participant_id"]: row["group"]
            for row in rows
            if row.get("participant_id") and row.get("group") not in (None, "", "n/a")
        }
