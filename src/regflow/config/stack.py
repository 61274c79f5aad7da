"""Settings of a stack: light, for the schema and the command."""

from collections.abc import Mapping
from typing import Any

from regflow.core.json_schema import Schema, define_option, define_section

ORDERS = ("keep", "sort")
FILLS = ("none", "neighbor", "interpolate")
OPTIONS: dict[str, Schema] = {
    "sections": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "description": "files, folders, patterns such as 'slides/*.tif', or one TIFF with several pages; the "
        "order is that of the numbers in the names; paths count from the working directory",
        "default": [],
    },
    "table": define_option(
        ["string", "null"],
        None,
        "CSV or TSV with the columns section, a file, and perhaps number, in place of names",
    ),
    "reference": define_option(
        ["string", "null"],
        None,
        "volume of the block, of an atlas or of another scan, whose shape the stack is given",
    ),
    "pixel_size_um": define_option(
        ["number", "null"], None, "width and height of a pixel in micrometers", exclusiveMinimum=0
    ),
    "section_um": define_option(
        ["number", "null"], None, "distance of sections in micrometers", exclusiveMinimum=0
    ),
    "turn_deg": define_option(
        "number", 180.0, "largest turn of a section against its neighbor", minimum=0, maximum=180
    ),
    "mirrored": define_option("boolean", True, "look for sections that lie the wrong side up"),
    "order": {
        "enum": list(ORDERS),
        "description": "of sections that look like others elsewhere: keep, they are named; sort, they are "
        "put there",
        "default": ORDERS[0],
    },
    "shape_width": define_option(
        ["number", "null"],
        None,
        "over how many sections, as a standard deviation, the block's shape is that of the sections as "
        "scanned; null: as predicts their places best",
        minimum=1,
    ),
    "deform": define_option("boolean", True, "bend each section onto its neighbors"),
    "rounds": define_option("integer", 2, "how often every section is bent", minimum=1),
    "bend_percent": define_option(
        "number", 7.0, "width over which a bend is smooth, in percent of the section's diagonal", minimum=0.5
    ),
    "across": define_option(
        "integer", 256, "most pixels along the longer side at which sections are compared", minimum=64
    ),
    "fill": {
        "enum": list(FILLS),
        "description": "what stands for sections that are missing or fit no neighbor: themselves or nothing, "
        "the nearest sound one, or the mean of those around, by distance",
        "default": FILLS[0],
    },
}


def define_stack_schema() -> Schema:
    """Return the schema of the section ``stack``."""
    return define_section("sections to one volume: regflow stack, or snakemake stack", **OPTIONS)


def complete_stack_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the default of all that is not given, or None."""
    stated = {name: value for name, value in given.items() if value is not None}
    return {**{name: entry["default"] for name, entry in OPTIONS.items()}, **stated}
