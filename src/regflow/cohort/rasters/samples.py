"""The cohort of scenes: one sample per moving scene, from a sheet or a STAC item collection.

As for volumes, reading it is cheap and looks at no raster: what the files hold is found at ``ingest``.
Addresses of files are kept without their secrets, see :mod:`regflow.core.addresses`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from regflow.cohort.examples import resolve_example
from regflow.core.addresses import redact_address
from regflow.core.errors import InputError
from regflow.core.names import SAFE

Nodata = float | Literal["file"] | None


RANGES = r"^\s*(bit)?\d+(\s*-\s*\d+)?(\s*,\s*(bit)?\d+(\s*-\s*\d+)?)*\s*,?\s*$"
"""Values of a quality mask: ``0, 2-4``, or bits that may not be set: ``bit1, bit3-4``."""

NUMBER = r"^(file|none|nan|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)$"
"""What stands for nodata: a number, ``nan``, ``none``, or ``file`` for what the file declares."""

LANDMARKS = "landmarks"
"""The part of a sample's files that holds pairs of points, and no raster."""

_RANGE = re.compile(r"(bit)?(\d+)(?:\s*-\s*(\d+))?")


@dataclass(frozen=True)
class MaskValues:
    """Which values of a quality mask exclude a pixel.

    Attributes:
        values: these values do.
        bits: a set bit of these does, 0 for the lowest, as in Landsat's QA_PIXEL.
    """

    values: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A raster and how it is to be read.

    Attributes:
        image: a file, an address or a sub-dataset, as GDAL opens it.
        bands: to match on, by number from 1 or by name; empty for the first band.
        nodata: a value, ``"file"`` for what the file declares, or None for none.
        mask: a quality mask of the same ground.
        quality: values of the mask that exclude; with none, the value 0 does.
        date: of the acquisition, ISO 8601.
        sensor: any words.
        scaling: scale and offset of each band as a catalog states them, for files that declare none.
    """

    image: str
    bands: tuple[str, ...] = ()
    nodata: Nodata = "file"
    mask: str | None = None
    quality: MaskValues = MaskValues()
    date: str | None = None
    sensor: str | None = None
    scaling: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", redact_address(self.image))
        object.__setattr__(self, "mask", self.mask and redact_address(self.mask))

    def list_files(self) -> dict[str, str]:
        """Return the files by their part: ``image`` and, where there is one, ``mask``."""
        return {"image": self.image, **({"mask": self.mask} if self.mask else {})}


@dataclass(frozen=True)
class DeclaredSamples:
    """What a catalog states about the samples of a raster, for files that declare nothing.

    Attributes:
        nodata: see :data:`~regflow.io.rasters.Nodata`.
        scaling: scale and offset of each band.
    """

    nodata: Nodata = "file"
    scaling: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class FixedScene:
    """A fixed scene.

    Attributes:
        name: names its folder of results.
        scene: what it is.
    """

    name: str
    scene: Scene

    @property
    def image(self) -> str:
        """The raster."""
        return self.scene.image

    def list_files(self) -> dict[str, str]:
        """Return the files by their part."""
        return self.scene.list_files()


@dataclass(frozen=True)
class RasterSample:
    """One moving scene, the fixed scene it goes to, and what follows it.

    Attributes:
        sample: the id; names every result.
        scene: the moving scene.
        fixed: where it goes.
        companions: other rasters of the same acquisition that follow its transform, by name.
        classes: the same for rasters of classes, which are never blended.
        stated: what a catalog states about their samples, by ``companions.NAME`` and ``classes.NAME``.
        group: any word, for comparisons in the report.
        truth: a known correction from fixed to moving points, as ``displacement.tif``.
        landmarks: pairs of points of the fixed and the moving scene.
        series: name of the series over time that the scene belongs to.
    """

    sample: str
    scene: Scene
    fixed: FixedScene
    companions: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    stated: dict[str, DeclaredSamples] = field(default_factory=dict)
    group: str | None = None
    truth: str | None = None
    landmarks: str | None = None
    series: str | None = None

    def __post_init__(self) -> None:
        for part in ("companions", "classes"):
            files = {name: redact_address(path) for name, path in getattr(self, part).items()}
            object.__setattr__(self, part, files)
        for part in ("truth", "landmarks"):
            name = getattr(self, part)
            object.__setattr__(self, part, name and redact_address(name))

    @property
    def moving(self) -> str:
        """The moving raster."""
        return self.scene.image

    @property
    def date(self) -> str | None:
        """Of the moving scene."""
        return self.scene.date

    @property
    def sensor(self) -> str | None:
        """Of the moving scene."""
        return self.scene.sensor

    def list_files(self) -> dict[str, str]:
        """Return the moving side's files by their part: ``image``, ``mask``, ``companions.NAME`` ..."""
        return {
            **self.scene.list_files(),
            **{f"companions.{name}": path for name, path in self.companions.items()},
            **{f"classes.{name}": path for name, path in self.classes.items()},
            **({"truth": self.truth} if self.truth else {}),
            **({LANDMARKS: self.landmarks} if self.landmarks else {}),
        }


