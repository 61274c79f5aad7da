"""The model of a configuration of scenes (kind ``rasters``)."""

from regflow.cohort.rasters.columns import BANDS, DATE, MASK, MASK_VALUES, NODATA, RASTER
from regflow.cohort.rasters.samples import NUMBER
from regflow.config.keys import (
    COMPARE,
    JOBS,
    KIND,
    OUTPUT,
    SAMPLES,
    SEED,
    TRAIN,
    define_ladder,
    define_named_entries,
    define_whole_config,
)
from regflow.config.mosaic import define_mosaic_schema
from regflow.config.series import define_series_schema
from regflow.config.stack import define_stack_schema
from regflow.core.json_schema import Schema, define_limits, define_option, define_section

LADDER = (
    "phase-correlation",
    "gradient-correlation",
    "sift",
    "hypotheses",
    "edge-correlation",
    "mutual-information",
)
"""The default: what is fastest and most exact comes first, what finds more later."""

_TEXTS = {"type": ["array", "string", "integer", "null"], "items": {"type": ["string", "integer"]}}
_NUMBER = {"type": ["number", "string", "null"], "pattern": NUMBER}


def define_config_schema() -> Schema:
    """Return the JSON schema of the configuration, with a description and default for each key."""
    return define_whole_config(
        "configuration of regflow for scenes",
        kind={**KIND, "default": "rasters"},
        samples=SAMPLES,
        stac=_stac(),
        output=OUTPUT,
        seed=SEED,
        jobs=JOBS,
        fixed=define_option(["string", "null"], None, "reference of the rows that name no fixed scene"),
        references=_references(),
        **_stages(),
    )


def _references() -> Schema:
    entries: dict[str, Schema] = {
        "image": {"type": "string", "description": f"the fixed scene: {RASTER}", "minLength": 1},
        "bands": {**_TEXTS, "description": BANDS, "default": None},
        "nodata": {**_NUMBER, "description": NODATA, "default": None},
        "mask": define_option(["string", "null"], None, MASK),
        "mask_values": {**_TEXTS, "description": MASK_VALUES, "default": None},
        "date": define_option(["string", "null"], None, "of the scene: '2024-06-30'", pattern=DATE),
        "sensor": define_option(["string", "null"], None, "any words; for the report"),
    }
    return define_named_entries(
        "named fixed scenes; paths count from the working directory", entries, ["image"]
    )


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
            "reference": define_option(
                ["string", "null"],
                None,
                "id of the item all others go to; null: the reference that 'fixed' names",
            ),
            "bands": {**_TEXTS, "description": f"of that asset: {BANDS}", "default": None},
            "mask_asset": define_option(["string", "null"], None, "asset with the quality mask"),
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
            "cloud_cover_max": define_option(
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
    from regflow.stages import mirroring
    from regflow.stages.rasters import assess, detect_options, report, warping
    from regflow.stages.rasters.initialize import LIMITS as INITIALIZE_LIMITS
    from regflow.stages.rasters.refine import LIMITS as REFINE_LIMITS
    from regflow.training.options import define_options

    return {
        "preprocess": representation.define_preprocess_schema(),
        "initialize": define_ladder(
            "translation to affine or homography",
            initialize.METHODS,
            LADDER,
            {**INITIALIZE_LIMITS, **mirroring.LIMITS},
            "rasters",
            mirroring.MEANINGS,
        ),
        "refine": define_ladder(
            "what is left after the linear map", refine.METHODS, ["tie-points"], REFINE_LIMITS, "rasters"
        ),
        "apply": define_section("the products: resampled once, from the original pixels", **warping.OPTIONS),
        "assess": define_section(
            "what is measured, and the limits of the verdict",
            **{
                **assess.OPTIONS,
                "limits": define_limits(assess.LIMITS, others=True, meanings=assess.MEANINGS),
            },
        ),
        "detect": detect_options.define_detect_schema(),
        "series": define_series_schema("rasters"),
        "report": define_section("the pages of figures and pictures", **report.OPTIONS),
        "mosaic": define_mosaic_schema(),
        "stack": define_stack_schema(),
        "dask": _dask(),
        "compare": COMPARE,
        "train": define_section(TRAIN, **define_options("rasters")),
    }


def _dask() -> Schema:
    from regflow.core.chunks import DEFAULTS, SCHEDULERS

    return define_section(
        "who works on the blocks of a scene; no result depends on it",
        scheduler={
            "enum": list(SCHEDULERS),
            "description": "threads or processes on this machine, a cluster's address, or Slurm jobs",
            "default": DEFAULTS["scheduler"],
        },
        workers=define_option(
            ["integer", "null"], DEFAULTS["workers"], "how many; null takes the job's threads", minimum=1
        ),
        address=define_option(
            ["string", "null"], DEFAULTS["address"], "of the cluster's scheduler, as tcp://host:8786"
        ),
        memory=define_option(
            "string",
            DEFAULTS["memory"],
            "of all workers together, as '1.5GB', on Slurm of each: what tie points, check points, dense "
            "fields and products have under way at once",
            minLength=1,
        ),
        chunk=define_option(
            "integer", DEFAULTS["chunk"], "side of a block, in pixels", minimum=64, maximum=16384
        ),
        slurm=define_option(
            "object",
            DEFAULTS["slurm"],
            "options of dask-jobqueue's SLURMCluster, as {queue: cpu, walltime: '01:00:00', "
            "log_directory: logs}",
        ),
    )
