"""Where a lazy image's samples come from: windows read when they are asked for."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Block(NamedTuple):
    """A window of an image.

    Attributes:
        values: float32 ``(C, h, w)``, 0 where invalid.
        valid: boolean ``(h, w)``, the samples that may steer a registration.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


@runtime_checkable
class BlockSource(Protocol):
    """What gives an image its samples window by window; picklable, safe in threads."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)``."""

    def read(self, rows: slice, cols: slice) -> Block:
        """Read a window that lies within the image."""
