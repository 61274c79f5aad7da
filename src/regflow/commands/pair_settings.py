"""The options of ``regflow register`` as sections of a configuration."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regflow.commands.settings import OF_A_STUDY, Part, checked_options, read_assignments, read_settings
from regflow.config.presets import merged, preset_settings
from regflow.core.errors import InputError

if TYPE_CHECKING:
    from regflow.methods.table import Method

_NOT_OF_A_PAIR = ("kind", "detect", *OF_A_STUDY)
_FREEDOMS = ("transform", "model")
"""Options by which linear methods name the kind of transform that they seek."""


def pair_settings(given: Mapping[str, Any], kind: str, preset: str) -> Part:
    """Return all that the options of ``regflow register`` say of the configuration, to lay on a preset.

    The file of ``--config`` lies lowest, the command's own options on it, and ``--set`` on top.

    Args:
        given: the options by their names in Python.
        kind: ``volumes`` or ``rasters``.
        preset: its name.

    Raises:
        InputError: a key or a value is wrong; the message begins with the file or option that holds it.
    """
    from regflow.config.loading import known_sections

    sections = [name for name in known_sections(kind) if name not in _NOT_OF_A_PAIR]
    file = read_settings(given["config"], kind, sections, "register") if given["config"] else {}
    own = checked_options(_own(given, kind), kind)
    assigned = read_assignments(given["assignments"], kind, sections, "register")
    if given["transform"]:
        chosen = merged(merged(merged(preset_settings(preset, kind), file), own), assigned)
        free = any("methods" in part.get("initialize", {}) for part in (file, own, assigned))
        linear = linear_settings(given["transform"], chosen, kind, ladder_is_given=free)
        file = merged(file, linear)
    return merged(merged(file, own), assigned)


def linear_settings(transform: str, chosen: Mapping[str, Any], kind: str, *, ladder_is_given: bool) -> Part:
    """Return the settings by which a registration ends with one kind of linear transform.

    Each linear method of the ladder that may choose is told which transform to seek, and nothing is
    deformed. Methods of a ladder that nobody gave are left out where they seek other kinds only.

    Args:
        transform: ``rigid``, ``affine`` ...
        chosen: a part of a configuration, in which the ladder is looked up.
        kind: ``volumes`` or ``rasters``.
        ladder_is_given: whether ``chosen`` has its ladder from the user.

    Raises:
        InputError: a given ladder has methods, or a preset's ladder has nothing but methods, that do
            not seek this kind.
    """
    from regflow.config.loading import defaults
    from regflow.methods.initialize import METHODS
    from regflow.methods.refine import NO_DEFORMATION
    from regflow.methods.table import of_kind

    table = of_kind(METHODS, kind)
    ladder = chosen.get("initialize", {}).get("methods") or defaults(kind)["initialize"]["methods"]
    freedoms = {name: _freedom(table[name]) for name in ladder}
    kept = [name for name, freedom in freedoms.items() if freedom is None or transform in freedom[1]]
    options = {name: {found[0]: transform} for name in kept if (found := freedoms[name]) is not None}
    if (ladder_is_given and len(kept) < len(ladder)) or not kept:
        unfit = next(name for name in ladder if name not in kept)
        known = freedoms[unfit]
        offers = ", ".join(known[1]) if known else ""
        raise InputError(f"--transform {transform}: '{unfit}' seeks no such transform, but one of: {offers}")
    return {"initialize": {"methods": kept, "options": options}, "refine": {"methods": [NO_DEFORMATION]}}


def _freedom(method: "Method") -> tuple[str, list[str]] | None:
    """Return the option by which a method names its kind of transform, and the kinds; None without one."""
    for option in _FREEDOMS:
        if option in method.options:
            return option, [str(kind) for kind in method.options[option]["enum"]]
    return None


def _own(given: Mapping[str, Any], kind: str) -> dict[str, Part]:
    """Return the settings that the command's own options stand for, by option."""
    parts: dict[str, Part] = {
        f"--{stage}": {stage: {"methods": [name.strip() for name in given[stage].split(",")]}}
        for stage in ("initialize", "refine")
        if given[stage] is not None
    }
    if given["seed"] is not None:
        parts["--seed"] = {"seed": given["seed"]}
    if given["interpolation"]:
        parts["--interpolation"] = {"apply": _interpolation(given["interpolation"], kind)}
    if given["representation"]:
        parts["--representation"] = {"preprocess": {"representation": {"method": given["representation"]}}}
    if given["masks"]:
        parts["--masks"] = {"refine": {"options": _masks(given["masks"], kind)}}
    if given["inverse_image"] and kind == "volumes":
        parts["--inverse-image"] = {"apply": {"inverse": True}}
    return parts


def _interpolation(name: str, kind: str) -> Part:
    if kind == "volumes":
        return {"interpolation": name}
    return {"resampling": {"linear": "bilinear"}.get(name, name)}


def _masks(which: str, kind: str) -> Part:
    """Return the option ``masks`` for each deformable method that has it, by itself or in its polish."""
    from regflow.methods.refine import METHODS
    from regflow.methods.table import of_kind

    table = of_kind(METHODS, kind)
    by_itself = {name: {"masks": which} for name, method in table.items() if "masks" in method.options}
    behind = {
        name: {"polish_options": {"masks": which}}
        for name, method in table.items()
        if "polish_options" in method.options
    }
    return merged(by_itself, behind)
