"""What a computation gives on several numbers of threads, as bytes."""

from collections.abc import Callable

import torch

THREADS = (1, 2, 3, 8)


def across_threads(work: Callable[[], list[torch.Tensor]]) -> set[tuple[bytes, ...]]:
    """Return the different results of ``work`` over :data:`THREADS`; one when it is reproducible."""
    before = torch.get_num_threads()
    found = set()
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            found.add(tuple(part.detach().contiguous().numpy().tobytes() for part in work()))
    finally:
        torch.set_num_threads(before)
    return found
