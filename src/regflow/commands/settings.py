"""Settings of the configuration on the command line: ``--config FILE`` and ``--set KEY=VALUE``.

Commands that take both lay them around their own options: a file's settings lie under the options, and
what ``--set`` says lies on top. Each part is checked by the configuration's schema by itself, so that a
mistake is told with the file or the option that holds it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from regflow.config.presets import merge_settings
from regflow.core.errors import InputError

Part = dict[str, Any]
"""Some sections of a configuration, each with some of its keys."""

OF_A_STUDY = (
    *("samples", "bids", "stac", "output", "jobs", "keep", "fixed", "atlases", "references"),
    *("template", "series", "mosaic", "stack", "compare", "train"),
)
"""What a cohort's configuration says beside the settings of its stages."""

Command = TypeVar("Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings: a YAML file with sections of the configuration.",
)
study_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=Path("config/config.yaml"),
    show_default=True,
    help="The study's configuration; paths in it count from the current folder.",
)
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="One setting: its key with dots, its value in YAML; repeat it. It overrides all else.",
)


class NumberList(click.ParamType):
    """Numbers with commas between them.

    Attributes:
        parse: of one number: ``int`` or ``float``.
        example: how such a list is written.
    """

    name = "numbers"

    def __init__(self, parse: Callable[[str], float], example: str) -> None:
        self.parse, self.example = parse, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Return the numbers."""
        try:
            return [self.parse(part) for part in str(value).split(",")]
        except ValueError:
            numbers = "whole numbers" if self.parse is int else "numbers"
            self.fail(f"'{value}' is no list of {numbers}; write {self.example}", param, ctx)


def add_setting_options(command: Command) -> Command:
    """Give a command the options ``--config`` and ``--set``, as ``config`` and ``assignments``."""
    return config_option(set_option(command))


def read_settings(config: Path, kind: str, sections: Sequence[str], command: str) -> Part:
    """Return the settings of a file.

    Args:
        config: a YAML file.
        kind: ``volumes`` or ``rasters``; the file may leave it out.
        sections: those that the command reads.
        command: its name, for messages.

    Raises:
        InputError: one sentence for each problem, which begins with the file.
    """
    from regflow.config.loading import check_part, drop_empty_sections, read_keys

    content = read_keys(
        config,
        if_missing="name a YAML file with sections such as 'refine'",
        if_empty="write sections such as 'refine: {methods: [greedy]}'",
    )
    of = content.pop("kind", None) or kind
    if of != kind:
        raise InputError(f"{config}: its 'kind' is {of}, but {kind} are given; name a file of that kind")
    content = drop_empty_sections(content, kind)
    _refuse_others(str(config), content, kind, sections, command)
    check_part(str(config), content, kind)
    return content


def read_assignments(texts: Sequence[str], kind: str, sections: Sequence[str], command: str) -> Part:
    """Return what ``--set`` says, a later one before an earlier one.

    Args:
        texts: each ``KEY=VALUE``: dots between the key's parts, the value in YAML.
        kind: ``volumes`` or ``rasters``.
        sections: those that the command reads.
        command: its name, for messages.

    Raises:
        InputError: a text has another form, or its key or value is wrong; begins with the option.
    """
    from regflow.config.loading import check_part

    together: Part = {}
    for text in texts:
        part = _assigned(text)
        _refuse_others(f"--set {text}", part, kind, sections, command)
        check_part(f"--set {text}", part, kind)
        together = merge_settings(together, part)
    return together


def read_command_settings(
    given: Mapping[str, Any], kind: str, sections: Sequence[str], command: str, options: Sequence[str]
) -> Part:
    """Return the sections that options say: a file's, the command's own on them, and on top what is set.

    Args:
        given: the options by their names in Python, ``config`` and ``assignments`` among them.
        kind: ``volumes`` or ``rasters``.
        sections: those that the command reads; one bears its name.
        command: its name.
        options: names of the options that are keys of the section of that name; None where not given.

    Raises:
        InputError: a key or a value is wrong; begins with the file or option that holds it.
    """
    file = read_settings(given["config"], kind, sections, command) if given["config"] else {}
    own = {name: given[name] for name in options if given[name] is not None}
    assigned = read_assignments(given["assignments"], kind, sections, command)
    return merge_settings(merge_settings(file, {command: own} if own else {}), assigned)


def read_section_options(given: Mapping[str, Any], kind: str, command: str) -> Part:
    """Return the section of a command's name, all of whose options but the settings' own are keys of it.

    Raises:
        InputError: as :func:`read_command_settings`.
    """
    own = [name for name in given if name not in ("config", "assignments")]
    return dict(read_command_settings(given, kind, (command,), command, own).get(command, {}))


def spell_option(name: str) -> str:
    """Return an option as it is written on the command line, of its name in Python."""
    return f"--{name.replace('_', '-')}"


def _assigned(text: str) -> Part:
    import yaml

    key, _, written = text.partition("=")
    names = key.strip().split(".")
    if not all(names) or not written.strip():
        raise InputError(f"--set {text}: must be KEY=VALUE with dots in KEY, as refine.methods='[greedy]'")
    try:
        value: Any = yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise InputError(
            f"--set {text}: the value is not valid YAML; put it in quotes, as {key}='[5, 5, 7]'"
        ) from error
    for name in reversed(names):
        value = {name: value}
    return dict(value)


def _refuse_others(name: str, part: Part, kind: str, sections: Sequence[str], command: str) -> None:
    """Refuse sections that exist and that the command does not read; unknown ones are the schema's to tell.

    Raises:
        InputError: one sentence that names them all.
    """
    from regflow.config.loading import list_sections

    others = [key for key in part if key in list_sections(kind) and key not in sections]
    if others:
        raise InputError(
            f"{name}: regflow {command} reads {_listed(sections)}, but not {_listed(others)}; leave that out"
        )


def _listed(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
