"""numba's compiler as the package uses it: what it keeps beside the sources is safe among processes.

Numba numbers the files of a function's compiled forms by what its index says, reads and writes that index
without a lock, and writes the index before the file. Two processes that compile two forms of one function at
once may therefore take the same number, and one then loads the other's code. Jobs of a cohort that start
together on a new machine do just that, so every look into the index is taken one at a time.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from numba import njit, prange
from numba.core.caching import IndexDataCacheFile

__all__ = ["njit", "prange"]


@contextmanager
def hold_index(path: str) -> Iterator[None]:
    """Hold the lock of an index of compiled code, waiting for it; no lock where nothing can be written."""
    import fcntl

    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        # A folder that cannot be written holds finished code only.
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def take_turns(look: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of numba's index that only one process at a time carries out."""

    @wraps(look)
    def look_alone(index: Any, *arguments: Any) -> Any:
        with hold_index(index._index_path):
            return look(index, *arguments)

    return look_alone


def share_kernel_cache() -> None:
    """Make numba's cache safe among processes; asked again, it changes nothing."""
    for name in ("load", "save"):
        look = getattr(IndexDataCacheFile, name)
        if not hasattr(look, "__wrapped__"):
            setattr(IndexDataCacheFile, name, take_turns(look))


share_kernel_cache()
