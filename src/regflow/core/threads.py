"""How many cores this process has, and how many threads libraries may use."""

import math
import os
import sys
from pathlib import Path

from regflow.core.system_files import read_system_file

COUNTED = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "NUMBA_NUM_THREADS")
"""Variables of libraries that else take every core they see, also those lent to other jobs."""
ALONE = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of libraries that divide a sum among their threads: its last bits change with the number."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Where Linux mounts control groups, and where it tells a process's own."""


def count_cores() -> int:
    """Return how many cores this process may use, 1 or more.

    The least of what the machine has, what the scheduler binds the process to, and the CPU time that
    its control group and those around it may take, as of a container (cgroup v1 and v2; 1.5 cores'
    time counts as 2 cores).
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _limit_of_cgroups()
    return bound if limit is None else max(1, min(bound, math.ceil(limit)))


def limit_threads(count: int) -> None:
    """Let this process and those it starts use ``count`` threads, where the environment says nothing.

    Libraries read this when they are imported, so call it before; numba fails when it changes later.
    """
    for name in COUNTED:
        if not (name == "NUMBA_NUM_THREADS" and "numba" in sys.modules):
            os.environ.setdefault(name, str(max(1, count)))
    limit_sums_to_one_thread()


def limit_sums_to_one_thread() -> None:
    """Let linear algebra use one thread in this process and those it starts, unless the environment tells.

    Call it before numpy is imported, which reads this once.
    """
    for name in ALONE:
        os.environ.setdefault(name, "1")


def _limit_of_cgroups() -> float | None:
    """Return the least cores' worth of time that a control group of this process allows; None without one."""
    limits = []
    for line in read_system_file(OWN_CGROUPS).splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = CGROUPS / controllers
        # Inside a container the path may be the host's, which is not there: the mount itself is the group.
        folder = mount / own.lstrip("/")
        around = [group for group in (folder, *folder.parents) if group.is_relative_to(mount)]
        limits += [limit for group in around if (limit := _cores_of(group)) is not None]
    return min(limits, default=None)


def _cores_of(group: Path) -> float | None:
    """Return how many cores' time a control group may take, in either version's files; None for any."""
    stated = read_system_file(group / "cpu.max").split()
    if not stated:
        stated = [read_system_file(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = (int(text) if text.isdigit() else 0 for text in stated)
    return quota / period if quota and period else None
