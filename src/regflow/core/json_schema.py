"""The building blocks of JSON schemas: keys, sections, rows of tables, limits."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from regflow.core.gate import LIMIT_KEYS

Schema = dict[str, Any]
Limits = Mapping[str, Mapping[str, float]]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def define_option(kind: str | list[str], default: Any, description: str, **more: Any) -> Schema:
    """Return the schema of one key."""
    return {"type": kind, "description": description, "default": default, **more}


def define_section(description: str, **properties: Mapping[str, Any]) -> Schema:
    """Return the schema of a section of keys."""
    copied = {name: deepcopy(dict(entry)) for name, entry in properties.items()}
    content: Schema = {"type": "object", "additionalProperties": False, "properties": copied, "default": {}}
    return {**content, "description": description} if description else content


def fill_defaults(options: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given, and a default of its own for every other option.

    Args:
        options: schemas by key, each with a ``default``.
        given: values by key.
    """
    return {**{key: deepcopy(schema["default"]) for key, schema in options.items()}, **given}


def define_table_row(
    title: str, columns: Mapping[str, str], required: Sequence[str], patterns: Mapping[str, str]
) -> Schema:
    """Return the schema of a row of a table of text cells: columns with descriptions, some with patterns."""
    properties: dict[str, Schema] = {
        name: {"type": "string", "description": text} for name, text in columns.items()
    }
    for name, pattern in patterns.items():
        properties[name]["pattern"] = pattern
    return {
        "$schema": DIALECT,
        "title": title,
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": properties,
    }


def define_limits(
    defaults: Limits, *, others: bool = False, meanings: Mapping[str, str] | None = None
) -> Schema:
    """Return the schema of limits by figure: a given figure's limits replace its own defaults.

    Args:
        defaults: by figure.
        others: further figures may get limits.
        meanings: of the figures, for their descriptions.
    """
    bounds: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: {"type": ["number", "null"]} for key in LIMIT_KEYS},
    }
    figures = {
        name: {
            **deepcopy(bounds),
            "description": (meanings or {}).get(name, f"limits of {name}"),
            "default": dict(limits),
        }
        for name, limits in defaults.items()
    }
    return {
        "type": "object",
        "description": "limits of the verdict: by figure, any of " + ", ".join(LIMIT_KEYS),
        "additionalProperties": bounds if others else False,
        "properties": figures,
        "default": {},
    }
