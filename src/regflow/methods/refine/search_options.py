"""Options and rows of the methods that seek large displacements, importable without numba."""

from typing import Any

from regflow.methods.matching.graph_options import KEYPOINT_GRAPH
from regflow.methods.table import Method

Options = dict[str, dict[str, Any]]

_FURTHER: dict[str, Any] = {
    "type": "object",
    "description": "options of that method in place of its defaults",
    "default": {},
}
_OF_VOLUMES: Options = {
    "search_mm": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "farthest displacement that is sought along an axis; null takes 20% of the fixed "
        "object's size, the diameter of a ball of its volume: 30 mm for a brain",
        "default": None,
    },
    "spacing_mm": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "spacing of the samples that are compared; null takes 1/72 of that size: 2 mm for a "
        "brain",
        "default": None,
    },
}
_OF_SCENES: Options = {
    "search_px": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "farthest displacement that is sought along an axis, in pixels of the working grid; "
        "null takes 10% of the fixed scene's longest side",
        "default": None,
    },
    "samples_across": {
        "type": "integer",
        "minimum": 64,
        "maximum": 2048,
        "description": "most samples along the longest side that are compared",
        "default": 512,
    },
}

DISCRETE: Options = {
    "shrink": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1},
        "minItems": 1,
        "description": "step between the displacements that each pass compares, and between its nodes, in "
        "working samples, coarsest first",
        "default": [3, 3, 2],
    },
    "reach": {
        "type": "integer",
        "minimum": 1,
        "maximum": 8,
        "description": "steps to either side that each pass after the first compares",
        "default": 2,
    },
    "couplings": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "minItems": 1,
        "description": "what a squared step away from the smooth field costs in each round, in units of the "
        "mean depth of the minima",
        "default": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
    },
    "field_sigma": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "smoothing of the field after each round, in nodes",
        "default": 1.2,
    },
    "consistency": {
        "type": "integer",
        "minimum": 0,
        "description": "rounds in which the fields from fixed to moving and back are made to undo each other",
        "default": 8,
    },
}

_SMOOTHING: dict[str, Any] = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "how stiff the spline through the matches is: well below 1 follows each of them",
    "default": 0.3,
}

GRAPH: Options = {**KEYPOINT_GRAPH, "smoothing": _SMOOTHING}

TRANSPORT: Options = {
    "count": {
        "type": "integer",
        "minimum": 50,
        "maximum": 4000,
        "description": "most keypoints of the fixed image; twice as many are sought in the moving one",
        "default": 700,
    },
    "rounds": {
        "type": "integer",
        "minimum": 1,
        "description": "transports, each from where the last one's field brings the points, over shorter "
        "distances",
        "default": 6,
    },
    "blur": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "how soft matches are, in units of what an ordinary match costs",
        "default": 0.05,
    },
    "reach": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "what leaving a point without a match costs, in the same units",
        "default": 0.5,
    },
    "smoothing": {**_SMOOTHING, "default": 1.0},
}


def make_search_row(
    target: str, about: tuple[str, str], options: Options, further: bool, **more: Any
) -> Method:
    """Return a row for volumes with its variant for scenes.

    Args:
        target: of the function.
        about: summary and citation.
        options: its own.
        further: whether another method goes on from the field unless told otherwise.
        more: of the row.
    """
    refinement = {
        kind: {
            "enum": ["none", *methods],
            "description": "method that goes on from the field; none takes it as it is",
            "default": methods[0] if further else "none",
        }
        for kind, methods in (("volumes", ["greedy"]), ("rasters", ["dense", "tie-points"]))
    }
    device = {
        "enum": ["auto", "cpu", "cuda"],
        "description": "where that method computes; auto takes a GPU where there is one, and waits for a "
        "busy one",
        "default": "auto",
    }
    scenes = {**_OF_SCENES, **options, "refinement": refinement["rasters"], "refinement_options": _FURTHER}
    volumes = {**_OF_VOLUMES, **options, "refinement": refinement["volumes"], "refinement_options": _FURTHER}
    variant = Method(target, *about, scenes, kinds=("rasters",))
    return Method(
        target, *about, {**volumes, "device": device}, gpu=True, variants={"rasters": variant}, **more
    )
