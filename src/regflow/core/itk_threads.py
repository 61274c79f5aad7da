"""How many threads ITK's filters may use."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limit_itk_threads(count: int) -> Iterator[None]:
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
