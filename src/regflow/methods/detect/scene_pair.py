"""Two aligned scenes, read window by window and gone through tile by tile."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from regflow.core.blocks import read_block
from regflow.core.chunks import Window, Workers, map_blocks, split_blocks
from regflow.core.image import Image
from regflow.methods.detect.tiles import TILE, ChangeTiles, HeldTiles, PairTile, list_tile_windows

Result = TypeVar("Result")

_COPIES = 3
"""Room that reading a window takes, in its samples as float32: decoded, converted, given on."""


@dataclass(frozen=True, eq=False)
class DatedScenePair:
    """Two scenes on one grid.

    Attributes:
        before: lazy or not; its channels are compared with those of ``after``.
        after: on the same grid.
        margin: pixels around invalid ones that are left out too: interpolation and the rims of
            clouds spoil them.
    """

    before: Image
    after: Image
    margin: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        rows, cols = self.before.grid.shape
        return rows, cols

    def read(self, rows: slice, cols: slice, halo: int = 0) -> PairTile:
        """Read a window with ``halo`` pixels around it; what lies outside the scenes is invalid."""
        reach = halo + self.margin
        wide = [slice(part.start - reach, part.stop + reach) for part in (rows, cols)]
        first, second = read_block(self.before, *wide), read_block(self.after, *wide)
        valid = first.valid & second.valid
        if self.margin:
            valid = self._without_margin(valid, *wide)
            inner = (slice(self.margin, -self.margin),) * 2
            return PairTile(first.values, second.values, valid).cut_window(*inner)
        return PairTile(first.values, second.values, valid)

    def _without_margin(self, valid: NDArray[np.bool_], rows: slice, cols: slice) -> NDArray[np.bool_]:
        from scipy.ndimage import maximum_filter

        if valid.all():
            return valid
        height, width = self.shape
        inside = np.zeros(valid.shape, bool)
        inside[
            max(-rows.start, 0) : height - rows.start,
            max(-cols.start, 0) : width - cols.start,
        ] = True
        hidden = (inside & ~valid).astype(np.uint8)
        spread = maximum_filter(hidden, 2 * self.margin + 1, mode="constant")
        return np.asarray(valid & (spread == 0))


@dataclass(frozen=True, eq=False)
class SceneTiles:
    """The tiles of a scene pair, read anew each time they are gone through."""

    pair: DatedScenePair
    workers: Workers
    subsample: ChangeTiles | None = None
    describe: str = "statistics"

    def map(self, function: Callable[[PairTile], Result]) -> list[Result]:
        """Return ``function`` of every tile, in row-major order of the scene's tiles."""
        windows = split_chunks(self.pair.shape, self.workers.chunk)
        work = partial(_over_tiles, pair=self.pair, function=function)
        found: dict[tuple[int, int], Result] = {}
        for part in map_blocks(
            work,
            windows,
            self.workers,
            describe=self.describe,
            item_bytes=count_window_bytes(self.pair, self.workers.chunk),
        ):
            found.update(part)
        return [found[place] for place in sorted(found)]


def sample_pair(pair: DatedScenePair, workers: Workers, pixels: int) -> HeldTiles:
    """Return about ``pixels`` pixels of a scene pair, evenly spaced, held in memory.

    The lattice counts from the scene's first pixel: the same pixels, whatever the chunks.
    """
    rows, cols = pair.shape
    step = max(1, math.ceil(math.sqrt(rows * cols / pixels)))
    windows = split_chunks(pair.shape, workers.chunk)
    found: dict[tuple[int, int], PairTile] = {}
    work = partial(_thinned_tiles, pair=pair, step=step)
    size = count_window_bytes(pair, workers.chunk)
    for part in map_blocks(work, windows, workers, describe="sample", item_bytes=size):
        found.update(part)
    return HeldTiles([found[place] for place in sorted(found)], workers.count)


def split_chunks(shape: tuple[int, int], chunk: int) -> list[Window]:
    """Cut a scene into windows of whole tiles, as near to ``chunk`` pixels a side as that allows."""
    return split_blocks(shape, TILE * max(1, round(chunk / TILE)))


def count_window_bytes(pair: DatedScenePair, chunk: int) -> int:
    """Return the memory that reading one chunk takes."""
    channels = pair.before.data.shape[0] + pair.after.data.shape[0]
    return int(4 * _COPIES * channels * (chunk + 2 * pair.margin) ** 2)


def _over_tiles(
    window: Window, pair: DatedScenePair, function: Callable[[PairTile], Result]
) -> list[tuple[tuple[int, int], Result]]:
    rows, cols = window
    block = pair.read(rows, cols)
    return [
        ((rows.start + r.start, cols.start + c.start), function(block.cut_window(r, c)))
        for r, c in list_tile_windows(*block.valid.shape)
    ]


def _thinned_tiles(window: Window, pair: DatedScenePair, step: int) -> list[tuple[tuple[int, int], PairTile]]:
    rows, cols = window
    block = pair.read(rows, cols)
    found = []
    for r, c in list_tile_windows(*block.valid.shape):
        place = (rows.start + r.start, cols.start + c.start)
        found.append((place, block.cut_window(r, c).decimate(step, *place)))
    return found
