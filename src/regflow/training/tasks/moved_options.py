"""Options of the tasks that learn from moved crops: light, for the table and the schema."""

from typing import Any

_CROPS: dict[str, dict[str, Any]] = {
    "same_band": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "how often both crops show one band or contrast",
        "default": 0.7,
    },
    "reach": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 0.3,
        "description": "by how much a corner moves at most along each axis, in sides of the crop",
        "default": 0.25,
    },
}

CORNERS_OPTIONS: dict[str, dict[str, Any]] = {
    "sees": {
        "enum": ["stacked", "twin"],
        "description": "both crops at once, or each by itself, which answers with an affine map or a box",
        "default": "stacked",
    },
    "taught_by": {
        "enum": ["corners", "brightness"],
        "description": "the true corners, or how well the moved picture then fits the fixed one",
        "default": "corners",
    },
    "widths": {
        "type": "array",
        "items": {"type": "integer", "minimum": 4, "multipleOf": 4},
        "minItems": 4,
        "maxItems": 4,
        "description": "channels at 1/4, 1/8 and 1/16 of the resolution, and of the last features",
        "default": [32, 48, 64, 40],
    },
    "hidden": {
        "type": "integer",
        "minimum": 1,
        "description": "numbers between the features and the answer",
        "default": 56,
    },
    "answer": {
        "enum": ["affine", "box"],
        "description": "of a network that sees each crop by itself",
        "default": "affine",
    },
    **_CROPS,
}

FEATURES_OPTIONS: dict[str, dict[str, Any]] = {
    "widths": {
        "type": "array",
        "items": {"type": "integer", "minimum": 4, "multipleOf": 4},
        "minItems": 1,
        "maxItems": 5,
        "description": "channels of the encoder at 1/2, 1/4, ... of the resolution",
        "default": [16, 24, 32, 48],
    },
    "features": {
        "type": "integer",
        "minimum": 1,
        "description": "that are compared at each level",
        "default": 8,
    },
    "iterations": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1},
        "minItems": 1,
        "description": "steps at each level, the coarsest first; finer levels of `widths` than these "
        "only describe",
        "default": [4, 4, 4],
    },
    **_CROPS,
}
