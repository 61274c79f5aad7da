"""How much memory there is, asked before much of it is taken."""

import math
import os
import resource
from collections.abc import Iterator
from pathlib import PurePosixPath

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.system_files import read_system_file

GIGABYTE = 1e9
ADVICE = "check size and spacing in the headers, shrink the image, or take a larger machine"
_CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Folder of the outermost container, its files with limit and use, and the name in ``memory.stat`` of what
it holds of files and gives up when asked, for both versions of cgroups."""
_MEMBERSHIP = "/proc/self/cgroup"
"""Tells which containers below the outermost ones the process is in."""


def measure_free_bytes() -> int | None:
    """Return how many bytes the process may still take; None where the system does not say.

    The least of what the machine, the containers, a job's on Slurm too, and the process's own limit leave.
    """
    rooms = [_of_machine(), _of_process(), *_of_containers()]
    known = [room for room in rooms if room is not None]
    return max(0, min(known)) if known else None


def check_room(needed: float, what: str, advice: str = ADVICE) -> None:
    """Refuse what would take more memory than is free.

    Args:
        needed: bytes.
        what: takes them; begins the sentence.
        advice: what to do; ends it.

    Raises:
        InputError: with both figures.
    """
    room = measure_free_bytes()
    if room is not None and needed > room:
        raise InputError(
            f"{what} would take {needed / GIGABYTE:,.3g} GB of memory and {room / GIGABYTE:.3g} GB are free; "
            f"{advice}"
        )


def check_grid(grid: Grid, sample_bytes: float) -> None:
    """Refuse samples on a grid that do not fit into memory.

    Args:
        grid: where samples are asked for.
        sample_bytes: taken for each of them.

    Raises:
        InputError: with the grid's size.
    """
    size = " x ".join(str(n) for n in grid.size)
    check_room(sample_bytes * math.prod(grid.shape), f"a grid of {size} samples")


def _of_machine() -> int | None:
    for line in read_system_file("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_process() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = read_system_file("/proc/self/statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _of_containers() -> Iterator[int | None]:
    """Yield what is left by each container that the process is in."""
    lines = read_system_file(_MEMBERSHIP).splitlines()
    paths = [line.split(":", 2)[2] for line in lines if line.split(":")[1] in ("", "memory")]
    for folder, *files in _CONTAINERS:
        for path in dict.fromkeys(["/", *paths]):
            inner = PurePosixPath(path)
            for place in (inner, *inner.parents):
                yield _of_container(f"{folder}{str(place).rstrip('/')}", *files)


def _of_container(folder: str, limit: str, use: str, cached: str) -> int | None:
    stated, taken = (read_system_file(f"{folder}/{name}").strip() for name in (limit, use))
    if not (stated.isdigit() and taken.isdigit()):
        return None
    held = (line.split() for line in read_system_file(f"{folder}/memory.stat").splitlines())
    return int(stated) - int(taken) + sum(int(count) for name, count in held if name == cached)
