"""Options of matching keypoints as a graph, importable without numba."""

from typing import Any

KEYPOINT_GRAPH: dict[str, dict[str, Any]] = {
    "count": {
        "type": "integer",
        "minimum": 50,
        "maximum": 4000,
        "description": "most keypoints of the fixed image; twice as many are sought in the moving one",
        "default": 1200,
    },
    "candidates": {
        "type": "integer",
        "minimum": 1,
        "maximum": 40,
        "description": "moving keypoints that each fixed one may be matched with, the most alike",
        "default": 16,
    },
    "neighbors": {
        "type": "integer",
        "minimum": 2,
        "maximum": 30,
        "description": "nearest keypoints that each one is joined with",
        "default": 10,
    },
    "solver": {
        "enum": ["belief-propagation", "spectral"],
        "description": "how the graph is matched: min-sum belief propagation, or the principal eigenvector "
        "of the agreements",
        "default": "belief-propagation",
    },
    "strain": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "change of displacement per distance at which neighbors count as not moving alike",
        "default": 0.5,
    },
}
