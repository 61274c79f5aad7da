"""Threads of SimpleITK where their number would change a result."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_itk_thread() -> Iterator[None]:
    """Run SimpleITK filters on one thread inside the block.

    Filters that add up over the image (N4, metrics) give sums that depend, in the last bits, on how
    the image was divided among threads. A filter's own ``SetNumberOfThreads`` does not reach the
    filters it runs inside, so the process's default is set, and restored afterwards.
    """
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
