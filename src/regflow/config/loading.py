"""The configuration: read, checked against its schema with every problem named, and completed."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.samples import WILDCARD_MARKS
from regflow.config.keys import KINDS
from regflow.config.presets import merge_settings
from regflow.config.schema import define_config_schema
from regflow.core.addresses import redact_address
from regflow.core.errors import InputError
from regflow.core.json_schema import Schema
from regflow.core.names import find_nearest_name
from regflow.io.text_files import read_text
from regflow.stages import layout

if TYPE_CHECKING:
    from jsonschema import ValidationError

_KINDS = {
    "object": "a section of keys",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}

MOST_VALUES = 100_000
"""A configuration with more is no configuration: references in YAML may stand for billions."""

_SOURCES = {"volumes": ("bids", "atlases", "atlas"), "rasters": ("stac", "references", "reference")}
"""By kind: what may stand instead of a sheet, where fixed images are named, and what one is called."""
_WHOLES = {"bids": "a data set", "stac": "an item collection"}


def load_config(source: str | Path | Mapping[str, Any], *, with_samples: bool = True) -> dict[str, Any]:
    """Return a complete configuration: what is given, and the default of everything else.

    Addresses in it have no secrets (:mod:`regflow.core.addresses`).

    Args:
        source: a YAML file, or its content.
        with_samples: whether it must say what is to be registered; a training needs no samples.

    Raises:
        InputError: one sentence for each problem, one to a line: the file cannot be read, a key is
            unknown (the nearest valid one is named), a value has a wrong type or is out of range.
    """
    name = "configuration" if isinstance(source, Mapping) else str(source)
    given = dict(source) if isinstance(source, Mapping) else read_keys(Path(source))
    schema = _schema(_kind(name, given))
    complete = _name_template(_completed(given, schema), schema)
    problems = [f"{name}: {sentence}" for sentence in _problems(complete, schema)]
    if not problems:
        problems = [f"{name}: {sentence}" for sentence in _contradictions(complete, with_samples)]
    if problems:
        raise InputError("\n".join(problems))
    return dict(_without_secrets(complete))


def _name_template(config: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Return a configuration in which the cohort's own template is an atlas, where it is the fixed image."""
    atlases = config.get("atlases")
    if config.get("fixed") != layout.TEMPLATE or not isinstance(atlases, dict) or layout.TEMPLATE in atlases:
        return config
    entry = schema["properties"]["atlases"]["additionalProperties"]
    places = {"image": layout.TEMPLATE_IMAGE, "mask": layout.TEMPLATE_MASK}
    made = {part: f"{config['output']}/{place}" for part, place in places.items()}
    return {**config, "atlases": {**atlases, layout.TEMPLATE: _completed(made, entry)}}