def parse_reference(config: Mapping[str, Any], name: str) -> FixedScene:
    """Return a reference of the configuration.

    Raises:
        InputError: its mask values or an ``example:`` are not known.
    """
    given = config["references"][name]
    scene = Scene(
        resolve_example(given["image"]),
        bands=parse_bands(given["bands"]),
        nodata=parse_nodata(given["nodata"]),
        mask=given["mask"] and resolve_example(given["mask"]),
        quality=parse_mask_values(given["mask_values"]),
        date=None if given["date"] is None else str(given["date"]),
        sensor=given["sensor"],
    )
    return FixedScene(name, scene)


def find_predecessors(samples: Iterable[RasterSample], pairs: str) -> dict[str, str | None]:
    """Return the sample that each one is compared with for changes, None for the fixed scene.

    Args:
        samples: of the whole cohort.
        pairs: ``reference``, or ``consecutive`` for the date before, among the scenes of one fixed
            scene and that scene itself, which comes first where it has no date.

    Raises:
        InputError: dates are wanted and only some samples of a fixed scene have one.
    """
    stacks: dict[str, list[RasterSample]] = {}
    for sample in samples:
        stacks.setdefault(sample.fixed.name, []).append(sample)
    found: dict[str, str | None] = {}
    for stack in stacks.values():
        found |= dict.fromkeys(sample.sample for sample in stack)
        if pairs == "consecutive":
            found |= _in_time(stack)
    return found


def parse_bands(given: str | int | Iterable[str | int] | None) -> tuple[str, ...]:
    """Return bands from a cell (``B04, B03`` or ``4``) or from a list."""
    if given is None:
        return ()
    parts = str(given).split(",") if isinstance(given, (str, int)) else [str(part) for part in given]
    return tuple(part.strip() for part in parts if part.strip())


def parse_pairs(given: Iterable[str]) -> dict[str, str]:
    """Return names and paths from ``NAME=PATH`` texts.

    Raises:
        InputError: a text has another form, or a name cannot name a file or is there twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not re.match(SAFE, name) or not sign or not path:
            raise InputError(f"'{text}' must be NAME=FILE, the name of letters and digits")
        if name in found:
            raise InputError(f"'{text}': '{name}' names {found[name]} already; give each file its own name")
        found[name] = path
    return found


def parse_nodata(given: str | float | None) -> Nodata:
    """Return nodata from what :data:`NUMBER` allows; None stands for what the file declares.

    Raises:
        InputError: it is something else.
    """
    if given is None or given == "file":
        return "file"
    if not re.match(NUMBER, str(given)):
        raise InputError(f"nodata is '{given}', but must be a number, nan, none or file")
    if given == "none":
        return None
    # Numbers of 64 bits are not all floats.
    return int(given) if re.fullmatch(r"[-+]?\d+", str(given)) else float(given)


def parse_mask_values(given: str | int | Iterable[int | str] | None) -> MaskValues:
    """Return the excluded values and bits from what :data:`RANGES` allows, or from a list.

    Raises:
        InputError: neither.
    """
    if given is None:
        return MaskValues()
    text = str(given) if isinstance(given, (str, int)) else ",".join(str(part) for part in given)
    if not re.match(RANGES, text):
        raise InputError(f"mask_values is '{text}', but must be values and bits, as '0, 2-4' or 'bit1, bit3'")
    numbers: dict[str, list[int]] = {"": [], "bit": []}
    for kind, first, last in _RANGE.findall(text):
        numbers[kind.lower()] += range(int(first), int(last or first) + 1)
    return MaskValues(tuple(numbers[""]), tuple(numbers["bit"]))


def _in_time(stack: list[RasterSample]) -> dict[str, str | None]:
    """Return the sample before each one in time; the earliest of a stack has the fixed scene."""
    dated = [sample for sample in stack if sample.date]
    if dated and len(dated) < len(stack):
        bare = next(sample.sample for sample in stack if not sample.date)
        raise InputError(f"{bare}: has no date; give every row its date, or set detect.pairs to reference")
    scenes: list[tuple[str, str | None]] = [(stack[0].fixed.scene.date or "", None)]
    scenes += [(sample.date or "", sample.sample) for sample in stack]
    scenes.sort(key=lambda scene: scene[0])
    return {after: before for (_, before), (_, after) in pairwise(scenes) if after is not None}
