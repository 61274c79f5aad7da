"""What a sample sheet of scenes has of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from regflow.cohort.rasters.columns import define_samples_schema
from regflow.cohort.rasters.samples import (
    FixedScene,
    RasterSample,
    Scene,
    parse_bands,
    parse_mask_values,
    parse_nodata,
    parse_reference,
)
from regflow.cohort.sheet import PAIRS, Sheet, SheetKind
from regflow.io.raster_names import relocate_name

SceneSheet = Sheet[RasterSample, FixedScene]

_NODATA = "a number, nan, none or file"
_MASK_VALUES = "values and bits, as '0, 2-4' or 'bit1, bit3'"


def read_sheet(config: Mapping[str, Any]) -> list[RasterSample]:
    """Return the samples of the sheet of a complete configuration, in its order.

    Raises:
        InputError: one sentence for each problem, one to a line.
    """
    return open_sheet(config).read()


def open_sheet(config: Mapping[str, Any]) -> SceneSheet:
    """Return the sheet of a complete configuration, not yet read."""
    return Sheet(config, KIND)


def _make_sample(sheet: SceneSheet, line: int, row: Mapping[str, str], fixed: FixedScene) -> RasterSample:
    scene = Scene(
        str(sheet.locate_cell(line, row.get("moving"))),
        bands=parse_bands(row.get("bands")),
        nodata=parse_nodata(row.get("nodata")),
        mask=sheet.locate_cell(line, row.get("moving_mask")),
        quality=parse_mask_values(row.get("mask_values")),
        date=row.get("date"),
        sensor=row.get("sensor"),
    )
    companions, classes = (
        sheet.parse_companions(line, row.get(part, "")) for part in ("companions", "classes")
    )
    return RasterSample(
        sample=row["sample"],
        scene=scene,
        fixed=fixed,
        companions=companions,
        classes=classes,
        group=row.get("group"),
        truth=sheet.locate_cell(line, row.get("truth")),
        landmarks=sheet.locate_cell(line, row.get("landmarks")),
        series=row.get("series"),
    )


def _make_fixed(
    sheet: SceneSheet, line: int, name: str, base: FixedScene | str, cells: Sequence[str | None]
) -> FixedScene:
    scene = Scene(str(sheet.locate_cell(line, base))) if isinstance(base, str) else base.scene
    bands, nodata, mask, mask_values = cells
    overlaid = Scene(
        scene.image,
        bands=parse_bands(bands) or scene.bands,
        nodata=scene.nodata if nodata is None else parse_nodata(nodata),
        mask=sheet.locate_cell(line, mask) or scene.mask,
        quality=scene.quality if mask_values is None else parse_mask_values(mask_values),
        date=scene.date,
        sensor=scene.sensor,
    )
    return FixedScene(name, overlaid)


KIND: SheetKind[RasterSample, FixedScene] = SheetKind(
    schema=define_samples_schema(),
    forms={
        "nodata": _NODATA,
        "fixed_nodata": _NODATA,
        "mask_values": _MASK_VALUES,
        "fixed_mask_values": _MASK_VALUES,
        "date": "a date like 2024-06-30, with a time or without",
        "companions": PAIRS,
        "classes": PAIRS,
    },
    image="scene",
    named="references",
    noun="reference",
    path_marks="/\\.:",
    fixed_columns=("fixed_bands", "fixed_nodata", "fixed_mask", "fixed_mask_values"),
    path_columns=("moving", "moving_mask", "landmarks", "truth", "fixed", "fixed_mask"),
    locate=relocate_name,
    named_fixed=parse_reference,
    make_fixed=_make_fixed,
    make_sample=_make_sample,
)
