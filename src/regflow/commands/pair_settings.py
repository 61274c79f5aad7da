"""The options of ``regflow register`` as sections of a configuration."""

from collections.abc import Mapping
from typing import Any

from regflow.commands.settings import OF_A_STUDY, Part, read_assignments, read_settings, spell_option

_NOT_OF_A_PAIR = ("kind", "detect", *OF_A_STUDY)


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
