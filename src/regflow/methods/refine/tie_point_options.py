"""Options of the tie-point refiner: light, for the table and the schema."""

from typing import Any

TIE_POINTS: dict[str, dict[str, Any]] = {
    "spacing_px": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "distance of the tie points in pixels of the working grid; null chooses it from "
        "the size: 64 up to 3,500 pixels, then 55 points along the longer side",
        "default": None,
    },
    "window_px": {
        "type": "integer",
        "minimum": 9,
        "maximum": 255,
        "description": "side of the windows that are compared, in pixels of the working grid",
        "default": 49,
    },
    "search_px": {
        "type": "integer",
        "minimum": 4,
        "maximum": 256,
        "description": "farthest that a point may lie from where the initial transform puts it",
        "default": 16,
    },
    "channels": {
        "enum": ["auto", "intensity", "inverted", "gradients"],
        "description": "what is compared: intensities (like contrast), those of the inverted moving "
        "scene, oriented gradients (other sensors), or whichever agrees best in the data at hand",
        "default": "auto",
    },
    "field": {
        "enum": ["b-spline", "thin-plate"],
        "description": "what the displacement field is made of: a smoothing cubic B-spline on a lattice, or "
        "smoothing thin-plate splines whose knots are tie points, 300 at most, for few or scattered points",
        "default": "b-spline",
    },
    "field_spacing_px": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "distance of the control points of the B-spline; null is that of the tie points",
        "default": None,
    },
    "min_correlation": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "correlation of the windows below which a point is an outlier",
        "default": 0.4,
    },
    "min_reliability_percent": {
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "description": "reliability below which a point is an outlier",
        "default": 50.0,
    },
    "max_forward_backward_px": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "distance between a point and its match's match above which it is an outlier",
        "default": 0.5,
    },
}
