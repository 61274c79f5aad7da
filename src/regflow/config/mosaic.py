"""Settings of a mosaic: light, for the schema and the command."""

from collections.abc import Mapping
from typing import Any

from regflow.core.json_schema import Schema, define_option, define_section

OPTIONS: dict[str, Schema] = {
    "tiles": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "description": "files, folders, or patterns such as 'scan/*.tif'; paths count from the working "
        "directory",
        "default": [],
    },
    "table": define_option(
        ["string", "null"], None, "CSV or TSV with the columns tile, x, y and perhaps channel"
    ),
    "pattern": define_option(
        ["string", "null"],
        None,
        "of the tiles' names, as 'img_r{row}_c{column}.tif'; fields: row, column, x, y, channel; null: "
        "MIST's, Micro-Manager's and plain rows and columns are looked for",
    ),
    "grid": define_option(
        ["string", "null"],
        None,
        "columns and rows of tiles whose names say nothing, in the order of the names: '5x4'",
        pattern="^[1-9][0-9]*x[1-9][0-9]*$",
    ),
    "order": {
        "enum": ["rows", "snake"],
        "description": "of the tiles of a grid: each row from the left, or to and fro",
        "default": "rows",
    },
    "overlap_percent": define_option(
        ["number", "null"],
        None,
        "overlap of neighbors where rows and columns are known; null: measured",
        minimum=0,
        maximum=90,
    ),
    "reach_px": define_option(
        "number", 40.0, "by how much expected offsets between neighbors may be wrong, in pixels", minimum=1
    ),
    "position_unit": {
        "enum": ["px", "um"],
        "description": "of x and y in tables and names: pixels, or micrometers of a stage",
        "default": "px",
    },
    "pixel_size_um": define_option(
        ["number", "null"], None, "width and height of a pixel in micrometers", exclusiveMinimum=0
    ),
    "channel": define_option(
        ["string", "null"], None, "channel whose images are compared; null: the first one by name"
    ),
    "flat_field": define_option("boolean", True, "correct for uneven light, estimated from the tiles"),
    "gains": define_option("boolean", True, "balance the brightness of overlapping tiles"),
    "blend": {
        "enum": ["feather", "sharpest", "first"],
        "description": "how overlaps are filled: feather, weights that fall towards a tile's border; "
        "sharpest, the tile with most detail; first, the first tile by name",
        "default": "feather",
    },
    "interpolation": {
        "enum": ["cubic", "nearest"],
        "description": "of tiles whose places are not whole pixels",
        "default": "cubic",
    },
    "format": {
        "enum": ["ome-zarr", "ome-tiff", "cog"],
        "description": "of the mosaic; georeferenced tiles keep their place in a cog alone",
        "default": "ome-zarr",
    },
}


def define_mosaic_schema() -> Schema:
    """Return the schema of the section ``mosaic``."""
    return define_section("tiles to one picture: regflow mosaic, or snakemake mosaic", **OPTIONS)


def complete_mosaic_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the default of all that is not given, or None."""
    stated = {name: value for name, value in given.items() if value is not None}
    return {**{name: entry["default"] for name, entry in OPTIONS.items()}, **stated}
