"""The images of a template: as a sheet or a list names them, with their weights and further channels."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from regflow.cohort.examples import resolve_example
from regflow.cohort.table import Table
from regflow.core.errors import InputError
from regflow.core.json_schema import define_table_row
from regflow.core.names import SAFE

COLUMNS = {
    "sample": "id of the row: letters, digits, '.', '_', '+' and '-'",
    "moving": "the image",
    "moving_mask": "mask on the image's grid, where it may steer",
    "companions": "further channels of the same world: 'T2w=path;FLAIR=path'",
    "modality": "T1w, T2w ...: one for all images",
    "weight": "in the mean, 1 when empty",
    "subject": "whose image it is: images of one subject first make a template of their own",
}
SUFFIXES = (".tsv", ".csv")
_NUMBER = r"^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$"
_PAIRS = r"^[^=;]+=[^=;]+(;[^=;]+=[^=;]+)*;?$"
FEWEST = 2
MIRRORED = "_mirrored"
"""What the names of mirrored images end in."""


@dataclass(frozen=True)
class TemplateSample:
    """One image of a template.

    Attributes:
        name: names its files.
        image: its file; the channel that drives the registration.
        mask: where it may steer.
        channels: files of further channels by name.
        weight: in the mean, above 0.
        subject: whose image it is; None where that does not matter.
        modality: of the image.
        mirrored: left and right are turned around.
    """

    name: str
    image: str
    mask: str | None = None
    channels: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    subject: str | None = None
    modality: str | None = None
    mirrored: bool = False

    def list_files(self) -> dict[str, str]:
        """Return the files by their part: ``image``, ``mask``, ``channels.NAME``."""
        parts = {"image": self.image, **({"mask": self.mask} if self.mask else {})}
        return {**parts, **{f"channels.{name}": path for name, path in self.channels.items()}}


def read_template_samples(
    images: Sequence[str], weights: Sequence[float] | None = None
) -> list[TemplateSample]:
    """Return the images of a list of files, or of one sheet.

    Args:
        images: files, or one sheet with the columns :data:`COLUMNS`.
        weights: one for each file; all 1 when None.

    Raises:
        InputError: a sheet has problems, a weight is not above 0, or there are not as many as images.
    """
    if len(images) == 1 and images[0].lower().endswith(SUFFIXES):
        if weights is not None:
            raise InputError(f"{images[0]}: weights of a sheet stand in its column 'weight'")
        return check_template_samples(_read_sheet(images[0]))
    if weights is not None and len(weights) != len(images):
        raise InputError(f"there are {len(weights)} weights for {len(images)} images; give one for each")
    names = choose_names(images)
    given = [1.0] * len(images) if weights is None else list(weights)
    return check_template_samples(
        TemplateSample(name, resolve_example(path), weight=float(weight))
        for name, path, weight in zip(names, images, given, strict=True)
    )


def choose_names(images: Sequence[str]) -> list[str]:
    """Return a name for each file: its own without ending, with its folder's where two would be alike."""
    stems = [_clean(re.split(r"\.nii|\.[^.]*$", Path(path).name)[0]) for path in images]
    many = Counter(stems)
    named = [
        _clean(f"{Path(path).parent.name}-{stem}") if many[stem] > 1 else stem
        for stem, path in zip(stems, images, strict=True)
    ]
    counts = Counter(named)
    return [f"{name}-{number + 1}" if counts[name] > 1 else name for number, name in enumerate(named)]


def check_template_samples(samples: Iterable[TemplateSample]) -> list[TemplateSample]:
    """Return samples of which a template can be made.

    Raises:
        InputError: there are fewer than two, a weight is not above 0, or they contradict one another:
            two modalities, or other channels.
    """
    found = list(samples)
    if len(found) < FEWEST:
        raise InputError(f"a template needs {FEWEST} images, and {len(found)} is given; name more")
    for sample in found:
        if not sample.weight > 0:
            raise InputError(f"{sample.name}: its weight is {sample.weight:g}; give a number above 0")
    first: dict[str, TemplateSample] = {}
    for sample in found:
        if sample.modality is not None:
            first.setdefault(sample.modality, sample)
    if len(first) > 1:
        (one, a), (other, b), *_ = first.items()
        raise InputError(
            f"{a.name} is {one} and {b.name} is {other}: a template is of one modality; leave one out, or "
            "give it as a channel of the other"
        )
    for sample in found:
        if set(sample.channels) != set(found[0].channels):
            told = [", ".join(sorted(each.channels)) or "no others" for each in (found[0], sample)]
            raise InputError(
                f"{found[0].name} has the channels {told[0]}, but {sample.name} {told[1]}; give all the same"
            )
    return found


def add_mirrored(samples: Sequence[TemplateSample], settings: Mapping[str, Any]) -> list[TemplateSample]:
    """Return samples, and where the template is to be symmetric each a second time, mirrored.

    Args:
        samples: the images.
        settings: the section ``template`` of the configuration.

    Raises:
        InputError: a start is given, too, which is not symmetric.
    """
    if not settings["symmetric"]:
        return list(samples)
    if settings["start"] is not None:
        raise InputError(
            "template.start and template.symmetric: a given start is not symmetric; leave one out"
        )
    mirrored = [replace(sample, name=f"{sample.name}{MIRRORED}", mirrored=True) for sample in samples]
    return [*samples, *mirrored]


def split_subjects(samples: Iterable[TemplateSample]) -> dict[str, list[TemplateSample]]:
    """Return the samples of each subject that has several, by subject."""
    found: dict[str, list[TemplateSample]] = {}
    for sample in samples:
        if sample.subject is not None:
            found.setdefault(sample.subject, []).append(replace(sample, subject=None))
    return {name: members for name, members in found.items() if len(members) > 1}


def _read_sheet(path: str) -> list[TemplateSample]:
    schema = define_table_row(
        "one image of a template",
        COLUMNS,
        ("sample", "moving"),
        {"sample": SAFE, "subject": SAFE, "weight": _NUMBER, "companions": _PAIRS},
    )
    forms = {
        "weight": "a number",
        "subject": "letters, digits, '.', '_', '+' and '-'",
        "companions": "NAME=PATH;NAME=PATH",
    }
    table = Table(Path(path), schema, forms)

    def locate(text: str | None) -> str | None:
        return None if text is None else table.resolve_path(resolve_example(text))

    def make(line: int, row: dict[str, str]) -> TemplateSample | None:
        if any(name not in row for name in ("sample", "moving")) or table.problems:
            return None
        channels = table.parse_pairs(line, row.get("companions", ""))
        return TemplateSample(
            row["sample"],
            str(locate(row["moving"])),
            locate(row.get("moving_mask")),
            {name: str(locate(text)) for name, text in channels.items()},
            float(row.get("weight", 1)),
            row.get("subject"),
            row.get("modality"),
        )

    return table.read(make)


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-._+") or "image"
