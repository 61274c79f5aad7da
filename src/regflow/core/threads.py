"""How many threads libraries may use."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

COUNTED = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "NUMBA_NUM_THREADS")
"""Variables of libraries that else take every core they see, also those lent to other jobs."""
ALONE = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of libraries that divide a sum among their threads: its last bits change with the number."""


def limit_threads(count: int) -> None:
    """Let this process and those it starts use ``count`` threads, where the environment says nothing.

    Libraries read this when they are imported, so call it before; numba fails when it changes later.
    """
    for name in COUNTED:
        if not (name == "NUMBA_NUM_THREADS" and "numba" in sys.modules):
            os.environ.setdefault(name, str(max(1, count)))
    keep_sums_whole()


def keep_sums_whole() -> None:
    """Let linear algebra use one thread in this process and those it starts, unless the environment tells.

    Call it before numpy is imported, which reads this once.
    """
    for name in ALONE:
        os.environ.setdefault(name, "1")


@contextmanager
def itk_threads(count: int) -> Iterator[None]:
    """Let SimpleITK's filters use ``count`` threads inside the block.

    Filters that add up over the image (N4, metrics) need 1: their sums depend, in the last bits, on
    how the image was divided among threads. A filter's own ``SetNumberOfThreads`` does not reach
    the filters it runs inside, so the process's default is set, and restored afterwards.
    """
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
