"""What commands on one pair say of it: options of its images, and sections of a configuration."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from regflow.commands.settings import OF_A_STUDY, Part, read_assignments, read_settings, spell_option

_NOT_OF_A_PAIR = ("kind", "detect", *OF_A_STUDY)
_FILES = {
    "--fixed-mask": "Where the fixed image may steer the registration.",
    "--moving-mask": "Where the moving image may steer it; of scenes, a quality mask.",
    "--fixed-labels": "Structures of the fixed image, for Dice and surface distances.",
    "--moving-labels": "Structures of the moving image; they are warped as well.",
    "--fixed-landmarks": "Partners of the moving landmarks: they measure the error, or drive 'landmarks'.",
    "--moving-landmarks": "Points of the moving image: .csv (x,y,z in LPS mm), .fcsv, .mrk.json.",
    "--landmarks": "Of scenes, pairs of points: QGIS' .points, or fixed_x,fixed_y,moving_x,moving_y.",
}
_WORDS = {
    "--modality": "Of the moving image: T1w, T2w, CT ...",
    "--fixed-modality": "Of the fixed image.",
    "--volume": "Which volume of a 4-D moving file, from 0, or which DICOM series.",
    "--bands": "Of the moving scene, to match on: 'B04' or '4,3'  [default: named as the fixed one's, or "
    "first].",
    "--fixed-bands": "Of the fixed scene.",
    "--nodata": "Of the moving scene: a number, nan or none  [default: as declared].",
    "--fixed-nodata": "Of the fixed scene.",
    "--mask-values": "Of the moving mask, that exclude a pixel: '3, 8-10' or 'bit1, bit3'.",
    "--fixed-mask-values": "Of the fixed mask.",
}

Command = TypeVar("Command", bound=Callable[..., Any])


def add_pair_options(command: Command) -> Command:
    """Give a command the options that say of two images how they are read and what belongs to them."""
    options = [click.option(name, metavar="FILE", help=text) for name, text in _FILES.items()]
    options += [click.option(name, help=text) for name, text in _WORDS.items()]
    for option in reversed(options):
        command = option(command)
    return command


def parse_volume(given: str | None) -> int | str | None:
    """Return which volume of a file is meant: a number from 0, or the name of a series."""
    return int(given) if given is not None and given.isdigit() else given


def read_pair_settings(given: Mapping[str, Any], kind: str, preset: str) -> Part:
    """Return all that the options of ``regflow register`` say of the configuration, to lay on a preset.

    The file of ``--config`` lies lowest, the command's own options on it, and ``--set`` on top.

    Args:
        given: the options by their names in Python.
        kind: ``volumes`` or ``rasters``.
        preset: its name.

    Raises:
        InputError: a key or a value is wrong; the message begins with the file or option that holds it.
    """
    from regflow.config.loading import list_sections
    from regflow.pipeline.pair_options import make_pair_config

    sections = [name for name in list_sections(kind) if name not in _NOT_OF_A_PAIR]
    file = read_settings(given["config"], kind, sections, "register") if given["config"] else {}
    assigned = read_assignments(given["assignments"], kind, sections, "register")
    return make_pair_config(given, kind, preset, below=file, above=assigned, spelled=spell_option)
