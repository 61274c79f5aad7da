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
from collections.abc import Generator, Iterable
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


def named_in(package: Path, paths: Iterable[str]) -> dict[str, set[Place]]:
    """Return, for every name, the functions of the package whose code holds it."""
    holders: dict[str, set[Place]] = defaultdict(set)
    for path in paths:
        _note_names(ast.parse((package / path).read_bytes()), f"{path}::", holders)
    return dict(holders)


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


def last_name(place: Place) -> str:
    """Return the name of a function or value without what holds it."""
    return place.rpartition("::")[2].rpartition(".")[2]


def runners(place: Place, reached: dict[Place, set[str]], holders: dict[str, set[Place]]) -> set[str]:
    """Return the tests that run a function.

    What was not seen running (compiled functions, values at a module's level, classes) counts as run by the
    tests that run what names it, and so on outward; at last, by all that run anything in its module.
    """
    seen, frontier = {place}, [place]
    tests: set[str] = set()
    while frontier:
        here = frontier.pop()
        ran = {test for known, names in reached.items() if _is_within(known, here) for test in names}
        tests |= ran
        if not ran:
            users = holders.get(last_name(here), set()) - seen
            seen |= users
            frontier.extend(users)
    if not tests:
        module = place.partition("::")[0]
        tests = {
            test for known, names in reached.items() if known.startswith(f"{module}::") for test in names
        }
    return tests


def _is_within(known: Place, place: Place) -> bool:
    """Tell whether a function seen running is a place, or lies inside it."""
    if place.endswith("::"):
        return False
    return known == place or known.startswith((f"{place}.<locals>", f"{place}."))
