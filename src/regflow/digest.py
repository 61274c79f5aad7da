"""Which sources a result depends on, as one short text that changes when they do.

Snakemake re-runs a job when its params change. It cannot see inside the package, so each rule
carries its module's digest as a param: an edit of the report re-makes reports, not registrations.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from regflow import __version__

PACKAGE = Path(__file__).parent
DIGITS = 12
READERS = frozenset(
    {
        *("bids.py", "config.py", "samples.py", "schema_parts.py", "schemas.py", "sheet.py"),
        *("raster_samples.py", "raster_schemas.py", "raster_sheet.py", "sheet_table.py", "stac.py"),
    }
)
"""Modules that read the configuration and the sheet: what they read arrives as params, and they
know every stage's options, so through them each stage would lead to all others."""


@cache
def source_digest(module: str) -> str:
    """Return the version and a digest of all sources that a module, ``stages.refine`` say, leads to."""
    digest = hashlib.sha256()
    sources = closure([f"regflow.{module}"])
    templates = {path for source in sources for path in (source.parent / "templates").glob("*")}
    for path in sorted(sources | templates):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:DIGITS]}"


def closure(modules: Iterable[str]) -> set[Path]:
    """Return the files of the given modules of regflow and of all they import from regflow.

    Imports inside functions count too. A table of methods counts with every module beside it,
    because its rows are imported by name.
    """
    waiting, found = list(modules), set[Path]()
    while waiting:
        path = _source(waiting.pop())
        if path is not None and path not in found and path.name not in READERS:
            found.add(path)
            waiting.extend(_mentions(path))
    return found


def _source(module: str) -> Path | None:
    relative = Path(*module.split(".")[1:])
    for path in (PACKAGE / relative.with_suffix(".py"), PACKAGE / relative / "__init__.py"):
        if relative.parts and path.is_file():
            return path
    return None


@cache
def _mentions(path: Path) -> tuple[str, ...]:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    names = [name for node in ast.walk(tree) for name in _imports(node)]
    if path.name == "__init__.py" and path.parent.parent.name == "methods":
        rows = (row.relative_to(PACKAGE).with_suffix("") for row in path.parent.rglob("*.py"))
        names += [".".join(("regflow", *row.parts)) for row in rows if row.name != "__init__"]
    return tuple(name for name in names if name.startswith("regflow."))


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
