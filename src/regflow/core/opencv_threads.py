"""How many threads OpenCV may use."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limit_opencv_to_one_thread() -> Iterator[None]:
    """Let OpenCV add up on one thread: the last bits of its sums depend on their number."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
