"""What is written from the model of configuration and sheet: JSON schemas and the reference tables.

``python -m regflow.config.reference`` writes both into the clone; a test fails when they lag behind.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from regflow.cohort.columns import define_samples_schema
from regflow.cohort.table import REQUIRED_COLUMNS
from regflow.config.keys import list_leaves
from regflow.config.presets import PRESETS
from regflow.config.schema import define_config_schema
from regflow.core.files import write_whole
from regflow.core.resources import find_shipped_folder

PAGES = {"volumes": "config/README.md", "rasters": "config/rasters/README.md"}
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
}
BEGIN, END = "<!-- begin {} -->", "<!-- end {} -->"


def build_schema_files() -> dict[str, str]:
    """Return the JSON schemas by their path in the clone."""
    schemas = {"config": define_config_schema(), "samples": define_samples_schema()}
    schemas |= {
        "rasters.config": define_config_schema("rasters"),
        "rasters.samples": define_samples_schema("rasters"),
    }
    return {
        f"workflow/schemas/{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def fill_tables(text: str, kind: str = "volumes") -> str:
    """Return a page with its tables of columns, presets and keys, between their marks, written anew."""
    columns = (
        (f"`{name}`", "required" if name in REQUIRED_COLUMNS else "", _cell(entry["description"]))
        for name, entry in define_samples_schema(kind)["properties"].items()
    )
    keys = (
        (f"`{path}`", _values(entry), _default(entry), _cell(entry["description"]))
        for path, entry in list_leaves(define_config_schema(kind))
    )
    presets = (
        (f"`{name}`", _cell(preset.summary), _cell(", ".join(_keys(preset.settings))))
        for name, preset in PRESETS[kind].items()
    )
    text = _between(text, "columns", _table(("column", "", "what it holds"), columns))
    text = _between(text, "presets", _table(("preset", "when and what", "as keys"), presets))
    return _between(text, "keys", _table(("key", "values", "default", "what it does"), keys))


def main() -> None:
    """Write the schemas and the tables of the pages into the clone."""
    root = find_shipped_folder()
    texts = build_schema_files()
    for kind, page in PAGES.items():
        texts[page] = fill_tables((root / page).read_text(encoding="utf-8"), kind)
    for name, text in texts.items():
        with write_whole(root / name) as part:
            part.write_text(text, encoding="utf-8")


def _keys(settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield a configuration's part key by key, as ``assess.surfaces: false``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{path}{name}.")
        else:
            yield f"`{path}{name}: {json.dumps(value)}`"


def _between(text: str, mark: str, content: str) -> str:
    begin, end = BEGIN.format(mark), END.format(mark)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{content}{end}{after}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(entry: Mapping[str, Any]) -> str:
    return f"`{_cell(json.dumps(entry['default']))}`" if "default" in entry else "required"


def _values(entry: Mapping[str, Any]) -> str:
    """Return which values a key takes, as ``integer, at least 1``."""
    if "enum" in entry:
        return ", ".join(f"`{json.dumps(value) if value is None else value}`" for value in entry["enum"])
    kinds = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    words = [" or ".join(f"array{_items(entry)}" if kind == "array" else kind for kind in kinds)]
    words += [f"{text} {entry[rule]:g}" for rule, text in _BOUNDS.items() if rule in entry]
    return ", ".join(words)


def _items(entry: Mapping[str, Any]) -> str:
    items = entry.get("items", {})
    if "enum" in items:
        return " of " + ", ".join(f"`{value}`" for value in items["enum"])
    return f" of {items['type']}" if "type" in items else ""


if __name__ == "__main__":
    main()
