"""The unit of work of change detection: a tile of two aligned scenes, always cut the same way.

Sums over a scene are sums over its tiles in row-major order. Tiles count from the scene's first
pixel and never change their size, so a sum has one value, whatever the chunks and workers.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

TILE = 256
"""Pixels along a side of a tile."""

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class PairTile:
    """Two dates of one place.

    Attributes:
        before: ``(C, h, w)`` float32 or float64 samples of the first date.
        after: ``(D, h, w)`` samples of the second date.
        valid: ``(h, w)`` bool, true where both dates may be compared.
    """

    before: NDArray[Any]
    after: NDArray[Any]
    valid: NDArray[np.bool_]

    def gather_pixels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the valid pixels of both dates, ``(C, n)`` and ``(D, n)`` float64."""
        every = bool(self.valid.all())
        before, after = (
            values.reshape(len(values), -1) if every else values[:, self.valid]
            for values in (self.before, self.after)
        )
        return np.ascontiguousarray(before, np.float64), np.ascontiguousarray(after, np.float64)

    def cut_window(self, rows: slice, cols: slice) -> "PairTile":
        """Return a part of the tile."""
        return PairTile(self.before[:, rows, cols], self.after[:, rows, cols], self.valid[rows, cols])

    def decimate(self, step: int, row: int, col: int) -> "PairTile":
        """Return a copy with the pixels whose scene row and column are multiples of ``step``.

        Args:
            step: distance between kept pixels.
            row: scene row of the tile's first pixel.
            col: scene column of the tile's first pixel.
        """
        part = self.cut_window(slice(-row % step, None, step), slice(-col % step, None, step))
        return PairTile(part.before.copy(), part.after.copy(), part.valid.copy())


class ChangeTiles(Protocol):
    """A scene pair as its tiles, which can be gone through any number of times."""

    @property
    def subsample(self) -> "ChangeTiles | None":
        """Some of the pixels, quick to go through: rounds over all of them begin where these end."""

    def map(self, function: Callable[[PairTile], Result]) -> list[Result]:
        """Return ``function`` of every tile, in row-major order of the tiles."""
        ...


@dataclass(frozen=True, eq=False)
class HeldTiles:
    """Tiles in memory, worked on by threads.

    Attributes:
        tiles: in row-major order of the scene.
        threads: tiles worked on together; no result depends on it.
        subsample: see :class:`ChangeTiles`.
    """

    tiles: list[PairTile]
    threads: int = 1
    subsample: ChangeTiles | None = None

    def map(self, function: Callable[[PairTile], Result]) -> list[Result]:
        """Return ``function`` of every tile, in order."""
        if self.threads == 1:
            return [function(tile) for tile in self.tiles]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(function, self.tiles))

    @classmethod
    def from_arrays(
        cls, before: NDArray[Any], after: NDArray[Any], valid: NDArray[np.bool_], threads: int = 1
    ) -> "HeldTiles":
        """Cut a pair of arrays, ``(C, rows, cols)`` and ``(D, rows, cols)``, into tiles."""
        whole = PairTile(before, after, valid)
        return cls([whole.cut_window(*place) for place in list_tile_windows(*valid.shape)], threads)


def list_tile_windows(rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of every tile of a block, in row-major order."""
    for row in range(0, rows, TILE):
        for col in range(0, cols, TILE):
            yield slice(row, min(row + TILE, rows)), slice(col, min(col + TILE, cols))
