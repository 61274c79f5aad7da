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
            "orientations": {
                "enum": ["all", "near", "header"],
                "description": "starting orientations: all there are, those within 60 degrees of the "
                "header's, or the header's alone",
                "default": "all",
            },
            "starts": {
                "type": "integer",
                "minimum": 1,
                "description": "most promising starting poses that are optimized at the coarsest spacing",
                "default": 16,
            },
            "samples_across": {
                "type": "array",
                "items": {"type": "integer", "minimum": 8},
                "minItems": 1,
                "description": "samples along the longest side of the fixed mask, for the search and for "
                "each finer step; never more than the image has",
                "default": [24, 48, 96],
            },
            "bins": {
                "type": "integer",
                "minimum": 8,
                "description": "bins of the joint histogram",
                "default": 32,
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
