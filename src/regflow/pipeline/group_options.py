"""What a user says of a group of images: sections of the configuration, and lists of one entry for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regflow.config.loading import check_part, load_config
from regflow.config.presets import load_preset, merge_settings
from regflow.core.errors import InputError


def check_group_sections(group: str, sections: Sequence[str], chosen: Mapping[str, Any], kind: str) -> None:
    """Refuse sections that a group of images does not read, and wrong keys and values.

    Args:
        group: what it is, as ``a series``.
        sections: those that it reads.
        chosen: what a user says, by section.
        kind: ``volumes`` or ``rasters``.

    Raises:
        InputError: one sentence that says what to do.
    """
    others = [name for name in chosen if name not in (*sections, "seed", "kind")]
    if others:
        raise InputError(f"{group} reads {', '.join(sections)}, but not '{others[0]}'; leave that out")
    check_part("the configuration", chosen, kind)


def complete_group_settings(
    chosen: Mapping[str, Any], kind: str, preset: str, seed: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the complete configuration of a group of images, and what of it a preset and a user say.

    Args:
        chosen: sections that replace the preset's, key by key.
        kind: ``volumes`` or ``rasters``.
        preset: its name.
        seed: of every random choice; the sections' own when None.
    """
    stated = merge_settings(load_preset(preset, kind), chosen)
    own = {} if seed is None else {"seed": seed}
    return load_config({"kind": kind, "samples": "images", **stated, **own}), stated


def lay_arguments(
    config: Mapping[str, Any] | None, arguments: Mapping[str, Any], others: Sequence[str]
) -> dict[str, Any]:
    """Return a section of the configuration with a function's arguments laid on it; paths become text.

    Args:
        config: the section; None for nothing.
        arguments: of the function by name, ``config`` among them; those that are None say nothing.
        others: names of those that are no keys of the section.
    """
    own = {name: value for name, value in arguments.items() if value is not None and name not in others}
    own.pop("config", None)
    settings = {**(config or {}), **own}
    return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}


def check_count(name: str, given: Sequence[Any] | None, count: int) -> None:
    """Refuse a list that has not one entry for each image.

    Raises:
        InputError: it has more or fewer.
    """
    if given is not None and len(given) != count:
        raise InputError(f"{name} has {len(given)} entries for {count} images; give one for each")
