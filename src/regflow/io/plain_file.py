"""Samples of a raster in a plain file, for windows that are written in any order and read again.

It is not written through GDAL: while other threads read rasters, GDAL's shared cache has lost parts
of tiles that were written in pieces (GDAL 3.10). Nor is it mapped into memory: its pages would count
as the process's own.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class PlainFile:
    """Bands one after another, rows of little-endian samples; what was never written reads as 0.

    Attributes:
        path: the file; whoever made it removes it.
        shape: ``(C, rows, columns)``.
        dtype: of the samples.
        pixels: written so far.
    """

    def __init__(self, path: str | Path, shape: tuple[int, int, int], dtype: str) -> None:
        self.path = Path(path)
        self.shape = shape
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.pixels = 0

    def __enter__(self) -> Self:
        self._stream = self.path.open("w+b", buffering=0)
        try:
            self._stream.truncate(self.compute_offset(self.shape[0]))
        except OSError:
            self._stream.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def compute_offset(self, band: int, row: int = 0, col: int = 0) -> int:
        """Return the place of a sample in the file, in bytes; bands count from 0."""
        _, rows, cols = self.shape
        return ((band * rows + row) * cols + col) * self.dtype.itemsize

    def write(self, values: NDArray[Any], rows: slice, cols: slice) -> None:
        """Write a window of all bands, ``(C, h, w)``.

        Raises:
            OSError: the disk is full, or fails.
        """
        samples = np.ascontiguousarray(values, dtype=self.dtype)
        height, width = rows.stop - rows.start, cols.stop - cols.start
        if samples.shape != (self.shape[0], height, width):
            raise ValueError(f"a window of {height} x {width} cannot hold values of shape {samples.shape}")
        for band, channel in enumerate(samples):
            for row, line in enumerate(channel, start=rows.start):
                self._put(line, self.compute_offset(band, row, cols.start))
        self.pixels += height * width

    def read(self, rows: slice, cols: slice) -> NDArray[Any]:
        """Read a window of all bands, ``(C, h, w)``."""
        shape = (self.shape[0], rows.stop - rows.start, cols.stop - cols.start)
        values = np.empty(shape, dtype=self.dtype)
        for band, channel in enumerate(values):
            for row, line in enumerate(channel, start=rows.start):
                content = os.pread(
                    self._stream.fileno(), line.nbytes, self.compute_offset(band, row, cols.start)
                )
                line[:] = np.frombuffer(content, dtype=self.dtype)
        return values

    def _put(self, line: NDArray[Any], offset: int) -> None:
        content = line.data.cast("B")
        while content:
            count = os.pwrite(self._stream.fileno(), content, offset)
            content, offset = content[count:], offset + count
