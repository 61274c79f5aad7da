"""Options of the methods that compute with torch, importable without it."""

from typing import Any

_DEVICE = {
    "enum": ["auto", "cpu", "cuda"],
    "description": "where to compute; auto takes a GPU where there is one, and waits for a busy one",
    "default": "auto",
}
_WEIGHTS = {
    "type": ["string", "null"],
    "description": "trained network: a .safetensors file, or the name of one in resources/weights; null "
    "takes the shipped one of the images' dimensions",
    "default": None,
}
_SYMMETRIC = {
    "type": "boolean",
    "description": "average the answers for both orders of the images: swapping them inverts the field",
    "default": True,
}
PRECISION = {
    "enum": ["auto", "float32", "bfloat16"],
    "description": "of the network's arithmetic; auto takes bfloat16 where the device has units for it. "
    "Fields are integrated in float32 always",
    "default": "auto",
}

VOXELMORPH: dict[str, dict[str, Any]] = {
    "weights": _WEIGHTS,
    "device": _DEVICE,
    "spacing_mm": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "spacing at which the network sees the images; null takes that of its training",
        "default": None,
    },
    "passes": {
        "enum": ["coarse", "all"],
        "description": "which of the network's passes precede the refinement. coarse: those at more than "
        "twice "
        "the fixed image's spacing, which take a second; all: all of them, as without a refinement",
        "default": "coarse",
    },
    "symmetric": _SYMMETRIC,
    "precision": PRECISION,
    "refinement": {
        "enum": ["none", "greedy"],
        "description": "method that refines the network's field further; none takes it as it is",
        "default": "greedy",
    },
    "refinement_options": {
        "type": "object",
        "description": "options of that method in place of its defaults",
        "default": {},
    },
}

INSTANCE_OPTIMIZATION: dict[str, dict[str, Any]] = {
    "loss": {
        "enum": ["auto", "lncc", "mse", "mi", "mind", "dice"],
        "description": "lncc, mse: same contrast; mi, mind: other contrast; dice: both images' label maps; "
        "auto: lncc, of two contrasts with the fixed image brought to the moving one's, or mind where the "
        "alignment does not yet show how",
        "default": "auto",
    },
    "radius": {
        "type": "integer",
        "minimum": 1,
        "description": "radius of the window of lncc, in samples",
        "default": 3,
    },
    "signed": {
        "type": "boolean",
        "description": "lncc: take an inverted contrast for a mismatch",
        "default": False,
    },
    "regularizer": {
        "enum": ["bending", "diffusion"],
        "description": "what keeps the velocity smooth, in millimeters",
        "default": "diffusion",
    },
    "weight": {
        "type": "number",
        "minimum": 0,
        "description": "weight of the regularizer against the loss",
        "default": 0.1,
    },
    "masks": {
        "enum": ["fixed", "both", "none"],
        "description": "whose mask says which samples count; both leaves out what either leaves out",
        "default": "fixed",
    },
    "spacing_mm": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "spacing of the finest level; null takes the fixed image's",
        "default": None,
    },
    "shrink": {
        "type": "array",
        "items": {"type": "number", "minimum": 1},
        "minItems": 1,
        "description": "how much coarser each level is, coarsest first",
        "default": [4, 2, 1],
    },
    "iterations": {
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "minItems": 1,
        "description": "most iterations of each level",
        "default": [60, 40, 30],
    },
    "velocity_shrink": {
        "type": "integer",
        "minimum": 1,
        "description": "how much coarser than its level the velocity field is; 1 for the same",
        "default": 2,
    },
    "rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "step of Adam, in samples of the velocity field",
        "default": 0.2,
    },
    "smoothing": {
        "type": "integer",
        "minimum": 0,
        "description": "passes of a 3-sample average over each step, so that steps are smooth; 0 for none",
        "default": 3,
    },
    "tolerance": {
        "type": "number",
        "minimum": 0,
        "description": "a level ends when `patience` iterations lower the objective by less than this part",
        "default": 1e-3,
    },
    "patience": {
        "type": "integer",
        "minimum": 1,
        "description": "iterations over which progress is judged",
        "default": 10,
    },
    "start": {
        "enum": ["zero", "voxelmorph"],
        "description": "start from no motion, or from the answer of the network in `weights`",
        "default": "zero",
    },
    "weights": _WEIGHTS,
    "symmetric": _SYMMETRIC,
    "precision": PRECISION,
    "device": _DEVICE,
}
