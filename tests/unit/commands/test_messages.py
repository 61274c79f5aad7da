"""What sentences advise can be done: an option that a message names is one of the command that says it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

import regflow
from regflow.commands.cli import COMMANDS, main
from regflow.commands.settings import spell_option

SOURCES = Path(regflow.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
NOT_OURS = {"--no-deps": "pip install", "--nproc-per-node": "torchrun"}
"""Options of other programs, and the word before them."""
SPELLERS = ("spelled", "spelled_option")
"""Functions that spell an option for who gave it, by its name in Python."""


def options_of(name: str) -> set[str]:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}


OPTIONS = {name: options_of(name) for name in COMMANDS}


def raised(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of all errors that a module raises, by line."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Raise) and node.exc is not None:
            parts = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
            yield node.lineno, "".join(part for part in parts if isinstance(part, str))


def spelled(path: Path) -> Iterator[str]:
    """Yield the names of options that a module lets a command spell in its messages."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in SPELLERS:
            yield from (part.value for part in node.args if isinstance(part, ast.Constant))


def test_options_named_in_messages_exist():
    found = set()
    for path in SOURCES.rglob("*.py"):
        own = path.parent.name == "commands" and path.stem in OPTIONS
        known = OPTIONS[path.stem] if own else set().union(*OPTIONS.values())
        for line, text in raised(path):
            named = {option for option in OPTION.findall(text) if NOT_OURS.get(option, "\0") not in text}
            assert named <= known, f"{path}:{line} names {named - known}"
            found |= named
        named = {spell_option(name) for name in spelled(path)}
        assert named <= set().union(*OPTIONS.values()), f"{path} names {named}"
        found |= named
    assert {"--bands", "--reference", "--method"} <= found
