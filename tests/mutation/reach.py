"""Which tests run which functions of the package, and how many CPU seconds they take.

A test file is run once under a tracer that sees every call; what a fixture shared by several tests calls
counts for each of them. Compiled functions are not seen by Python: those of Python that name them stand for
them, see :func:`runners`.
"""

import ast
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from faults import join

Place = str
"""``path::qualified name`` of a function, the path relative to the package."""


@dataclass
class Reached:
    """What one test reached: functions, CPU seconds of its own, and the shared fixtures it needs."""

    places: list[Place]
    seconds: float
    fixtures: list[str] = field(default_factory=list)


class Recorder:
    """A pytest plugin that notes the functions that each test and each shared fixture calls."""

    def __init__(self, package: Path) -> None:
        self.prefix = f"{package}/"
        self.known: dict[CodeType, Place | None] = {}
        self.current: set[Place] = set()
        self.fixtures: dict[str, tuple[set[Place], float]] = {}
        self.tests: dict[str, Reached] = {}
        self._own: dict[str, tuple[set[Place], float]] = {}
        self._failed: set[str] = set()

    def trace(self, frame: FrameType, _event: str, _argument: Any) -> None:
        """Note a call; asking for no further events of the frame keeps this cheap."""
        code = frame.f_code
        if code not in self.known:
            path = code.co_filename
            inside = path.startswith(self.prefix)
            self.known[code] = f"{path.removeprefix(self.prefix)}::{code.co_qualname}" if inside else None
        place = self.known[code]
        if place is not None:
            self.current.add(place)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, None, None]:
        """Note what a fixture that lives longer than one test calls, apart from the test that asked first."""
        if fixturedef.scope == "function":
            yield
            return
        outer, self.current = self.current, set()
        started = time.process_time()
        yield
        self.fixtures[_identity(fixturedef)] = (self.current, time.process_time() - started)
        self.current = outer

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, None, None]:
        """Trace one test with its set-up."""
        self.current = set()
        shared = sum(seconds for _, seconds in self.fixtures.values())
        started = time.process_time()
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        yield
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        seconds = time.process_time() - started
        seconds -= sum(each for _, each in self.fixtures.values()) - shared
        if item.nodeid not in self._failed:
            named = item._fixtureinfo.name2fixturedefs.values()
            needed = {_identity(definition) for definitions in named for definition in definitions}
            used = sorted(needed & self.fixtures.keys())
            places = self.current.union(*(self.fixtures[name][0] for name in used))
            self.tests[item.nodeid] = Reached(sorted(places), round(seconds, 3), used)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Leave out tests that were skipped or fail: they can catch nothing."""
        if not report.passed:
            self._failed.add(report.nodeid)


def _identity(definition: Any) -> str:
    return f"{definition.baseid}::{definition.argname}"


@dataclass(frozen=True)
class Names:
    """Where the package's code uses names.

    Attributes:
        holders: for every name, the functions whose code holds it; at a module's level ``path::``.
        importers: for every file, the files that import it or something of it.
    """

    holders: dict[str, set[Place]]
    importers: dict[str, set[str]]

    @classmethod
    def of(cls, package: Path) -> "Names":
        """Read the sources of a package."""
        holders: dict[str, set[Place]] = defaultdict(set)
        importers: dict[str, set[str]] = defaultdict(set)
        files = {str(path.relative_to(package)): path for path in sorted(package.rglob("*.py"))}
        for path, file in files.items():
            tree = ast.parse(file.read_bytes())
            _note_names(tree, f"{path}::", holders)
            for imported in _imports(tree):
                importers[imported.removeprefix(f"{package.name}/")].add(path)
        return cls(dict(holders), dict(importers))

    def users(self, place: Place) -> set[Place]:
        """Return the functions that hold the name of a place, in its file or in one that imports it."""
        path, _, name = place.partition("::")
        near = {path} | self.importers.get(path, set())
        named = self.holders.get(name.rpartition(".")[2], set())
        return {user for user in named if user.partition("::")[0] in near}


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield the files that a module may import, relative to where its package lies."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            folder = node.module.replace(".", "/")
            yield f"{folder}.py"
            yield f"{folder}/__init__.py"
            yield from (f"{folder}/{alias.name}.py" for alias in node.names)


def _note_names(node: ast.AST, place: Place, holders: dict[str, set[Place]]) -> None:
    for child in ast.iter_child_nodes(node):
        inside = place
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            path, _, owner = place.partition("::")
            inside = f"{path}::{join(owner, child.name, node)}"
        elif isinstance(node, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            inside = f"{place}{ast.unparse(target)}"
        name = getattr(child, "attr", None) or (child.id if isinstance(child, ast.Name) else None)
        if name is not None:
            holders[name].add(inside)
        _note_names(child, inside, holders)


def runners(place: Place, reached: dict[Place, set[str]], names: Names) -> set[str]:
    """Return the tests that run a function.

    What was not seen running (compiled functions, values at a module's level, classes) counts as run by the
    tests that run what names it, and so on outward; at last, by all that run anything in its module.

    Args:
        place: the function, class or value.
        reached: the tests that run a place or something in it, ``path::`` for a whole module.
        names: of the package.
    """
    seen, frontier = {place}, [place]
    tests: set[str] = set()
    while frontier:
        here = frontier.pop()
        ran = set() if here.endswith("::") else reached.get(here, set())
        tests |= ran
        if not ran:
            users = names.users(here) - seen
            seen |= users
            frontier.extend(users)
    return tests or reached.get(f"{place.partition('::')[0]}::", set())


def with_holders(place: Place) -> list[Place]:
    """Return a function with the functions, classes and the module that hold it."""
    path, _, name = place.partition("::")
    parts = name.split(".")
    return [f"{path}::", *(f"{path}::{'.'.join(parts[:n])}" for n in range(1, len(parts) + 1))]
