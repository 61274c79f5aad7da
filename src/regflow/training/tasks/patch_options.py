"""Options and the check of the task that learns descriptors of patches: light, for the table."""

from collections.abc import Mapping
from typing import Any

from regflow.core.errors import InputError

PATCH_OPTIONS: dict[str, dict[str, Any]] = {
    "widths": {
        "type": "array",
        "items": {"type": "integer", "minimum": 4, "multipleOf": 4},
        "minItems": 3,
        "maxItems": 3,
        "description": "channels at 1/2, 1/4 and 1/8 of the resolution",
        "default": [24, 32, 32],
    },
    "numbers": {
        "type": "integer",
        "minimum": 2,
        "description": "of a descriptor",
        "default": 48,
    },
    "points": {
        "type": "integer",
        "minimum": 1,
        "description": "corners of a place that learn together, so that neighbors are told apart",
        "default": 8,
    },
    "scale": {
        "type": "number",
        "minimum": 1,
        "maximum": 2,
        "description": "largest factor of size either way between views of a corner and the scene's",
        "default": 1.08,
    },
    "turn": {
        "type": "number",
        "minimum": 0,
        "maximum": 180,
        "description": "largest rotation either way between them, degrees",
        "default": 5.0,
    },
    "margin": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "by how much nearer than the nearest other corner a partner has to be",
        "default": 1.0,
    },
}


def complete_patch_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be trained.

    Raises:
        InputError: other sources than bands, volumes, another size of patches than a network can have, or a
            network to start from.
    """
    if settings["ndim"] != 2:
        raise InputError(f"train: ndim: the task {settings['task']} is for scenes; set it to 2")
    if settings["side"] % 8:
        raise InputError(f"train: side: {settings['side']} is no multiple of 8; give one")
    if {name for name, share in settings["shares"].items() if share > 0} != {"bands"}:
        raise InputError(f"train: shares: the task {settings['task']} learns from bands alone: {{bands: 1}}")
    if settings["start_from"]:
        raise InputError(f"train: start_from: the task {settings['task']} begins from random weights")
    return dict(settings)
