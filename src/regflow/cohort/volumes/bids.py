"""BIDS data sets: the cohort from their file names, and BIDS-Derivatives names for the products.

Names are read by a small parser of our own, because Snakemake reads the cohort again for each job: pybids,
and snakebids upon it, index every file of a data set into a database first, which takes minutes for a
large one. What filters mean is theirs: null for an entity that a name must not have, ``*`` for any value.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.cohort.volumes.samples import FixedVolume, VolumeSample, parse_atlas
from regflow.core.errors import InputError
from regflow.core.names import find_nearest_name
from regflow.io.text_files import find_delimiter, read_text, split_rows

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
    "density": "den",
    "label": "label",
    "description": "desc",
}
"""Entities by the long name that filters may use, with the short one in file names."""

ENDINGS = (".nii.gz", ".nii")

ANY = "*"
"""In a filter: the name has the entity, with whatever value."""

_GRID = ("space", "res", "den")
"""Entities in which copies of one image differ that were resampled to several spaces."""
_FREE = ("desc", "label")
"""Entities in which a mask or label map may differ from its image."""
_OVERLAYS = {"mask": ("brain",), "dseg": ()}
"""Suffixes of what belongs to an image, and the descriptions of it that come first."""

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


def parse_name(name: str) -> tuple[dict[str, str], str] | None:
    """Return the entities and the suffix of an image's name; None when it is not one of BIDS."""
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    if ending is None:
        return None
    *pairs, suffix = name.removesuffix(ending).split("_")
    matches = [_PAIR.match(pair) for pair in pairs]
    if not pairs or not suffix.isalnum() or not all(matches):
        return None
    entities = {match[1]: match[2] for match in matches if match}
    return (entities, suffix) if len(entities) == len(pairs) else None


def find_samples(config: Mapping[str, Any]) -> list[VolumeSample]:
    """Return one sample per image that the ``bids`` section selects, in the order of their names.

    A mask (``..._desc-brain_mask`` or ``..._mask``) and a label map (``..._dseg``) of an image belong to
    it: beside it, or in ``derivatives/`` of the data set. The column ``group`` of ``participants.tsv``,
    where there is one, becomes the sample's group.

    Raises:
        InputError: no such data set, an unknown filter, nothing selected, or no fixed atlas; a file in two
            formats, an image in several spaces, or a mask in several pipelines, none of which is chosen.
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
    fixed, groups = parse_atlas(config, config["fixed"]), _groups(root)
    pipelines = _pipelines(root, settings["derivatives"])
    samples: list[VolumeSample] = []
    problems: list[str] = []
    suffixes: set[str] = set()
    for folder in _subject_files(root):
        suffixes |= {file.suffix for file in folder}
        chosen = [file for file in folder if file.suffix in settings["suffix"] and _matches(file, filters)]
        problems += [] if "space" in filters else _in_several_spaces(root, chosen)
        for file in chosen:
            parts = _overlays(file, folder, pipelines, problems)
            samples.append(_sample(file, folder, fixed, settings, groups, parts))
            problems += _in_two_formats(samples[-1], folder)
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    if not samples:
        raise InputError(_nothing_selected(root, settings, suffixes))
    return samples


def _nothing_selected(root: Path, settings: Mapping[str, Any], suffixes: set[str]) -> str:
    wanted = settings["suffix"][0]
    if wanted in suffixes:
        advice = "; correct 'bids.filters', where null (without quotes) means files without the entity"
    elif suffixes:
        advice = f"; did you mean '{find_nearest_name(wanted, suffixes)}'?"
    else:
        advice = "; is it the root of a data set?"
    return f"{root}: no image with suffix {' or '.join(settings['suffix'])} and these filters{advice}"


def _in_several_spaces(root: Path, chosen: Iterable[BidsFile]) -> Iterator[str]:
    """Tell of images that are there in several spaces: an anatomy of one subject would count twice."""
    spaces: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for file in chosen:
        own = tuple(pair for pair in file.entities.items() if pair[0] not in _GRID)
        spaces[own, file.suffix].append(file.entities.get("space", "its own"))
    for (own, suffix), found in spaces.items():
        if len(set(found)) > 1:
            name = "_".join([*map("-".join, own), suffix])
            yield (
                f"{root}: {name} is there in several spaces ({', '.join(sorted(set(found)))}); choose with "
                "'bids.filters': {space: null} takes the image in its own"
            )


def _in_two_formats(sample: VolumeSample, folder: Iterable[BidsFile]) -> Iterator[str]:
    """Tell of files that are there compressed and uncompressed: which of them holds is unknown."""
    there = {file.path for file in folder}
    for path in sample.list_files().values():
        plain = path.removesuffix(".gz")
        if {plain, f"{plain}.gz"} <= there:
            yield f"{plain}: is there as {Path(plain).name}.gz, too; remove one of the two"


def _subject_files(root: Path) -> Iterator[list[BidsFile]]:
    """Yield the images of each session, and those of each subject that belong to no session."""
    for subject in _folders(root, "sub-"):
        for session in (*_folders(subject, "ses-"), subject):
            datatypes = [folder for folder in _folders(session) if not folder.name.startswith("ses-")]
            files = [file for datatype in datatypes for file in _images(root, datatype)]
            yield sorted(files, key=lambda file: file.path)


def _folders(path: Path, prefix: str = "") -> list[Path]:
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
    return [path / name for name in names if name not in _SKIPPED]


def _images(root: Path, folder: Path) -> Iterator[BidsFile]:
    below = folder.relative_to(root).as_posix()
    with os.scandir(folder) as entries:
        for entry in entries:
            parsed = parse_name(entry.name)
            if parsed is not None:
                yield BidsFile(entry.path, below, *parsed)


def _filters(given: Mapping[str, Any]) -> dict[str, list[str | None]]:
    known = {**{short: short for short in ENTITIES.values()}, **ENTITIES}
    for name in given:
        if name not in known:
            raise InputError(
                f"bids.filters: unknown entity '{name}'; did you mean '{find_nearest_name(name, known)}'?"
            )
    listed = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    return {
        known[name]: [None if value in (None, "") else str(value) for value in values]
        for name, values in listed.items()
    }


def _matches(file: BidsFile, filters: Mapping[str, Iterable[str | None]]) -> bool:
    return all(
        any(_allowed(key, file.entities.get(key), value) for value in values)
        for key, values in filters.items()
    )


def _allowed(key: str, value: str | None, wanted: str | None) -> bool:
    if value is None or wanted is None:
        return value is wanted
    return wanted == ANY or _same(key, value, wanted)


def _same(key: str, value: str, wanted: str) -> bool:
    wanted = wanted.removeprefix(f"{key}-")
    return value == wanted or (value.isdigit() and wanted.isdigit() and int(value) == int(wanted))


def _sample(
    file: BidsFile,
    beside: list[BidsFile],
    fixed: FixedVolume,
    settings: Mapping[str, Any],
    groups: Mapping[str, str],
    overlays: Mapping[str, tuple[str, bool]],
) -> VolumeSample:
    return VolumeSample(
        sample=f"{file.stem}_{file.suffix}",
        moving=file.path,
        fixed=fixed,
        moving_mask=overlays["mask"][0] if "mask" in overlays else None,
        moving_labels=overlays["labels"][0] if "labels" in overlays else None,
        companions={
            f"{other.stem}_{other.suffix}": other.path
            for other in beside
            if other.suffix in settings["companions"] and other is not file and _one_space(other, file)
        },
        modality=file.suffix,
        volume=settings["volume"],
        group=groups.get(f"sub-{file.entities.get('sub')}"),
        session=file.entities.get("ses"),
        subject=file.entities.get("sub"),
        entities={**file.entities, "suffix": file.suffix, "folder": file.folder},
        derived=frozenset(part for part, (_, derived) in overlays.items() if derived),
    )


def _one_space(one: BidsFile, other: BidsFile) -> bool:
    return one.entities.get("space") == other.entities.get("space")


def _pipelines(root: Path, named: Sequence[str] | None) -> list[Path]:
    """Return the folders in which masks and label maps are looked for, beside the data set's own."""
    below = root / "derivatives"
    if named is None:
        return [below, *_folders(below)] if below.is_dir() else []
    folders = [next((path for path in (below / name, Path(name)) if path.is_dir()), None) for name in named]
    for name, folder in zip(named, folders, strict=True):
        if folder is None:
            raise InputError(f"bids.derivatives: there is no folder '{name}', nor {below / name}; correct it")
    return [folder for folder in folders if folder is not None]


