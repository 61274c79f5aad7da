"""Options of the method ``optical-flow``, importable without OpenCV."""

from typing import Any

OPTICAL_FLOW: dict[str, dict[str, Any]] = {
    "engine": {
        "enum": ["tv-l1", "dis"],
        "description": "tv-l1: total variation and absolute differences; dis: dense inverse search of "
        "patches, faster and on 256 gray values",
        "default": "tv-l1",
    },
    "attachment": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "tv-l1: weight of the images' difference against the field's variation; smaller is "
        "smoother",
        "default": 0.15,
    },
    "tightness": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "tv-l1: how tightly the two halves of the problem are coupled",
        "default": 0.3,
    },
    "warps": {
        "type": "integer",
        "minimum": 1,
        "description": "tv-l1: how often the moving image is warped at each level of the pyramid",
        "default": 5,
    },
    "iterations": {
        "type": "integer",
        "minimum": 1,
        "description": "tv-l1: most iterations after each warping",
        "default": 150,
    },
    "preset": {
        "enum": ["ultrafast", "fast", "medium"],
        "description": "dis: how densely patches are laid and how often they are refined",
        "default": "medium",
    },
    "field_sigma": {
        "type": "number",
        "minimum": 0,
        "description": "smoothing of the field in the end, in samples",
        "default": 2.0,
    },
    "match_histograms": {
        "type": "boolean",
        "description": "bring the moving image's histogram to the fixed one's first",
        "default": True,
    },
}
