"""Initializers: rigid and affine starts. One row per method; imports happen when one runs."""

from regflow.methods.table import Method

_HERE = "regflow.methods.initialize"

MODEL = {
    "enum": ["auto", "translation", "similarity", "affine", "homography"],
    "description": "what the windows may change when they polish the map; auto: a translation, similarity "
    "or affine map, as they demand",
    "default": "auto",
}

POSES = {
    "rotation_degrees": {
        "type": "number",
        "minimum": 0,
        "maximum": 180,
        "description": "largest rotation either way that is sought, on top of the georeference",
        "default": 180,
    },
    "scale": {
        "type": "number",
        "minimum": 1,
        "maximum": 4,
        "description": "largest factor of size either way that is sought, on top of the georeference",
        "default": 1.3,
    },
}

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
        variants={
            "rasters": Method(
                f"{_HERE}.header:header",
                "Trust the georeference.",
                options={
                    "centers": {
                        "type": "boolean",
                        "description": "lay the centers of the scenes on each other instead",
                        "default": False,
                    }
                },
                kinds=("rasters",),
            )
        },
    ),
    "phase-correlation": Method(
        f"{_HERE}.phase_correlation:phase_correlation",
        "Translation by phase correlation, coarse over all shifts and fine by coherent phases.",
        "Kuglin and Hines, Proc. Int. Conf. Cybernetics and Society, 163-165, 1975",
        {"model": MODEL},
        kinds=("rasters",),
    ),
    "edge-correlation": Method(
        f"{_HERE}.edge_correlation:edge_correlation",
        "Correlate directions of edges over rotations, scales and all shifts, whatever the contrast.",
        "Fitch et al., Orientation correlation, BMVC 2002",
        {
            "edges": {
                "enum": ["sobel", "canny"],
                "description": "all gradients by their local strength, or the thin lines of Canny's detector",
                "default": "sobel",
            },
            **POSES,
            "model": MODEL,
        },
        kinds=("rasters",),
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
