"""The images of a series: as a sheet or a list names them, in the order of their dates."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from regflow.cohort.examples import resolve_example
from regflow.cohort.rasters.columns import DATE
from regflow.cohort.rasters.samples import MaskValues, Nodata
from regflow.cohort.table import Table
from regflow.core.errors import InputError
from regflow.core.json_schema import define_table_row
from regflow.core.names import SAFE
from regflow.pipeline.exchange import find_kind_of_file
from regflow.pipeline.template_samples import SUFFIXES, choose_names

COLUMNS = {
    "sample": "id of the row: letters, digits, '.', '_', '+' and '-'",
    "moving": "the image",
    "date": "of the image, ISO 8601; rows without dates are in the order of their ids",
    "moving_mask": "of a scene a quality mask, of a volume where it may steer",
}
FEWEST = 2


@dataclass(frozen=True)
class SceneReading:
    """How the scenes of a series are read; nothing of it is for volumes.

    Attributes:
        bands: to register on, by number from 1 or by name; empty for the first band.
        nodata: a value, ``"file"`` for what the file declares, or None for none.
        quality: values of the masks that exclude a pixel.
    """

    bands: tuple[str, ...] = ()
    nodata: Nodata = "file"
    quality: MaskValues = field(default_factory=MaskValues)


@dataclass(frozen=True)
class SeriesSample:
    """One image of a series.

    Attributes:
        name: names its files.
        image: its file.
        date: ISO 8601; None where unknown.
        mask: of its pixels.
        reading: how a scene is read.
    """

    name: str
    image: str
    date: str | None = None
    mask: str | None = None
    reading: SceneReading = field(default_factory=SceneReading)

    def list_files(self) -> dict[str, str]:
        """Return the files by their part: ``image`` and ``mask``."""
        return {"image": self.image, **({"mask": self.mask} if self.mask else {})}


def read_series_samples(
    images: Sequence[str],
    *,
    dates: Sequence[str] | None = None,
    masks: Sequence[str] | None = None,
    reading: SceneReading | None = None,
) -> list[SeriesSample]:
    """Return the images of a list of files, of one sheet, or of the pages of one TIFF, in order.

    Args:
        images: files, one sheet with the columns :data:`COLUMNS`, or one TIFF with several pages.
        dates: one for each file.
        masks: one for each file.
        reading: how scenes are read.

    Raises:
        InputError: a sheet has problems, there are not as many dates or masks as images, or the images are
            no series.
    """
    reading = reading or SceneReading()
    if len(images) == 1 and images[0].lower().endswith(SUFFIXES):
        for name, given in (("dates", dates), ("masks", masks)):
            if given:
                raise InputError(f"{images[0]}: {name} of a sheet stand in its columns")
        return list_ordered_samples([replace(each, reading=reading) for each in _read_sheet(images[0])])
    paths = [resolve_example(path) for path in images]
    names = choose_names(images)
    if len(paths) == 1 and (pages := _list_pages(paths[0])):
        paths, names = pages, [f"{names[0]}-{number:04d}" for number in range(1, len(pages) + 1)]
    for name, given in (("dates", dates), ("masks", masks)):
        if given and len(given) != len(paths):
            raise InputError(f"{name}: {len(given)} are given for {len(paths)} images; give one for each")
    columns = ([*given] if given else [None] * len(paths) for given in (dates, masks))
    return list_ordered_samples(
        SeriesSample(name, path, date, mask and resolve_example(mask), reading)
        for name, path, date, mask in zip(names, paths, *columns, strict=True)
    )


def list_ordered_samples(samples: Iterable[SeriesSample]) -> list[SeriesSample]:
    """Return the images of a series by date, those of one date by name.

    Without dates names decide, numbers in them by their size: ``t9`` before ``t10``.

    Raises:
        InputError: there are fewer than two, two have one name, a date has another form, only some have one,
            or images of different kinds are among them.
    """
    found = list(samples)
    if len(found) < FEWEST:
        raise InputError(f"a series needs {FEWEST} images, and {len(found)} is given; name more")
    doubled = [name for name, count in Counter(sample.name for sample in found).items() if count > 1]
    if doubled:
        raise InputError(f"two images of the series are named '{doubled[0]}'; rename one")
    for sample in found:
        if sample.date is not None and not re.match(DATE, sample.date):
            raise InputError(f"{sample.name}: its date is '{sample.date}', but must be as '2024-06-30'")
    bare = [sample.name for sample in found if sample.date is None]
    if bare and len(bare) < len(found):
        raise InputError(f"{bare[0]}: has no date, and others have one; give every image its date, or none")
    find_series_kind(found)
    return sorted(found, key=lambda sample: (sample.date or "", _split_numbers(sample.name)))


def find_series_kind(samples: Sequence[SeriesSample]) -> str:
    """Return ``volumes`` or ``rasters``.

    Raises:
        InputError: both are among the images.
    """
    kinds = [find_kind_of_file(sample.image) for sample in samples]
    if len(set(kinds)) > 1:
        volume, scene = (samples[kinds.index(kind)].image for kind in ("volumes", "rasters"))
        raise InputError(f"{volume} is a volume and {scene} is none; give images of one kind")
    return kinds[0]


def _list_pages(path: str) -> list[str]:
    from regflow.io.rasters import list_tiff_pages

    return [] if find_kind_of_file(path) == "volumes" else list_tiff_pages(path)


def _split_numbers(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts names with their numbers by size."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]


def _read_sheet(path: str) -> list[SeriesSample]:
    schema = define_table_row(
        "one image of a series", COLUMNS, ("sample", "moving"), {"sample": SAFE, "date": DATE}
    )
    table = Table(Path(path), schema, {"date": "a date as 2024-06-30"})

    def make(_line: int, row: dict[str, str]) -> SeriesSample | None:
        if any(name not in row for name in ("sample", "moving")) or table.problems:
            return None
        mask = row.get("moving_mask")
        return SeriesSample(
            row["sample"],
            table.resolve_path(resolve_example(row["moving"])),
            row.get("date"),
            None if mask is None else table.resolve_path(resolve_example(mask)),
        )

    return table.read(make)