def _without_secrets(content: Any) -> Any:
    """Return a configuration whose addresses may be written."""
    if isinstance(content, Mapping):
        return {key: _without_secrets(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_secrets(value) for value in content]
    return redact_address(content) if isinstance(content, str) else content


def load_defaults(kind: str = "volumes") -> dict[str, Any]:
    """Return the configuration of someone who gave nothing but what is registered."""
    return _completed({"kind": kind}, _schema(kind))


def check_part(name: str, part: Mapping[str, Any], kind: str) -> None:
    """Check a part of a configuration by itself.

    Args:
        name: where the part comes from: a file, an option of a command; begins each sentence.
        part: some of the sections, each with some of its keys.
        kind: ``volumes`` or ``rasters``.

    Raises:
        InputError: as :func:`load_config`, one sentence for each problem, one to a line.
    """
    problems = _problems(part, _schema(kind))
    if problems:
        raise InputError("\n".join(f"{name}: {sentence}" for sentence in problems))


def check_parts(parts: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """Return parts of a configuration laid on one another, each checked by itself.

    Args:
        parts: by where they come from, a later one on an earlier one.
        kind: ``volumes`` or ``rasters``.

    Raises:
        InputError: as :func:`check_part`.
    """
    together: dict[str, Any] = {}
    for name, part in parts.items():
        check_part(name, part, kind)
        together = merge_settings(together, part)
    return together


def drop_empty_sections(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a part of a configuration without the sections that YAML left empty (null)."""
    return _without_empty(part, _schema(kind))


def _without_empty(part: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    entries = schema.get("properties", {})
    kept = {}
    for key, value in part.items():
        entry = entries.get(key, {})
        if value is not None or entry.get("type") != "object":
            kept[key] = _without_empty(value, entry) if isinstance(value, Mapping) else value
    return kept


def list_sections(kind: str) -> list[str]:
    """Return the top keys of a configuration."""
    return list(_schema(kind)["properties"])


def _kind(name: str, given: Mapping[str, Any]) -> str:
    """Return what is registered, on which the valid keys depend."""
    kind = given.get("kind") or "volumes"
    if kind not in KINDS:
        raise InputError(f"{name}: {_not_one_of('kind', kind, list(KINDS))}")
    return str(kind)


@cache
def _schema(kind: str) -> Schema:
    return define_config_schema(kind)


def read_keys(
    path: Path,
    *,
    if_missing: str = "write one with: regflow init .",
    if_empty: str = "write 'samples: config/samples.tsv' and what else you need",
) -> dict[str, Any]:
    """Return the content of a YAML file of keys, unchecked.

    Args:
        path: the file.
        if_missing: advice to who names a file that is not there.
        if_empty: advice to who names one without keys.

    Raises:
        InputError: one sentence: the file is missing, is not YAML (the line is named), or holds no keys.
    """
    import yaml

    if not path.is_file():
        raise InputError(f"{path}: this configuration does not exist; {if_missing}")
    try:
        content = yaml.safe_load(read_text(path, "save it as text in UTF-8"))
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}); correct it"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no keys; {if_empty}")
    if _count_values(content, {}) > MOST_VALUES:
        raise InputError(
            f"{path}: its anchors (&) and references (*) spell out more than {MOST_VALUES} values; write "
            "out what is meant"
        )
    return content


def _count_values(content: Any, known: dict[int, float]) -> float:
    """Return how many values a part of a YAML file spells out; endless for one that holds itself."""
    if not isinstance(content, (dict, list)):
        return 1
    if id(content) not in known:
        known[id(content)] = float("inf")
        parts = content.values() if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_count_values(part, known) for part in parts)
    return known[id(content)]


def _completed(given: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Fill in defaults; a section left empty in YAML (null) counts as not given."""
    complete = dict(given)
    for key, entry in schema.get("properties", {}).items():
        absent = key not in complete or (complete[key] is None and entry.get("type") == "object")
        if absent and "default" in entry:
            complete[key] = deepcopy(entry["default"])
        if isinstance(complete.get(key), Mapping):
            complete[key] = _completed(complete[key], entry)
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        named = schema.get("properties", {})
        for key, value in complete.items():
            if key not in named and isinstance(value, Mapping):
                complete[key] = _completed(value, others)
    return complete


def _problems(content: Mapping[str, Any], schema: Schema) -> list[str]:
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema).iter_errors(content)
    return [sentence for error in errors for sentence in _sentences(error)]


def _sentences(error: "ValidationError") -> Iterator[str]:
    path = ".".join(str(part) for part in error.absolute_path)
    rule, value = str(error.validator), error.instance
    bound: Any = error.validator_value
    if rule == "additionalProperties" and isinstance(value, Mapping):
        known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
        yield from (_unknown(path, str(key), known) for key in value if key not in known)
    elif rule == "required" and isinstance(value, Mapping):
        yield from (f"{path}: the key '{key}' is missing" for key in bound if key not in value)
    elif rule == "enum" and "propertyNames" in error.absolute_schema_path:
        yield _unknown(path, str(value), dict.fromkeys(bound))
    elif rule == "enum":
        yield _not_one_of(path, value, [str(item) for item in bound])
    elif rule == "type":
        kinds = bound if isinstance(bound, list) else [bound]
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        yield f"{path} is {_shown(value)}, but must be {wanted}{_hint(value, kinds)}"
    elif rule in _BOUNDS:
        yield f"{path} is {_shown(value)}, but must be {_BOUNDS[rule]} {bound}"
    elif rule == "pattern":
        yield f"{path}: '{value}' may hold only letters, digits, '.', '_', '+' and '-'; rename it"
    else:
        yield f"{path}: {error.message}"


def _unknown(path: str, key: str, known: Mapping[str, Any]) -> str:
    prefix = f"{path}." if path else ""
    kind = "method" if path.endswith(".options") else "key"
    if not known:
        return f"unknown key '{prefix}{key}'; remove it, '{path}' takes none"
    return f"unknown {kind} '{prefix}{key}'; did you mean '{prefix}{find_nearest_name(key, known)}'?"


def _not_one_of(path: str, value: Any, known: list[str]) -> str:
    advice = f"did you mean '{find_nearest_name(str(value), known)}'? Known: {', '.join(known)}"
    parts = path.split(".")
    if parts[-1] == "method" or "methods" in parts[-2:]:
        return f"{path}: unknown method '{value}'; {advice}"
    return f"{path} is {_shown(value)}; {advice}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list)):
        return "a section of keys" if isinstance(value, dict) else "a list"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _hint(value: Any, kinds: list[str]) -> str:
    if "array" in kinds and "string" not in kinds and isinstance(value, (str, int, float)):
        return f": write [{value}]"
    if isinstance(value, str) and {"number", "integer"} & set(kinds):
        try:
            return f": write {float(value)!r}"  # YAML takes 1e-3 for text
        except ValueError:
            return ""
    return ""


def _contradictions(config: Mapping[str, Any], with_samples: bool) -> Iterator[str]:
    """Name what the schema cannot say."""
    marks = sorted(WILDCARD_MARKS & set(config["output"]))
    if marks:
        yield (
            f"output is '{config['output']}', but Snakemake takes {' '.join(marks)} for marks of wildcards; "
            "name a folder without them"
        )
    if config["kind"] != "volumes" and config["train"]["shares"].get("cohort"):
        yield "train.shares.cohort: a cohort of volumes only can be trained on; set it to 0"
    whole, named, noun = _SOURCES[config["kind"]]
    given = sum(config[key] is not None for key in ("samples", whole))
    if given > 1 or (with_samples and given == 0):
        yield f"give either 'samples' (a sheet) or '{whole}' ({_WHOLES[whole]}), one of the two"
    fixed, known = config["fixed"], config[named]
    if fixed is not None and fixed not in known:
        near = f"; did you mean '{find_nearest_name(fixed, known)}'?" if known else f"; add it to '{named}'"
        yield f"fixed names the {noun} '{fixed}', which '{named}' does not hold{near}"
