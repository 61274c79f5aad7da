"""What a sample sheet of volumes has of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regflow.cohort.sheet import PAIRS, Sheet, SheetKind
from regflow.cohort.volumes.columns import define_samples_schema
from regflow.cohort.volumes.samples import FixedVolume, VolumeSample, parse_atlas
from regflow.io.object_store import FETCHED

VolumeSheet = Sheet[VolumeSample, FixedVolume]

_PATH_COLUMNS = ("moving", "moving_mask", "moving_labels", "moving_landmarks", "fixed_landmarks", "truth")


def read_sheet(config: Mapping[str, Any]) -> list[VolumeSample]:
    """Return the samples of the sheet of a complete configuration, in its order.

    Raises:
        InputError: one sentence for each problem, one to a line.
    """
    return open_sheet(config).read()


def open_sheet(config: Mapping[str, Any]) -> VolumeSheet:
    """Return the sheet of a complete configuration, not yet read."""
    return Sheet(config, KIND)


def _make_sample(sheet: VolumeSheet, line: int, row: Mapping[str, str], fixed: FixedVolume) -> VolumeSample:
    paths = {name: sheet.locate_cell(line, row.get(name)) for name in _PATH_COLUMNS}
    volume = row.get("volume")
    return VolumeSample(
        sample=row["sample"],
        moving=str(paths["moving"]),
        fixed=fixed,
        moving_mask=paths["moving_mask"],
        moving_labels=paths["moving_labels"],
        moving_landmarks=paths["moving_landmarks"],
        fixed_landmarks=paths["fixed_landmarks"] or fixed.landmarks,
        companions=sheet.parse_companions(line, row.get("companions", "")),
        modality=row.get("modality"),
        volume=int(volume) if volume is not None and volume.isdigit() else volume,
        group=row.get("group"),
        session=row.get("session"),
        weight=float(row.get("weight", 1)),
        subject=row.get("subject"),
        truth=paths["truth"],
        series=row.get("series"),
    )


def _make_fixed(
    sheet: VolumeSheet, line: int, name: str, base: FixedVolume | str, cells: Sequence[str | None]
) -> FixedVolume:
    mask, labels = (sheet.locate_cell(line, cell) for cell in cells)
    if isinstance(base, str):
        return FixedVolume(name, str(sheet.locate_cell(line, base)), mask, labels)
    own = {"mask": mask or base.mask, "labels": labels or base.labels}
    return FixedVolume(name, base.image, **own, landmarks=base.landmarks, modality=base.modality)


def _locate(text: str, beside: Callable[[str], str]) -> str:
    return text if FETCHED.fullmatch(text) else beside(text)


KIND: SheetKind[VolumeSample, FixedVolume] = SheetKind(
    schema=define_samples_schema(),
    forms={
        "volume": "a number from 0, or the UID of a DICOM series",
        "weight": "a number above 0",
        "subject": "letters, digits, '.', '_', '+' and '-'",
        "companions": PAIRS,
    },
    image="image",
    named="atlases",
    noun="atlas",
    path_marks="/\\.",
    fixed_columns=("fixed_mask", "fixed_labels"),
    path_columns=(*_PATH_COLUMNS, "fixed", "fixed_mask", "fixed_labels"),
    locate=_locate,
    named_fixed=parse_atlas,
    make_fixed=_make_fixed,
    make_sample=_make_sample,
)
