"""The configuration of volumes (kind ``volumes``).

Each stage and each table of methods states its own options; this module puts them together.
"""

from regflow.config.keys import (
    BATCH,
    COMPARE,
    JOBS,
    KEEP,
    KIND,
    OUTPUT,
    SAMPLES,
    SEED,
    TRAIN,
    define_ladder,
    define_named_entries,
    define_whole_config,
)
from regflow.config.series import define_series_schema
from regflow.config.template import define_template_schema
from regflow.core.json_schema import Schema, define_limits, define_option, define_section

_ATLAS = {
    "image": "the fixed image: NIfTI, NRRD, MetaImage, MGH, AFNI, DICOM, or example:NAME",
    "mask": "mask on the same grid; not zero, of fractions at least 0.5, where the image may steer",
    "labels": "label map on the same grid, for Dice and surface distances",
    "landmarks": "landmarks: CSV (name,x,y,z in LPS mm), .fcsv or .mrk.json",
    "modality": "T1w, T2w, FLAIR, CT, PET ...; for the report",
}


def define_config_schema() -> Schema:
    """Return the JSON schema of the configuration, with a description and default for each key."""
    from regflow.methods import initialize, preprocess, refine
    from regflow.stages import mirroring
    from regflow.stages.volumes import apply, assess, report
    from regflow.stages.volumes.initialize import LIMITS as INITIALIZE_LIMITS
    from regflow.stages.volumes.refine import INVERSE_LIMITS
    from regflow.stages.volumes.refine import LIMITS as REFINE_LIMITS
    from regflow.training.options import define_options

    refined = {**REFINE_LIMITS, **INVERSE_LIMITS}
    return define_whole_config(
        "configuration of regflow",
        kind=KIND,
        samples=SAMPLES,
        bids=_bids(),
        output=OUTPUT,
        seed=SEED,
        jobs=JOBS,
        keep=KEEP,
        fixed=define_option(
            ["string", "null"],
            None,
            "atlas of the rows that name no fixed image; template: one made of the cohort itself",
        ),
        atlases=_atlases(),
        preprocess=preprocess.define_preprocess_schema(),
        initialize=define_ladder(
            "rigid, then affine alignment",
            initialize.METHODS,
            ["mutual-information", "elastix"],
            {**INITIALIZE_LIMITS, **mirroring.LIMITS},
            "volumes",
            mirroring.MEANINGS,
        ),
        refine=define_ladder(
            "deformable alignment", refine.METHODS, ["greedy", "voxelmorph"], refined, "volumes", batch=BATCH
        ),
        apply=define_section("the products: resampled once, from the original files", **apply.OPTIONS),
        assess=define_section(
            "what is measured, and the limits of the verdict",
            **{
                **assess.OPTIONS,
                "limits": define_limits(assess.LIMITS, others=True, meanings=assess.MEANINGS),
            },
        ),
        report=define_section("the pages of figures and pictures", **report.OPTIONS),
        template=define_template_schema(),
        series=define_series_schema("volumes"),
        compare=COMPARE,
        train=define_section(TRAIN, **define_options("volumes")),
    )


def _bids() -> Schema:
    kinds = ["string", "integer", "null"]
    values = {"type": [*kinds, "array"], "items": {"type": kinds}}
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
            "derivatives": {
                "type": ["array", "null"],
                "items": {"type": "string", "minLength": 1},
                "description": "where masks and label maps are looked for, too: folders below the data set's "
                "derivatives/, or paths; null for all of them, [] for none",
                "default": None,
            },
            "volume": {
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "which volume of 4-D moving images, from 0",
                "default": None,
            },
            "filters": {
                "type": "object",
                "description": "entities that must match: a value or a list, as {session: [pre, post]}; null "
                "for files without the entity, '*' for those with any value of it",
                "additionalProperties": values,
                "default": {},
            },
        },
    }


def _atlases() -> Schema:
    properties: dict[str, Schema] = {
        "image": {"type": "string", "description": _ATLAS["image"], "minLength": 1}
    }
    for name, text in _ATLAS.items():
        properties.setdefault(name, define_option(["string", "null"], None, text))
    return define_named_entries(
        "named fixed images; paths count from the working directory", properties, ["image"]
    )
