"""Options of the methods that landmarks drive: light, for the tables and the schema."""

from typing import Any

_OUTLIERS: dict[str, Any] = {
    "enum": ["drop", "keep"],
    "description": "what becomes of landmarks that contradict the others by three robust standard "
    "deviations and a sample or more",
    "default": "drop",
}

LINEAR_LANDMARKS: dict[str, dict[str, Any]] = {
    "model": {
        "enum": ["translation", "rigid", "similarity", "affine"],
        "description": "what is fitted; an affine needs five landmarks not in one plane",
        "default": "rigid",
    },
    "outliers": _OUTLIERS,
}

LINEAR_LANDMARKS_SCENES: dict[str, dict[str, Any]] = {
    "model": {
        "enum": ["translation", "rigid", "similarity", "affine", "homography"],
        "description": "what is fitted; an affine needs four pairs of points, a homography five",
        "default": "affine",
    },
    "outliers": _OUTLIERS,
}

SPLINE_LANDMARKS: dict[str, dict[str, Any]] = {
    "smoothing": {
        "type": ["number", "null"],
        "minimum": 0,
        "description": "weight of the bending energy, for landmarks of unit spread: 0 goes through every "
        "one; null takes the weight, from 0 to 10, under which landmarks are best foretold by the others",
        "default": None,
    },
    "outliers": _OUTLIERS,
}
