"""Initializers: rigid and affine starts. One row per method; imports happen when one runs."""

from regflow.methods.table import Method

_HERE = "regflow.methods.initialize"

METHODS: dict[str, Method] = {
    "header": Method(
        f"{_HERE}.header:header",
        "Trust the headers, or lay the centers of both fields of view on each other.",
        options={
            "centers": {
                "type": "boolean",
                "description": "lay the centers of the grids on each other instead of trusting the headers",
                "default": False,
            }
        },
    ),
    "moments": Method(
        f"{_HERE}.moments:moments",
        "Lay the centers of mass of both masks on each other.",
        options={
            "axes": {
                "type": "boolean",
                "description": "turn the principal axes of the masks onto each other as well",
                "default": False,
            }
        },
    ),
    "mutual-information": Method(
        f"{_HERE}.mutual_information:mutual_information",
        "Rigid then affine by Mattes mutual information, from many starting rotations.",
        "Mattes et al., IEEE Trans. Medical Imaging 22(1):120-128, 2003",
        {
            "transform": {
                "enum": ["rigid", "affine"],
                "description": "what is sought: rigid alone, or rigid and then affine",
                "default": "affine",
            },
            "starts": {
                "type": "integer",
                "minimum": 1,
                "description": "most promising starting poses that are optimized at the coarsest spacing",
                "default": 6,
            },
            "angles_degrees": {
                "type": "array",
                "items": {"type": "number"},
                "description": "rotations about each axis that are combined into starting poses, besides 0",
                "default": [-30, 30],
            },
            "flips": {
                "type": "boolean",
                "description": "also start from half turns about each axis (a patient lying the other way)",
                "default": True,
            },
            "spacings_mm": {
                "type": "array",
                "items": {"type": "number", "exclusiveMinimum": 0},
                "minItems": 2,
                "maxItems": 2,
                "description": "spacing of the search among starts, and of the final optimization",
                "default": [8.0, 3.0],
            },
            "bins": {
                "type": "integer",
                "minimum": 8,
                "description": "bins of the joint histogram",
                "default": 32,
            },
            "iterations": {
                "type": "integer",
                "minimum": 1,
                "description": "most iterations of each optimization",
                "default": 120,
            },
        },
    ),
    "elastix": Method(
        f"{_HERE}.elastix:elastix",
        "Rigid then affine by elastix with regflow's parameter maps.",
        "Klein et al., IEEE Trans. Medical Imaging 29(1):196-205, 2010",
        {
            "transform": {
                "enum": ["rigid", "affine"],
                "description": "what is sought: rigid alone, or rigid and then affine",
                "default": "affine",
            },
            "samples": {
                "type": "integer",
                "minimum": 100,
                "description": "image samples drawn for each iteration",
                "default": 3000,
            },
            "iterations": {
                "type": "integer",
                "minimum": 1,
                "description": "iterations per resolution",
                "default": 250,
            },
            "maps": {
                "type": "array",
                "items": {"type": "string"},
                "description": "elastix parameter files to run instead of regflow's, in order",
                "default": [],
            },
        },
    ),
}
