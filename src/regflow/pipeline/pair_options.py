"""What a user says of one pair: as sections of a configuration, and as the sample that is registered."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.rasters.samples import (
    FixedScene,
    RasterSample,
    Scene,
    parse_bands,
    parse_mask_values,
    parse_nodata,
)
from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.config.loading import check_parts, load_defaults
from regflow.config.presets import load_preset, merge_settings
from regflow.core.errors import InputError

if TYPE_CHECKING:
    from regflow.methods.table import Method

Part = dict[str, Any]
"""Some sections of a configuration, each with some of its keys."""

ONLY_VOLUMES = (
    *("fixed_labels", "moving_labels", "fixed_landmarks", "moving_landmarks"),
    *("modality", "fixed_modality", "volume", "masks"),
)
ONLY_RASTERS = (
    *("bands", "fixed_bands", "nodata", "fixed_nodata", "mask_values", "fixed_mask_values"),
    *("representation", "classes", "truth", "landmarks"),
)
_FREEDOMS = ("transform", "model")
"""Options by which linear methods name the kind of transform that they seek."""


def refuse_other_kind(given: Mapping[str, Any], kind: str, spelled: Callable[[str], str] = str) -> None:
    """Refuse options that are given and are for the other kind of images only.

    Args:
        given: the options by name.
        kind: ``volumes`` or ``rasters``.
        spelled: how the user wrote an option of a name.

    Raises:
        InputError: naming the first.
    """
    for name in ONLY_VOLUMES if kind == "rasters" else ONLY_RASTERS:
        value = given[name]
        if value is not None and not (isinstance(value, (tuple, Mapping)) and not value):
            raise InputError(f"{spelled(name)} is not for {kind}; leave it out")


def make_pair_config(
    given: Mapping[str, Any],
    kind: str,
    preset: str,
    *,
    below: Mapping[str, Any] | None = None,
    above: Mapping[str, Any] | None = None,
    spelled: Callable[[str], str] = str,
) -> Part:
    """Return all that a user says of the configuration, to lay on a preset.

    Args:
        given: ``initialize``, ``refine`` (names, or one text with commas), ``transform``, ``seed``,
            ``interpolation``, ``representation``, ``masks`` and ``inverse_image``; None where not given.
        kind: ``volumes`` or ``rasters``.
        preset: its name.
        below: sections that these options override.
        above: sections that override these options.
        spelled: how the user wrote an option of a name.

    Raises:
        InputError: a value is wrong; the message begins with the option.
    """
    below, above = below or {}, above or {}
    own = check_parts({spelled(name): part for name, part in _own(given, kind).items()}, kind)
    if given["transform"]:
        chosen = merge_settings(merge_settings(merge_settings(load_preset(preset, kind), below), own), above)
        free = any("methods" in part.get("initialize", {}) for part in (below, own, above))
        name = spelled("transform")
        below = merge_settings(
            below, make_linear_settings(given["transform"], chosen, kind, ladder_is_given=free, name=name)
        )
    return merge_settings(merge_settings(below, own), above)


def make_linear_settings(
    transform: str, chosen: Mapping[str, Any], kind: str, *, ladder_is_given: bool, name: str = "transform"
) -> Part:
    """Return the settings by which a registration ends with one kind of linear transform.

    Each linear method of the ladder that may choose is told which transform to seek, and nothing is
    deformed. Methods of a ladder that nobody gave are left out where they seek other kinds only.

    Args:
        transform: ``rigid``, ``affine`` ...
        chosen: a part of a configuration, in which the ladder is looked up.
        kind: ``volumes`` or ``rasters``.
        ladder_is_given: whether ``chosen`` has its ladder from the user.
        name: of the option, for messages.

    Raises:
        InputError: a given ladder has methods, or a preset's ladder has nothing but methods, that do
            not seek this kind.
    """
    from regflow.methods.initialize import METHODS
    from regflow.methods.refine import NO_DEFORMATION
    from regflow.methods.table import list_methods_of_kind

    table = list_methods_of_kind(METHODS, kind)
    ladder = chosen.get("initialize", {}).get("methods") or load_defaults(kind)["initialize"]["methods"]
    freedoms = {method: _freedom(table[method]) for method in ladder}
    kept = [method for method, freedom in freedoms.items() if freedom is None or transform in freedom[1]]
    options = {method: {found[0]: transform} for method in kept if (found := freedoms[method]) is not None}
    if (ladder_is_given and len(kept) < len(ladder)) or not kept:
        unfit = next(method for method in ladder if method not in kept)
        known = freedoms[unfit]
        offers = ", ".join(known[1]) if known else ""
        raise InputError(f"{name} {transform}: '{unfit}' seeks no such transform, but one of: {offers}")
    return {"initialize": {"methods": kept, "options": options}, "refine": {"methods": [NO_DEFORMATION]}}


def make_volume_pair(fixed: str, moving: str, given: Mapping[str, Any]) -> VolumeSample:
    """Return a pair of volumes.

    Args:
        fixed: the fixed volume's file.
        moving: the moving volume's file.
        given: the options by name, files as paths; ``companions`` maps names to files.
    """
    atlas = FixedVolume(
        "fixed",
        fixed,
        given["fixed_mask"],
        given["fixed_labels"],
        given["fixed_landmarks"],
        given["fixed_modality"],
    )
    return VolumeSample(
        sample=re.split(r"\.nii|\.[^.]*$", Path(moving).name)[0] or "moving",
        moving=moving,
        fixed=atlas,
        companions=dict(given["companions"] or {}),
        modality=given["modality"],
        volume=given["volume"],
        **{name: given[name] for name in ("moving_mask", "moving_labels", "moving_landmarks")},
        fixed_landmarks=given["fixed_landmarks"],
    )


def make_scene_pair(fixed: str, moving: str, given: Mapping[str, Any]) -> RasterSample:
    """Return a pair of scenes; the arguments are those of :func:`make_volume_pair`.

    Raises:
        InputError: mask values or nodata have another form.
    """
    scenes = [
        Scene(
            path,
            bands=parse_bands(given[f"{side}bands"]),
            nodata=parse_nodata(given[f"{side}nodata"]),
            mask=given["moving_mask" if not side else "fixed_mask"],
            quality=parse_mask_values(given[f"{side}mask_values"]),
        )
        for path, side in ((moving, ""), (fixed, "fixed_"))
    ]
    return RasterSample(
        Path(scenes[0].image).name.split(".")[0] or "moving",
        scenes[0],
        FixedScene("fixed", scenes[1]),
        companions=dict(given["companions"] or {}),
        classes=dict(given["classes"] or {}),
        truth=given["truth"],
        landmarks=given["landmarks"],
    )


def describe_pair(sample: Any, kind: str) -> dict[str, Any]:
    """Return what a sample of a cohort says of its pair, by the names of :func:`make_volume_pair`."""
    if kind == "volumes":
        fixed = {f"fixed_{name}": getattr(sample.fixed, name) for name in ("mask", "labels", "modality")}
        own = ("moving_mask", "moving_labels", "moving_landmarks", "modality", "volume", "fixed_landmarks")
        return {**fixed, **{name: getattr(sample, name) for name in own}}
    scenes = {"": sample.scene, "fixed_": sample.fixed.scene}
    found: dict[str, Any] = {}
    for side, scene in scenes.items():
        found[f"{side}bands"] = list(scene.bands)
        found[f"{side}nodata"] = {"file": None, None: "none"}.get(scene.nodata, scene.nodata)
        found[f"{side}mask_values"] = [*scene.quality.values, *(f"bit{bit}" for bit in scene.quality.bits)]
        found[f"{side or 'moving_'}mask"] = scene.mask
    return {**found, "landmarks": sample.landmarks}


def _freedom(method: "Method") -> tuple[str, list[str]] | None:
    """Return the option by which a method names its kind of transform, and the kinds; None without one."""
    for option in _FREEDOMS:
        if option in method.options:
            return option, [str(kind) for kind in method.options[option]["enum"]]
    return None


def _own(given: Mapping[str, Any], kind: str) -> dict[str, Part]:
    """Return the settings that a user's options stand for, by option."""
    parts: dict[str, Part] = {
        stage: {stage: {"methods": list(parse_bands(given[stage]))}}
        for stage in ("initialize", "refine")
        if given[stage] is not None
    }
    if given["seed"] is not None:
        parts["seed"] = {"seed": given["seed"]}
    if given["interpolation"]:
        parts["interpolation"] = {"apply": _interpolation(given["interpolation"], kind)}
    if given["representation"]:
        parts["representation"] = {"preprocess": {"representation": {"method": given["representation"]}}}
    if given["masks"]:
        parts["masks"] = {"refine": {"options": _masks(given["masks"], kind)}}
    if given["inverse_image"] and kind == "volumes":
        parts["inverse_image"] = {"apply": {"inverse": True}}
    return parts


def _interpolation(name: str, kind: str) -> Part:
    if kind == "volumes":
        return {"interpolation": name}
    return {"resampling": {"linear": "bilinear"}.get(name, name)}


def _masks(which: str, kind: str) -> Part:
    """Return the option ``masks`` for each deformable method that has it, by itself or in its refinement."""
    from regflow.methods.refine import METHODS
    from regflow.methods.table import list_methods_of_kind

    table = list_methods_of_kind(METHODS, kind)
    by_itself = {name: {"masks": which} for name, method in table.items() if "masks" in method.options}
    behind = {
        name: {"refinement_options": {"masks": which}}
        for name, method in table.items()
        if "refinement_options" in method.options
    }
    return merge_settings(by_itself, behind)
