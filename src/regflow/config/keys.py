"""The building blocks of the configuration: shared keys, ladders of methods, sections that people name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from regflow.core.gate import LIMIT_KEYS
from regflow.core.json_schema import DIALECT, Limits, Schema, define_limits, define_option, define_section
from regflow.core.names import SAFE
from regflow.methods.table import Method, list_methods_of_kind

KINDS = ("volumes", "rasters")


KIND = {
    "enum": list(KINDS),
    "description": "what is registered: volumes (heads, organs) or rasters (satellite and aerial scenes)",
    "default": "volumes",
}


SAMPLES = define_option(
    ["string", "null"], None, "sample sheet, TSV or CSV; paths in it are looked up beside it"
)


OUTPUT = define_option("string", "results", "folder for everything that is written", minLength=1)


TRAIN = "a registration network of your own: regflow train, or snakemake train"


SEED = define_option("integer", 0, "seed of every random choice", minimum=0)


BATCH: Schema = {
    "type": "integer",
    "minimum": 1,
    "description": "samples of a job that a network is asked about together: a GPU takes those of one size "
    "in one go",
    "default": 1,
}


JOBS: Schema = define_section(
    "how samples are shared out to jobs; no result depends on it",
    samples={
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "samples that one job takes through the stages; null: by the size of the cohort and "
        "the cores, on a cluster by what a queue likes",
        "default": None,
    },
    each_stage=define_option(
        "boolean",
        False,
        "a job for each stage of each sample, to look into one of them; costs a start of Python each",
    ),
    container=define_option(
        ["string", "null"],
        None,
        "image in which jobs run with `--software-deployment-method apptainer`: a .sif file, or an address "
        "as docker://...",
    ),
)


KEEP: Schema = {
    "type": "array",
    "items": {"enum": ["preprocess"]},
    "uniqueItems": True,
    "description": "stages whose images stay when no later stage needs them any more: preprocess, the "
    "working images",
    "default": [],
}


def _define_sizes(meaning: str) -> Schema:
    return {
        "type": ["array", "null"],
        "items": {"type": "number", "exclusiveMinimum": 0},
        "description": f"{meaning}; null: by the object's size",
        "default": None,
    }


COMPARE: Schema = define_section(
    "every method on the first samples, to choose a ladder by: snakemake compare_methods",
    samples={
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "how many samples of the sheet; null: all",
        "default": 2,
    },
    methods={
        "type": ["array", "null"],
        "items": {"type": "string"},
        "description": "of either stage; null: all that fit the kind of image",
        "default": None,
    },
    moved=_define_sizes("how far the fixed image is shifted and turned: mm and degrees, or pixels"),
    warped=_define_sizes("longest displacements of its smooth deformations, mm or pixels"),
    time_limit={
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "seconds after which a method is stopped on a pair",
        "default": 600,
    },
)


def list_leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield the full path and the schema of each documented key that holds a value, in order.

    Keys that the user names, as the atlases, stand as ``NAME``.
    """
    for name, entry in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        named = entry.get("additionalProperties") or {}
        if "default" in entry and any(key in LIMIT_KEYS for key in entry.get("properties", {})):
            yield here, entry
        elif entry.get("properties"):
            yield from list_leaves(entry, here)
        elif any("description" in inner for inner in named.get("properties", {}).values()):
            yield from list_leaves(named, f"{here}.NAME")
        else:
            yield here, entry


def define_whole_config(title: str, **properties: Mapping[str, Any]) -> Schema:
    """Return the schema of a configuration of these sections."""
    content = define_section("", **properties)
    del content["default"]
    return {"$schema": DIALECT, "title": title, **content}


def define_named_entries(description: str, entries: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    """Return the schema of a section whose keys the user names, each holding the same entries."""
    return {
        "type": "object",
        "description": description,
        "default": {},
        "propertyNames": {"pattern": SAFE},
        "additionalProperties": {
            "type": "object",
            "required": list(required),
            "additionalProperties": False,
            "properties": dict(entries),
        },
    }


def define_ladder(
    description: str,
    table: Mapping[str, Method],
    first: Sequence[str],
    limits: Limits,
    kind: str,
    meanings: Mapping[str, str] | None = None,
    **others: Schema,
) -> Schema:
    """Return the schema of a ladder of methods.

    Args:
        description: of the section.
        table: all methods; those of the kind are offered.
        first: the default ladder.
        limits: of the gate, by figure.
        kind: ``volumes`` or ``rasters``.
        meanings: of figures that the gate looks at, where their names do not tell.
        others: further keys of the section.
    """
    table = list_methods_of_kind(table, kind)
    summaries = "; ".join(f"{name}: {method.summary.rstrip('.')}" for name, method in table.items())
    options = {
        name: define_section(method.summary, **method.options)
        for name, method in table.items()
        if method.options
    }
    return define_section(
        description,
        methods={
            "type": "array",
            "items": {"enum": list(table)},
            "minItems": 1,
            "uniqueItems": True,
            "description": f"a ladder: the next method runs when the gate rejects the last. {summaries}",
            "default": [name for name in first if name in table],
        },
        options=define_section("each method's own options, by its name", **options),
        gate=define_limits(limits, meanings=meanings),
        **others,
    )
