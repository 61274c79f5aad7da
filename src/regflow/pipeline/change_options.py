"""What a user says of a change detection: as the ``detect`` section, and as the scenes to compare."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regflow.cohort.rasters.samples import parse_bands, parse_mask_values, parse_nodata
from regflow.config.loading import check_parts, load_config
from regflow.config.presets import merge_settings
from regflow.core.addresses import redact_address
from regflow.core.errors import InputError
from regflow.stages.rasters.detect_inputs import DatedScene
from regflow.stages.rasters.views import list_excluded_values

_KEYS = ("method", "pairs", "threshold", "level", "mapping_unit_px", "residual_px")


def make_change_config(
    given: Mapping[str, Any],
    *,
    below: Mapping[str, Any] | None = None,
    above: Mapping[str, Any] | None = None,
    spelled: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Return the complete ``detect`` section.

    Args:
        given: ``method``, ``pairs``, ``threshold``, ``level``, ``mapping_unit_px``, ``residual_px``,
            ``bands``, ``indices``, ``normalized`` and ``all_pixels``; None where not given.
        below: sections that these options override.
        above: sections that override these options.
        spelled: how the user wrote an option of a name.

    Raises:
        InputError: a key or a value is wrong, or no method is left.
    """
    own = check_parts({spelled(name): {"detect": part} for name, part in _own(given).items()}, "rasters")
    chosen = merge_settings(merge_settings(below or {}, own), above or {})
    settings: dict[str, Any] = load_config({"kind": "rasters", **chosen}, with_samples=False)["detect"]
    if settings["method"] is None:
        raise InputError(
            f"detect.method is null, but detecting changes needs one; name one by {spelled('method')}"
        )
    return settings


def check_counts(given: Mapping[str, Any], count: int, spelled: Callable[[str], str] = str) -> None:
    """Refuse fewer than two scenes, and ``masks`` and ``dates`` that are given, but not one for each scene.

    Raises:
        InputError: naming the first.
    """
    if count < 2:
        raise InputError("detect compares scenes: name two or more")
    for name in ("masks", "dates"):
        if given[name] and len(given[name]) != count:
            raise InputError(
                f"{spelled(name)} is given {len(given[name])} times for {count} scenes; give one for each"
            )


def parse_dated_scenes(paths: Sequence[str], given: Mapping[str, Any]) -> list[DatedScene]:
    """Return scenes to compare.

    Args:
        paths: the rasters.
        given: ``masks`` and ``dates``, one for each scene or none; ``mask_values`` and ``nodata`` of all.

    Raises:
        InputError: a number of masks or dates that does not fit, or another form of the others.
    """
    check_counts(given, len(paths))
    masks, dates = (list(given[name] or ()) or [None] * len(paths) for name in ("masks", "dates"))
    quality, nodata = parse_mask_values(given["mask_values"]), parse_nodata(given["nodata"])
    names = _names([redact_address(path) for path in paths])
    return [
        DatedScene(path, name, date, nodata, mask, list_excluded_values(quality, mask))
        for path, name, date, mask in zip(paths, names, dates, masks, strict=True)
    ]


def _own(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings that a user's options stand for, by option."""
    parts = {name: {name: given[name]} for name in _KEYS if given[name] is not None}
    if given["normalized"]:
        parts["normalized"] = {"normalized": True}
    if given["bands"]:
        parts["bands"] = {"bands": list(parse_bands(given["bands"]))}
    if given["all_pixels"]:
        parts["all_pixels"] = {"pixels": None}
    if given["indices"]:
        pairs = [list(pair) for pair in given["indices"]]
        parts["indices"] = {"options": _of_methods_with("indices", pairs)}
    return parts


def _of_methods_with(option: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return an option's value for each method that has it."""
    from regflow.methods.detect import METHODS

    return {name: {option: value} for name, method in METHODS.items() if option in method.options}


def _names(scenes: Sequence[str]) -> list[str]:
    """Return a name for each scene, with its folder's where file names repeat."""
    stems = [Path(path).stem for path in scenes]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{Path(path).parent.name}-{stem}" for path, stem in zip(scenes, stems, strict=True)]
