"""Presets: named parts of a configuration, for what a user knows of a pair and of the time there is."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from regflow.core.errors import InputError
from regflow.core.names import find_nearest_name


@dataclass(frozen=True)
class Preset:
    """A part of a configuration.

    Attributes:
        summary: when to take it, and what it does.
        settings: what differs from the configuration's defaults.
    """

    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def _volumes_refined(iterations: list[int]) -> dict[str, Any]:
    """Return the iterations of the greedy engine, behind the network and by itself."""
    options = {"iterations": iterations}
    return {"refine": {"options": {"voxelmorph": {"refinement_options": options}, "greedy": options}}}


def _tie_points(**options: Any) -> dict[str, Any]:
    return {"refine": {"options": {"tie-points": options}}}


PRESETS: dict[str, dict[str, Preset]] = {
    "volumes": {
        "fast": Preset(
            "deforms at half resolution and measures no surface distances",
            {
                **_volumes_refined([50, 50, 0]),
                "assess": {"surfaces": False},
            },
        ),
        "default": Preset("the configuration's defaults"),
        "accurate": Preset(
            "iterates twice as long",
            _volumes_refined([100, 100, 20]),
        ),
    },
    "rasters": {
        "default": Preset("the configuration's defaults: every way in turn, until one holds"),
        "same-sensor": Preset(
            "like bands of one sensor, weeks apart: brightness itself is compared, and where that does not "
            "hold the pair does not pass",
            {
                "initialize": {"methods": ["phase-correlation", "gradient-correlation", "sift"]},
                **_tie_points(channels="intensity"),
            },
        ),
        "other-dates": Preset(
            "other seasons and years, crops and snow between them: larger windows, which look past what "
            "changed and need not be as alike",
            _tie_points(window_px=81, min_correlation=0.25),
        ),
        "other-sensor": Preset(
            "radar, thermal, indices, maps, far-off bands: directions of edges are compared, in larger "
            "windows that need not be as alike",
            {
                "initialize": {"methods": ["hypotheses", "edge-correlation", "mutual-information"]},
                **_tie_points(
                    channels="gradients", window_px=81, min_correlation=0.2, max_forward_backward_px=1.0
                ),
            },
        ),
        "microscopy": Preset(
            "slides and sections, without georeference: keypoints find any turn and size, then many small "
            "windows follow what stretched",
            {
                "initialize": {"methods": ["sift", "xfeat", "mutual-information"]},
                **_tie_points(spacing_px=24, window_px=33, search_px=32),
            },
        ),
    },
}
"""By kind of image and name."""


def load_preset(name: str, kind: str = "volumes") -> dict[str, Any]:
    """Return a preset's part of a configuration.

    Args:
        name: of the preset.
        kind: ``volumes`` or ``rasters``.

    Raises:
        InputError: there is no such preset; the message names the nearest one.
    """
    presets = PRESETS[kind]
    if name not in presets:
        known = ", ".join(presets)
        near = find_nearest_name(name, presets)
        raise InputError(f"unknown preset '{name}'; did you mean '{near}'? Those of {kind}: {known}")
    return deepcopy(dict(presets[name].settings))


def merge_settings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on it, section by section; lists are replaced whole."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge_settings(result[key], value) if both else value
    return result
