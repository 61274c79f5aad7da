"""Options of the refinement by label maps: light, for the table and the schema."""

from typing import Any

from regflow.methods.refine.greedy_options import GREEDY

SEGMENTATION: dict[str, dict[str, Any]] = {
    "weight": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "how much structures' borders count beside the intensities",
        "default": 3.0,
    },
    "reach_percent": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "distance from a border up to which it steers, in percent of the labeled object's "
        "longest side",
        "default": 3.0,
    },
    **GREEDY,
}
