"""The one model of the configuration and of the sample sheet, from which their JSON schemas come.

Each stage and each table of methods states its own options; this module puts them together.
:mod:`regflow.reference` writes what people and other tools read of it.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from regflow.core.gate import LIMIT_KEYS
from regflow.core.names import SAFE
from regflow.methods.table import Method

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ATLAS = {
    "image": "the fixed image: NIfTI, NRRD, MetaImage, a DICOM folder, or example:NAME",
    "mask": "mask on the same grid; not zero where the image may steer the registration",
    "labels": "label map on the same grid, for Dice and surface distances",
    "landmarks": "landmarks: CSV (name,x,y,z in LPS mm), .fcsv or .mrk.json",
    "modality": "T1w, T2w, FLAIR, CT, PET ...; for the report",
}

_COLUMNS = {
    "sample": "id of the row: letters, digits, '.', '_', '+' and '-'; names the results",
    "moving": "the moving image: NIfTI, NRRD, MetaImage, a DICOM folder, or example:NAME",
    "fixed": "an atlas of the configuration by name, or a file; empty: the configuration's 'fixed'",
    "modality": "T1w, T2w, FLAIR, CT, PET ...; for the report",
    "moving_mask": "mask on the moving image's grid; not zero where it may steer the registration",
    "moving_labels": "label map on the moving image's grid; follows the transform",
    "moving_landmarks": "landmarks of the moving image: CSV (name,x,y,z in LPS mm), .fcsv or .mrk.json",
    "fixed_mask": "mask on the fixed image's grid; empty: the atlas's",
    "fixed_labels": "label map on the fixed image's grid; empty: the atlas's",
    "fixed_landmarks": "landmarks of the fixed image, partners of the moving ones; empty: the atlas's",
    "companions": "other volumes that follow the same transform: 'flair=path;pet=path'",
    "volume": "which volume of a 4-D moving file, from 0, or the number or UID of a DICOM series",
    "group": "any word; the report compares groups",
    "session": "any word; the report shows it",
    "truth": "a known transform from fixed to moving points, to measure the true error with",
}
REQUIRED_COLUMNS = ("sample", "moving")


def samples_schema() -> Schema:
    """Return the JSON schema of one row of the sample sheet."""
    columns: dict[str, Schema] = {
        name: {"type": "string", "description": text} for name, text in _COLUMNS.items()
    }
    columns["sample"]["pattern"] = SAFE
    columns["volume"]["pattern"] = r"^[0-9.]+$"
    columns["companions"]["pattern"] = r"^[^=;]+=[^=;]+(;[^=;]+=[^=;]+)*;?$"
    return {
        "$schema": DIALECT,
        "title": "one row of a sample sheet",
        "type": "object",
        "required": list(REQUIRED_COLUMNS),
        "additionalProperties": False,
        "properties": columns,
    }


def config_schema() -> Schema:
    """Return the JSON schema of the configuration, with a description and default for each key."""
    from regflow.methods import initialize, preprocess, refine
    from regflow.stages import apply, assess, report
    from regflow.stages.initialize import LIMITS as INITIALIZE_LIMITS
    from regflow.stages.refine import INVERSE_LIMITS
    from regflow.stages.refine import LIMITS as REFINE_LIMITS

    section = _section(
        "",
        samples=_key(
            ["string", "null"], None, "sample sheet, TSV or CSV; paths in it are looked up beside it"
        ),
        bids=_bids(),
        output=_key("string", "results", "folder for everything that is written", minLength=1),
        seed=_key("integer", 0, "seed of every random choice", minimum=0),
        fixed=_key(["string", "null"], None, "atlas of the rows that name no fixed image"),
        atlases=_atlases(),
        preprocess=preprocess.schema(),
        initialize=_ladder(
            "rigid, then affine alignment",
            initialize.METHODS,
            ["mutual-information", "elastix"],
            INITIALIZE_LIMITS,
        ),
        refine=_ladder(
            "deformable alignment", refine.METHODS, ["greedy"], {**REFINE_LIMITS, **INVERSE_LIMITS}
        ),
        apply=_section("the products: resampled once, from the original files", **apply.OPTIONS),
        assess=_section(
            "what is measured, and the limits of the verdict",
            **{**assess.OPTIONS, "limits": _limits(assess.LIMITS, others=True)},
        ),
        report=_section("the pages of figures and pictures", **report.OPTIONS),
    )
    del section["default"]
    return {"$schema": DIALECT, "title": "configuration of regflow", **section}


def leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield the full path and the schema of each documented key that holds a value, in order.

    Keys that the user names, as the atlases, stand as ``NAME``.
    """
    for name, entry in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        named = entry.get("additionalProperties") or {}
        if "default" in entry and any(key in LIMIT_KEYS for key in entry.get("properties", {})):
            yield here, entry
        elif entry.get("properties"):
            yield from leaves(entry, here)
        elif any("description" in inner for inner in named.get("properties", {}).values()):
            yield from leaves(named, f"{here}.NAME")
        else:
            yield here, entry


