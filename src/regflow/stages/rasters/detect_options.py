"""The settings of change detection and the limits of its verdict."""

from typing import Any

from regflow.core.json_schema import Schema, define_limits, define_section, fill_defaults
from regflow.methods.detect import METHODS
from regflow.methods.detect.thresholds import THRESHOLDS

LARGEST_RESIDUAL_PX = 1.0
"""Beyond it local gradients say nothing about displaced pixels."""

OPTIONS: dict[str, dict[str, Any]] = {
    "method": {
        "enum": [*METHODS, None],
        "description": "of telling change from noise; null: no change maps. "
        + "; ".join(f"{name}: {method.summary.rstrip('.')}" for name, method in METHODS.items()),
        "default": "ir-mad",
    },
    "pairs": {
        "enum": ["reference", "consecutive"],
        "description": "of a stack of dates: each date with the reference, or with the date before it",
        "default": "reference",
    },
    "bands": {
        "type": ["array", "null"],
        "items": {"type": ["integer", "string"]},
        "minItems": 1,
        "description": "bands to compare, by number or name; null takes those of the same name, or all "
        "where the scenes have as many and no names in common",
        "default": None,
    },
    "pixels": {
        "type": ["integer", "null"],
        "minimum": 1000,
        "description": "pixels, evenly spaced, from which the statistics come; null takes every pixel and "
        "reads the scenes once per round",
        "default": 4_000_000,
    },
    "threshold": {
        "enum": list(THRESHOLDS),
        "description": "what parts changed from unchanged pixels",
        "default": "chi-square",
    },
    "level": {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "description": "chi-square level: share of the unchanged pixels that is not marked",
        "default": 0.999,
    },
    "mapping_unit_px": {
        "type": "integer",
        "minimum": 1,
        "description": "minimum mapping unit: smaller groups of touching pixels are dropped",
        "default": 4,
    },
    "margin_px": {
        "type": "integer",
        "minimum": 0,
        "description": "pixels around nodata and clouds that are left out too",
        "default": 1,
    },
    "residual_px": {
        "type": ["number", "null"],
        "minimum": 0,
        "description": "largest remaining displacement; what it explains is marked as such. null takes the "
        "larger of the assessed CE95 and of what the scenes themselves show at their edges",
        "default": None,
    },
    "no_change": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "description": "no-change probability above which a pixel serves the radiometric normalization",
        "default": 0.9,
    },
    "normalized": {
        "type": "boolean",
        "description": "also write the second date in the first date's radiometry",
        "default": False,
    },
}

LIMITS: dict[str, dict[str, float]] = {
    "valid_percent": {"fail_below": 0.1, "warn_below": 10.0},
    "changed_percent": {"warn_above": 40.0},
    "explained_percent_of_changes": {"warn_above": 80.0},
    "registration_noise_px": {"warn_above": 0.5},
    "correlation_first": {"warn_below": 0.5},
    "converged": {"warn_below": 1.0},
    "no_change_weight_share": {"fail_below": 0.01, "warn_below": 0.1},
}
"""What the verdict looks at: above 40% changed, the unchanged ground no longer leads the statistics."""


def define_detect_schema() -> Schema:
    """Return the schema of the ``detect`` section of a configuration."""
    methods = {
        name: define_section(method.summary, **method.options)
        for name, method in METHODS.items()
        if method.options
    }
    return define_section(
        "change maps of aligned scenes",
        **OPTIONS,
        options=define_section("each method's own options, by its name", **methods),
        limits=define_limits(LIMITS),
    )


def complete_detect_options(**given: Any) -> dict[str, Any]:
    """Return a complete ``detect`` section: what is given, and the default of everything else."""
    return fill_defaults(OPTIONS, {"options": {}, "limits": {}, **given})
