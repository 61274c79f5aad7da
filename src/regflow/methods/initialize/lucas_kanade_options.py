"""Options of the method of Lucas and Kanade: light, for the table and the schema."""

from typing import Any

MODELS = ("translation", "rigid", "similarity", "affine")

LUCAS_KANADE: dict[str, dict[str, Any]] = {
    "model": {
        "enum": list(MODELS),
        "description": "what is sought, on top of where it starts",
        "default": "affine",
    },
    "scheme": {
        "enum": ["inverse-compositional", "forward-additive"],
        "description": "whose slopes the steps follow: the fixed image's, which stay the same, or the moving "
        "one's, looked up anew at each step",
        "default": "inverse-compositional",
    },
    "weights": {
        "enum": ["huber", "tukey", "none"],
        "description": "how much counts what does not fit, as changes and clouds: less and less (huber), not "
        "at all (tukey), or as much as all else",
        "default": "huber",
    },
    "sigma": {
        "type": "number",
        "minimum": 0,
        "description": "blur of both images before they are compared, in samples of each level",
        "default": 0.8,
    },
    "levels": {
        "type": "integer",
        "minimum": 1,
        "description": "most levels of the pyramid, each of half the resolution of the next; 1: the finest "
        "alone, for starts within a sample or two",
        "default": 5,
    },
    "across": {
        "type": "integer",
        "minimum": 32,
        "description": "most samples along the fixed image's longest side at the finest level",
        "default": 160,
    },
    "samples": {
        "type": "integer",
        "minimum": 500,
        "description": "most samples of the fixed image, about, that the last steps compare; on a lattice",
        "default": 400000,
    },
    "iterations": {
        "type": "integer",
        "minimum": 1,
        "description": "most steps at each level",
        "default": 40,
    },
}

LUCAS_KANADE_SCENES: dict[str, dict[str, Any]] = {
    **LUCAS_KANADE,
    "model": {**LUCAS_KANADE["model"], "enum": [*MODELS, "homography"]},
    "across": {**LUCAS_KANADE["across"], "default": 1024},
}
