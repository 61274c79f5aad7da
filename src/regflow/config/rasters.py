"""The model of a configuration of scenes (kind ``rasters``)."""

from regflow.cohort.rasters.columns import BANDS, DATE, MASK, MASK_VALUES, NODATA, RASTER
from regflow.cohort.rasters.samples import NUMBER
from regflow.config.keys import (
    JOBS,
    KIND,
    OUTPUT,
    SAMPLES,
    SEED,
    TRAIN,
    ladder,
    named_entries,
    whole_config,
)
from regflow.core.json_schema import Schema, limits_schema, option, section

LADDER = (
    "phase-correlation",
    "gradient-correlation",
    "sift",
    "edge-correlation",
    "xfeat",
    "mutual-information",
    "hypotheses",
)
"""The default: what is fastest and most exact comes first, what finds more later."""

_TEXTS = {"type": ["array", "string", "integer", "null"], "items": {"type": ["string", "integer"]}}
_NUMBER = {"type": ["number", "string", "null"], "pattern": NUMBER}


def config_schema() -> Schema:
    """Return the JSON schema of the configuration, with a description and default for each key."""
    return whole_config(
        "configuration of regflow for scenes",
        kind={**KIND, "default": "rasters"},
        samples=SAMPLES,
        stac=_stac(),
        output=OUTPUT,
        seed=SEED,
        jobs=JOBS,
        fixed=option(["string", "null"], None, "reference of the rows that name no fixed scene"),
        references=_references(),
        **_stages(),
    )


def _references() -> Schema:
    entries: dict[str, Schema] = {
        "image": {"type": "string", "description": f"the fixed scene: {RASTER}", "minLength": 1},
        "bands": {**_TEXTS, "description": BANDS, "default": None},
        "nodata": {**_NUMBER, "description": NODATA, "default": None},
        "mask": option(["string", "null"], None, MASK),
        "mask_values": {**_TEXTS, "description": MASK_VALUES, "default": None},
        "date": option(["string", "null"], None, "of the scene: '2024-06-30'", pattern=DATE),
        "sensor": option(["string", "null"], None, "any words; for the report"),
    }
    return named_entries("named fixed scenes; paths count from the working directory", entries, ["image"])


def _stac() -> Schema:
    return {
        "type": ["object", "null"],
        "description": "a STAC item collection instead of a sheet; each item is a sample",
        "default": None,
        "additionalProperties": False,
        "required": ["path", "asset"],
        "properties": {
            "path": {"type": "string", "description": "the collection, a local JSON file", "minLength": 1},
            "asset": {"type": "string", "description": "asset to match on, by its key", "minLength": 1},
            "reference": option(
                ["string", "null"],
                None,
                "id of the item all others go to; null: the reference that 'fixed' names",
            ),
            "bands": {**_TEXTS, "description": f"of that asset: {BANDS}", "default": None},
            "mask_asset": option(["string", "null"], None, "asset with the quality mask"),
            "mask_values": {**_TEXTS, "description": MASK_VALUES, "default": None},
            "companions": {
                "type": "array",
                "items": {"type": "string"},
                "description": "assets that follow the same transform",
                "default": [],
            },
            "classes": {
                "type": "array",
                "items": {"type": "string"},
                "description": "assets of classes that follow it, whose values are never blended",
                "default": [],
            },
            "cloud_cover_max": option(
                ["number", "null"],
                None,
                "leave out items with more clouds, in percent",
                minimum=0,
                maximum=100,
            ),
        },
    }


def _stages() -> dict[str, Schema]:
    """Return the sections that the stages and the tables of methods state themselves."""
    from regflow.methods import initialize, refine, representation
    from regflow.stages.rasters import assess, detect_options, report, warping
    from regflow.stages.rasters.initialize import LIMITS as INITIALIZE_LIMITS
    from regflow.stages.rasters.refine import LIMITS as REFINE_LIMITS
    from regflow.training.options import options_of

    return {
        "preprocess": representation.schema(),
        "initialize": ladder(
            "translation to affine or homography", initialize.METHODS, LADDER, INITIALIZE_LIMITS, "rasters"
        ),
        "refine": ladder(
            "what is left after the linear map", refine.METHODS, ["tie-points"], REFINE_LIMITS, "rasters"
        ),
        "apply": section("the products: resampled once, from the original pixels", **warping.OPTIONS),
        "assess": section(
            "what is measured, and the limits of the verdict",
            **{
                **assess.OPTIONS,
                "limits": limits_schema(assess.LIMITS, others=True, meanings=assess.MEANINGS),
            },
        ),
        "detect": detect_options.schema(),
        "report": section("the pages of figures and pictures", **report.OPTIONS),
        "dask": _dask(),
        "train": section(TRAIN, **options_of("rasters")),
    }


def _dask() -> Schema:
    from regflow.core.chunks import DEFAULTS, SCHEDULERS

    return section(
        "who works on the blocks of a scene; no result depends on it",
        scheduler={
            "enum": list(SCHEDULERS),
            "description": "threads or processes on this machine, a cluster's address, or Slurm jobs",
            "default": DEFAULTS["scheduler"],
        },
        workers=option(
            ["integer", "null"], DEFAULTS["workers"], "how many; null takes the job's threads", minimum=1
        ),
        address=option(
            ["string", "null"], DEFAULTS["address"], "of the cluster's scheduler, as tcp://host:8786"
        ),
        memory=option(
            "string",
            DEFAULTS["memory"],
            "of all workers together, as '1.5GB', on Slurm of each: what tie points, check points, dense "
            "fields and products have under way at once",
            minLength=1,
        ),
        chunk=option("integer", DEFAULTS["chunk"], "side of a block, in pixels", minimum=64, maximum=16384),
        slurm=option(
            "object",
            DEFAULTS["slurm"],
            "options of dask-jobqueue's SLURMCluster, as {queue: cpu, walltime: '01:00:00', "
            "log_directory: logs}",
        ),
    )
