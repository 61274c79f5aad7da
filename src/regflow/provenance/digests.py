"""Which sources a result depends on, as one short text that changes when they do.

Snakemake re-runs a job when its params change. It cannot see inside the package, so each rule
carries its module's digest as a param: an edit of the report re-makes reports, not registrations.
"""

import hashlib
import importlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from regflow import __version__
from regflow.methods.table import Method, list_methods_of_kind

PACKAGE = Path(__file__).parents[1]
DIGITS = 12
_IMPORT = re.compile(
    r"^[ \t]*from[ \t]+(regflow[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+)"
    r"|^[ \t]*import[ \t]+(regflow[^\n]*)",
    re.MULTILINE,
)
_COMMENT = re.compile(r"#[^\n]*")


@cache
def compute_source_digest(module: str, kind: str) -> str:
    """Return the version and a digest of all sources that a module, ``stages.volumes.refine`` say, leads to.

    Args:
        module: below ``regflow``.
        kind: ``volumes`` or ``rasters``; methods of the other one do not count.
    """
    digest = hashlib.sha256()
    sources = find_import_closure([f"regflow.{module}"], kind)
    templates = {path for source in sources for path in (source.parent / "templates").glob("*")}
    for path in sorted(sources | templates):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:DIGITS]}"


def find_import_closure(modules: Iterable[str], kind: str) -> set[Path]:
    """Return the files of the given modules of regflow and of all they import from regflow.

    Imports inside functions count too. A table of methods counts with the modules of its rows of a
    kind, because they are imported by name.
    """
    waiting, found = list(modules), set[Path]()
    while waiting:
        module = waiting.pop()
        path = _source(module)
        if path is not None and path not in found:
            found.add(path)
            waiting.extend(_mentions(path))
            if path.name == "__init__.py" and path.parent.parent.name == "methods":
                waiting.extend(_rows(module, kind))
    return found


def _rows(package: str, kind: str) -> Iterator[str]:
    """Yield the modules of the methods that a package's tables name for a kind."""
    for table in vars(importlib.import_module(package)).values():
        if isinstance(table, dict) and all(isinstance(row, Method) for row in table.values()):
            for row in list_methods_of_kind(table, kind).values():
                yield from row.modules


@cache
def _source(module: str) -> Path | None:
    relative = Path(*module.split(".")[1:])
    for path in (PACKAGE / relative.with_suffix(".py"), PACKAGE / relative / "__init__.py"):
        if relative.parts and path.is_file():
            return path
    return None


@cache
def _mentions(path: Path) -> tuple[str, ...]:
    """Return all that a source may import from this package; every job asks, and parsing takes too long."""
    names: list[str] = []
    for module, parts, modules in _IMPORT.findall(path.read_text(encoding="utf-8")):
        listed = _COMMENT.sub("", parts.strip("()") or modules).split(",")
        found = [part.split()[0] for part in listed if part.strip()]
        names += [module, *(f"{module}.{name}" for name in found)] if module else found
    return tuple(name for name in names if name.startswith("regflow."))
