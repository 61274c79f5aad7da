"""The sections of a stack as they are read: order, headers held against one another, and pixels."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.cohort.sections import list_section_files
from regflow.core.errors import InputError
from regflow.io.raster_header import RasterHeader
from regflow.io.rasters import read_raster_header, read_window
from regflow.methods.stack.section_picture import Plane, SectionPicture, coarsen_plane, normalize_section


@dataclass(frozen=True, eq=False)
class SectionImages:
    """Sections that belong together, in order.

    Attributes:
        names: of all of them, missing ones included.
        files: by which each is read; None for one that is not there.
        shapes: ``(N, 2)`` rows and columns; those of missing ones are as usual.
        dtype: of all samples.
        channels: of each section, by name; "" for none.
        reasons: why a section is missing, by number.
        problems: sentences.
    """

    names: tuple[str, ...]
    files: tuple[str | None, ...]
    shapes: NDArray[np.intp]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    reasons: Mapping[int, str]
    problems: tuple[str, ...]

    def read(self, number: int) -> NDArray[Any]:
        """Return a section's samples ``(C, h, w)``.

        Raises:
            InputError: it cannot be decoded.
        """
        file = self.files[number]
        if file is None:
            raise InputError(f"{self.names[number]}: is not there")
        rows, columns = (slice(0, int(size)) for size in self.shapes[number])
        return read_window(file, range(1, len(self.channels) + 1), rows, columns, None)[0]


@dataclass(frozen=True, eq=False)
class WorkingSections:
    """Sections at the pixels at which they are compared.

    Attributes:
        pictures: scaled ones; None where there is nothing to see.
        factor: pixels of the files along a side of one.
        grounds: ``(N, C)`` background of each, in the files' units; not-a-number where unknown.
        reasons: why there is nothing to see, by number.
    """

    pictures: tuple[SectionPicture | None, ...]
    factor: int
    grounds: NDArray[np.float64]
    reasons: Mapping[int, str]


EMPTY_SHARE = 0.15
EMPTY_CONTRAST = 0.1
"""Part of the usual area of tissue, or of its usual contrast, below which a section is empty."""


def open_sections(sources: Sequence[str], table: str | None = None) -> SectionImages:
    """Read the headers of sections; those of another kind than most, or that cannot be read, are left out.

    Raises:
        InputError: fewer than two sections are left.
    """
    listed = list_section_files(sources, table)
    headers: dict[str, RasterHeader] = {}
    reasons: dict[str, str] = {}
    for name, file in listed.items():
        if file is None:
            reasons[name] = "is missing: its number is skipped"
            continue
        try:
            headers[name] = read_raster_header(file)
        except InputError as error:
            reasons[name] = f"cannot be read: {error}"
    if not headers:
        raise InputError("\n".join(reasons.values()) or "no section can be read")
    kinds = {name: header.describe_bands() for name, header in headers.items()}
    usual, _ = Counter(kinds.values()).most_common(1)[0]
    for name, kind in kinds.items():
        if kind != usual:
            reasons[name] = f"is {kind} where most sections are {usual}; convert it, it was left out"
    kept = [name for name in headers if kinds[name] == usual]
    problems = [f"{name}: {reason}" for name, reason in reasons.items()]
    if len(kept) < 2:
        raise InputError(
            "\n".join([*problems, "fewer than two sections are left; a stack needs two or more"])
        )
    sizes = {name: headers[name].shape for name in kept}
    common, _ = Counter(sizes.values()).most_common(1)[0]
    others = [name for name in kept if sizes[name] != common]
    problems += [
        f"{name}: is {sizes[name][1]} x {sizes[name][0]} px where most sections are {common[1]} x "
        f"{common[0]}; it was laid center on center"
        for name in others
    ]
    first = headers[kept[0]]
    names = tuple(listed)
    return SectionImages(
        names,
        tuple(listed[name] if name in sizes else None for name in names),
        np.array([sizes.get(name, common) for name in names], np.intp),
        np.dtype(first.bands[0].dtype),
        tuple(band.name or (band.color if len(first.bands) > 1 else "") for band in first.bands),
        {number: reasons[name] for number, name in enumerate(names) if name in reasons},
        tuple(problems),
    )


def coarsen_sections(images: SectionImages, across: int) -> WorkingSections:
    """Read all sections once, and return them at the pixels at which they are compared."""
    factor = max(1, math.ceil(int(images.shapes.max()) / across))
    pictures: list[SectionPicture | None] = []
    grounds = np.full((len(images.names), len(images.channels)), np.nan)
    reasons = dict(images.reasons)
    for number, file in enumerate(images.files):
        if file is None:
            pictures.append(None)
            continue
        try:
            values = images.read(number)
        except InputError as error:
            reasons[number] = f"cannot be read: {error}"
            pictures.append(None)
            continue
        grounds[number] = [_measure_ground(channel) for channel in values]
        pictures.append(normalize_section(coarsen_plane(_average_channels(values), factor)))
    known = [picture for picture in pictures if picture is not None]
    share = float(np.median([picture.tissue_share for picture in known] or [0.0]))
    contrast = float(np.median([picture.contrast for picture in known] or [0.0]))
    for number, picture in enumerate(pictures):
        if picture is not None and not (
            picture.tissue_share > EMPTY_SHARE * share and picture.contrast > EMPTY_CONTRAST * contrast
        ):
            reasons[number] = "shows no tissue"
            pictures[number] = None
    return WorkingSections(tuple(pictures), factor, grounds, reasons)


def _average_channels(values: NDArray[Any]) -> Plane:
    planes = values.astype(np.float32)
    return np.asarray(sum(planes[1:], planes[0]) / np.float32(len(planes)))


def _measure_ground(channel: NDArray[Any]) -> float:
    """Return the median of a picture's outermost pixels."""
    ring = np.concatenate([channel[0], channel[-1], channel[:, 0], channel[:, -1]]).astype(np.float64)
    ring = ring[np.isfinite(ring)]
    return float(np.median(ring)) if ring.size else 0.0