def _key(kind: str | list[str], default: Any, description: str, **more: Any) -> Schema:
    return {"type": kind, "description": description, "default": default, **more}


def _section(description: str, **properties: Mapping[str, Any]) -> Schema:
    copied = {name: deepcopy(dict(entry)) for name, entry in properties.items()}
    section: Schema = {"type": "object", "additionalProperties": False, "properties": copied}
    return (
        {**section, "description": description, "default": {}} if description else {**section, "default": {}}
    )


def _bids() -> Schema:
    texts = {"type": ["string", "array"], "items": {"type": "string"}}
    return {
        "type": ["object", "null"],
        "description": "a BIDS data set instead of a sheet; outputs get BIDS-Derivatives names as well",
        "default": None,
        "additionalProperties": False,
        "required": ["path"],
        "properties": {
            "path": {"type": "string", "description": "root of the data set", "minLength": 1},
            "suffix": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "description": "suffixes of the moving images; each file is a sample",
                "default": ["T1w"],
            },
            "companions": {
                "type": "array",
                "items": {"type": "string"},
                "description": "suffixes of other images of the same session that follow the transform",
                "default": [],
            },
            "filters": {
                "type": "object",
                "description": "entities that must match: a value or a list, as {session: [pre, post]}",
                "additionalProperties": texts,
                "default": {},
            },
        },
    }


def _atlases() -> Schema:
    properties: dict[str, Schema] = {
        "image": {"type": "string", "description": _ATLAS["image"], "minLength": 1}
    }
    for name, text in _ATLAS.items():
        properties.setdefault(name, _key(["string", "null"], None, text))
    return {
        "type": "object",
        "description": "named fixed images; paths count from the working directory",
        "default": {},
        "propertyNames": {"pattern": SAFE},
        "additionalProperties": {
            "type": "object",
            "required": ["image"],
            "additionalProperties": False,
            "properties": properties,
        },
    }


def _ladder(
    description: str, table: Mapping[str, Method], first: list[str], limits: Mapping[str, Mapping[str, float]]
) -> Schema:
    summaries = "; ".join(f"{name}: {method.summary.rstrip('.')}" for name, method in table.items())
    options = {
        name: _section(method.summary, **method.options) for name, method in table.items() if method.options
    }
    return _section(
        description,
        methods={
            "type": "array",
            "items": {"enum": list(table)},
            "minItems": 1,
            "uniqueItems": True,
            "description": f"a ladder: the next method runs when the gate rejects the last. {summaries}",
            "default": [name for name in first if name in table],
        },
        options=_section("each method's own options, by its name", **options),
        gate=_limits(limits),
    )


def _limits(defaults: Mapping[str, Mapping[str, float]], *, others: bool = False) -> Schema:
    """Return the schema of limits by figure: a given figure's limits replace its own defaults.

    Args:
        defaults: by figure.
        others: further figures may get limits.
    """
    bounds: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: {"type": ["number", "null"]} for key in LIMIT_KEYS},
    }
    figures = {
        name: {**deepcopy(bounds), "description": f"limits of {name}", "default": dict(limits)}
        for name, limits in defaults.items()
    }
    return {
        "type": "object",
        "description": "limits of the verdict: by figure, any of " + ", ".join(LIMIT_KEYS),
        "additionalProperties": bounds if others else False,
        "properties": figures,
        "default": {},
    }
