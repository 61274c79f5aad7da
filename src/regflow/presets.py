"""Presets: named parts of a configuration that trade time for accuracy."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from regflow.core.errors import InputError
from regflow.core.names import nearest

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"refine": {"options": {"greedy": {"iterations": [100, 50, 0]}}}, "assess": {"surfaces": False}},
    "default": {},
    "accurate": {"refine": {"options": {"greedy": {"iterations": [150, 100, 40]}}}},
}
"""By name, what differs from the configuration's defaults: ``fast`` deforms at half resolution and
measures no surface distances, ``accurate`` iterates two to three times as long."""


def preset_settings(name: str) -> dict[str, Any]:
    """Return a preset's part of a configuration.

    Raises:
        InputError: there is no such preset; the message names the nearest one.
    """
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(f"unknown preset '{name}'; did you mean '{nearest(name, PRESETS)}'? Known: {known}")
    return deepcopy(PRESETS[name])


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on it, section by section; lists are replaced whole."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result
