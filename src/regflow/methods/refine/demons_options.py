"""Options of the method ``demons``, importable without SimpleITK."""

from typing import Any


def _per_level(kind: dict[str, Any], description: str, default: list[float]) -> dict[str, Any]:
    return {"type": "array", "items": kind, "minItems": 1, "description": description, "default": default}


DEMONS: dict[str, dict[str, Any]] = {
    "forces": {
        "enum": ["diffeomorphic", "symmetric"],
        "description": "diffeomorphic: updates are exponentials, composed with the field; symmetric: fast "
        "symmetric forces, added to it",
        "default": "diffeomorphic",
    },
    "shrink": _per_level(
        {"type": "number", "minimum": 1}, "how much coarser each level is, coarsest first", [4, 2, 1]
    ),
    "iterations": _per_level({"type": "integer", "minimum": 0}, "iterations of each level", [60, 40, 15]),
    "field_sigma": {
        "type": "number",
        "minimum": 0,
        "description": "smoothing of the field after each iteration, in samples of the level",
        "default": 1.5,
    },
    "update_sigma": {
        "type": "number",
        "minimum": 0,
        "description": "smoothing of each update, in samples of the level; 0 for none",
        "default": 0.0,
    },
    "step": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "diffeomorphic: longest update, in samples of the level",
        "default": 2.0,
    },
    "match_histograms": {
        "type": "boolean",
        "description": "bring the moving image's histogram to the fixed one's, within the masks, first",
        "default": True,
    },
}
