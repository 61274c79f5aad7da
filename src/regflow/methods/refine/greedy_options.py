"""Options of the method ``greedy``, importable without numba or torch."""

from typing import Any


def _per_level(kind: dict[str, Any], description: str, default: list[float]) -> dict[str, Any]:
    return {"type": "array", "items": kind, "minItems": 1, "description": description, "default": default}


GREEDY: dict[str, dict[str, Any]] = {
    "metric": {
        "enum": ["auto", "lncc", "correlation", "mse", "mind", "mapped"],
        "description": "lncc: local correlation; correlation: of the whole images; mse: squared differences, "
        "of one scanner and contrast; mind: self-similarity descriptors, for other modalities; mapped: these "
        "on the coarsest level, then lncc with the fixed image in the moving one's contrast; auto: lncc for "
        "one contrast, mapped for two",
        "default": "auto",
    },
    "shrink": _per_level(
        {"type": "number", "minimum": 1}, "how much coarser each level is, coarsest first", [4, 2, 1]
    ),
    "iterations": _per_level(
        {"type": "integer", "minimum": 0}, "most iterations of each level", [50, 50, 10]
    ),
    "radius": _per_level(
        {"type": "integer", "minimum": 1},
        "radius of the window of lncc at each level, in samples of the level's finest axis",
        [2, 2, 3],
    ),
    "update_sigma": {
        "type": ["array", "null"],
        "items": {"type": "number", "minimum": 0},
        "minItems": 1,
        "description": "smoothing of each update at each level, in samples of the level's finest axis; null "
        "takes 3, 2.5, 2 for lncc, correlation and mse, 5, 4, 3.5 for mapped, and 5 for mind",
        "default": None,
    },
    "field_sigma": _per_level(
        {"type": "number", "minimum": 0},
        "smoothing of the field for an update of one Newton step, in samples of the level's finest axis",
        [0.27, 0.27, 0.27],
    ),
    "step": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "length of an update's longest vector, in samples of the level's finest axis",
        "default": 1.0,
    },
    "momentum": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "description": "share of each update that the next repeats, so that fewer iterations reach as far",
        "default": 0.5,
    },
    "tolerance": {
        "type": "number",
        "minimum": 0,
        "description": "a level ends when ten iterations raise the mean similarity by less; 0 runs them all",
        "default": 0.0,
    },
    "masks": {
        "enum": ["auto", "fixed", "both", "none"],
        "description": "whose mask says which samples steer; both leaves out what either leaves out; auto "
        "takes the fixed one's and leaves out holes of the moving one's, as of a lesion that was cut out",
        "default": "auto",
    },
    "margin": {
        "type": "integer",
        "minimum": 0,
        "description": "by how many samples the fixed mask is grown, so that the border steers too",
        "default": 2,
    },
    "device": {
        "enum": ["auto", "cpu", "cuda"],
        "description": "where to compute; auto takes a GPU where there is one, and waits for a busy one",
        "default": "auto",
    },
}
