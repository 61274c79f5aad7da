"""Run tests against a copy of the project, each time in a process forked from one that has the libraries."""

import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "scipy.ndimage", "scipy.optimize", "scipy.interpolate", "scipy.stats", "SimpleITK")
LIBRARIES += ("nibabel", "numba", "rasterio", "rasterio.warp", "pandas", "pyarrow", "shapely", "pyogrio")
LIBRARIES += ("jsonschema", "yaml", "jinja2", "click", "dask.array", "torch", "matplotlib.pyplot", "cv2")
LIBRARIES += ("hypothesis", "monai.networks.nets", "pytest")
"""What most tests import; loaded once, by the process that all trials are forked from."""
WAITING = 20
"""How much longer than its CPU seconds a trial may take on a busy machine."""
PLUGINS_OFF = [
    word for name in ("cacheprovider", "xdist", "unraisableexception") for word in ("-p", f"no:{name}")
]
HUNG = -1
"""Instead of an exit status: the process was still running at its limit."""


def load_libraries() -> None:
    """Import what the trials share. The package itself must not be among it."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    for name in LIBRARIES:
        import_module(name)
    gc.freeze()  # what is shared need not be looked through by each trial
    assert not any(name.partition(".")[0] == "regflow" for name in sys.modules)


def copy_project(root: Path, target: Path) -> None:
    """Copy what git knows, and what numba compiled beside it with the times that tell it is fresh."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root, capture_output=True, check=True,
    ).stdout  # fmt: skip
    files = [Path(name) for name in listed.decode().split("\0") if name and (root / name).is_file()]
    compiled = [path.relative_to(root) for path in (root / "src").rglob("*.nb[ci]")]
    for path in [*files, *compiled]:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, target / path)


def keep_kernels(project: Path) -> None:
    """Let numba take every source file of the project for what it is now, whatever is planted in it later.

    Otherwise a fault beside a compiled function would have it compiled again.
    """
    from numba.core import caching

    locator = caching._SourceFileBackedLocatorMixin
    read = locator.get_source_stamp
    stamps = {}
    for path in (project / "src").rglob("*.py"):
        locator._py_file = str(path)
        stamps[str(path)] = read(locator)
    locator.get_source_stamp = lambda self: stamps.get(self._py_file) or read(self)


def side_by_side(work: Callable[[list[Any]], None], items: list[Any], workers: int) -> None:
    """Share items out to processes forked from this one, and wait for all."""
    children = []
    for number in range(workers):
        child = os.fork()
        if child == 0:
            try:
                work(items[number::workers])
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def in_child(work: Callable[[], int], project: Path, log: Path, cpu_seconds: float) -> tuple[int, float]:
    """Run work in a forked process that finds the package in a project.

    Args:
        work: gives the exit status.
        project: with the package in its ``src``.
        log: file for what the process prints.
        cpu_seconds: that it may take; on the wall it may take :data:`WAITING` times as long.

    Returns:
        The exit status, or HUNG, and the CPU seconds taken.
    """
    child = os.fork()
    if child == 0:
        status = 120
        try:
            _settle(project, log)
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds) + 1, int(cpu_seconds) + 5))
            status = int(work())
        finally:
            sys.stdout.flush()
            os._exit(status)
    return _wait(child, WAITING * cpu_seconds)


def _settle(project: Path, log: Path) -> None:
    """Make a fresh process the head of its group, at home in the project, with its output in a file."""
    os.setsid()
    os.chdir(project)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    source = str(project / "src")
    sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = source


def _wait(child: int, limit_seconds: float) -> tuple[int, float]:
    until = time.monotonic() + limit_seconds
    hung = False
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until:
            hung = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it may have left running
    code = os.waitstatus_to_exitcode(status)
    hung = hung or -code in (signal.SIGXCPU, signal.SIGKILL)
    return HUNG if hung else code, used.ru_utime + used.ru_stime


def run_tests(names: list[str], *, stop: bool = True) -> int:
    """Run tests in this process, until the first fails if wanted; return pytest's exit status."""
    import pytest

    quiet = ["-q", "--tb=line", "--hypothesis-seed=0", *PLUGINS_OFF, *(["-x"] if stop else [])]
    return int(pytest.main([*quiet, *names]))