def _overlays(
    file: BidsFile, beside: list[BidsFile], pipelines: Iterable[Path], problems: list[str]
) -> dict[str, tuple[str, bool]]:
    """Return an image's ``mask`` and ``labels``: beside it, else of a pipeline, which the second tells."""
    folders = [(root, root / file.folder) for root in pipelines]
    derived = [list(_images(root, folder)) for root, folder in folders if folder.is_dir()]
    found: dict[str, tuple[str, bool]] = {}
    for part, suffix in (("mask", "mask"), ("labels", "dseg")):
        own = _overlay(file, beside, suffix)
        others = [path for path in (_overlay(file, files, suffix) for files in derived) if path]
        if own is not None:
            found[part] = (own, False)
        elif others:
            found[part] = (others[0], True)
        if own is None and len(others) > 1:
            problems.append(
                f"{file.path}: {' and '.join(others)} may both belong to it; name the folder that counts in "
                "'bids.derivatives'"
            )
    return found


def _overlay(file: BidsFile, candidates: Iterable[BidsFile], suffix: str) -> str | None:
    """Return the mask or label map with the image's entities, the usual description first.

    A single label map may have any description, as ``desc-aseg``; a mask may not, because there are masks
    of lesions and tissues, too.
    """
    fitting = [other for other in candidates if other.suffix == suffix and _belongs(other, file)]
    for description in (*_OVERLAYS[suffix], None, file.entities.get("desc")):
        for other in fitting:
            if other.entities.get("desc") == description and "label" not in other.entities:
                return other.path
    return fitting[0].path if suffix == "dseg" and len(fitting) == 1 else None


def _belongs(other: BidsFile, file: BidsFile) -> bool:
    """Tell whether two files are of one image, on its own grid as far as names tell."""
    kept = [{k: v for k, v in one.entities.items() if k not in _FREE} for one in (other, file)]
    if "space" not in kept[1] and kept[0].get("space") in ("orig", file.suffix):
        del kept[0]["space"]
    return kept[0] == kept[1]


def _groups(root: Path) -> dict[str, str]:
    """Return the column ``group`` of ``participants.tsv`` by ``sub-01``."""
    path = root / "participants.tsv"
    if not path.is_file():
        return {}
    text = read_text(path, "save it as TSV in UTF-8")
    header, *rows = [row.cells for row in split_rows(path, text, find_delimiter(text))] or [[]]
    if "group" not in header:
        return {}
    if "participant_id" not in header:
        raise InputError(f"{path}: has no column 'participant_id'; name its first column so")
    group, subject = header.index("group"), header.index("participant_id")
    return {
        f"sub-{cells[subject].removeprefix('sub-')}": cells[group]
        for cells in rows
        if len(cells) > max(group, subject) and cells[group] not in ("", "n/a")
    }
