"""The section ``template`` of the configuration of volumes: rounds, and how images are averaged."""

from typing import Any

from regflow.core.json_schema import Schema, define_option, define_section

_COARSE = {"shrink": [4, 2], "iterations": [60, 40], "radius": [2, 2], "field_sigma": [0.27, 0.27]}
_FINE = {"shrink": [4, 2, 1], "iterations": [60, 40, 20]}
_DEFAULT_ROUNDS: list[dict[str, Any]] = [
    {"kind": "rigid"},
    {"kind": "affine"},
    {"kind": "affine"},
    {"kind": "deformable", "options": {"greedy": _COARSE}},
    {"kind": "deformable", "options": {"greedy": _COARSE}},
    {"kind": "deformable", "options": {"greedy": _FINE}},
    {"kind": "deformable", "options": {"greedy": _FINE}},
]


def define_template_schema() -> Schema:
    """Return the JSON schema of the section."""
    from regflow.stages.volumes.template_fits import KINDS
    from regflow.stages.volumes.template_mean import OPTIONS

    rounds: Schema = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["kind"],
            "additionalProperties": False,
            "properties": {"kind": {"enum": list(KINDS)}, "options": {"type": "object"}},
        },
        "description": "what is done one after another: in each, all images are registered to the last "
        "template, and their mean is the next. kind: rigid, affine or deformable; options: of methods, by "
        "their names, on those of 'initialize' or 'refine'",
        "default": _DEFAULT_ROUNDS,
    }
    return define_section(
        "a template of the images themselves: regflow template",
        start=define_option(
            ["string", "null"],
            None,
            "volume to begin with, in whose pose the template stays; null: one of the images, whose pose and "
            "shape are averaged out",
        ),
        mode={
            "enum": list(KINDS),
            "description": "rounds that leave more free than this are left out",
            "default": KINDS[-1],
        },
        rounds=rounds,
        methods={
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "description": "ladder of the deformable rounds, instead of refine.methods",
            "default": ["greedy"],
        },
        spacing_mm={
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "description": "of the template and the working images; null: each image's own, and the middle "
            "one of all for the template",
            "default": None,
        },
        **OPTIONS,
    )
