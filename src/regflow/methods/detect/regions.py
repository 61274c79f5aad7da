"""Connected changed pixels of a scene, found block by block.

Pixels that touch, diagonally too, belong to one region, across the borders of blocks as well. Regions
are numbered by their first pixel in row-major order and their sums are sums of whole numbers, so
neither depends on how the scene was cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_TOUCHING = np.ones((3, 3), dtype=int)


@dataclass(frozen=True, eq=False)
class BlockRegions:
    """The regions of one block, with labels from 1.

    Attributes:
        origin: scene row and column of the block's first pixel.
        shape: ``(rows, columns)`` of the block.
        first: ``(n,)`` position in the scene, row by row, of each region's first pixel.
        pixels: ``(n,)`` sizes.
        sums: ``(m, n)`` sums of ``m`` maps over each region, in their quanta.
        edges: labels along the top, bottom, left and right of the block, 0 between regions.
    """

    origin: tuple[int, int]
    shape: tuple[int, int]
    first: Ints
    pixels: Ints
    sums: Ints
    edges: tuple[Ints, Ints, Ints, Ints]


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of a scene that are large enough.

    Attributes:
        tables: for each block, in the order they came, the region of each label; 0 for none.
        pixels: ``(k,)`` sizes of regions 1 to k.
        sums: ``(m, k)``.
        dropped_pixels: in regions that are too small.
    """

    tables: list[Ints]
    pixels: Ints
    sums: Ints
    dropped_pixels: int


def label_regions(changed: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the regions of a block from 1, ``(h, w)``; return how many there are."""
    from scipy.ndimage import label

    labels, count = label(changed, structure=_TOUCHING)
    return labels, int(count)


def find_regions(
    changed: NDArray[np.bool_],
    origin: tuple[int, int],
    scene_columns: int,
    maps: Sequence[NDArray[np.float32]],
    quanta: Sequence[float],
) -> BlockRegions:
    """Find the regions of a block and sum up maps over each.

    Args:
        changed: ``(h, w)``.
        origin: scene row and column of the first pixel.
        scene_columns: columns of the scene.
        maps: ``(h, w)`` each, finite where changed.
        quanta: the unit in which each map is summed.
    """
    labels, count = label_regions(changed)
    where = labels[changed]
    places = np.flatnonzero(changed)
    rows, cols = np.divmod(places, changed.shape[1])
    positions = (rows + origin[0]) * scene_columns + cols + origin[1]
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, where - 1, positions)
    sums = [
        # Whole numbers below 2**53 add up exactly in float64.
        np.bincount(where, np.rint(part[changed] / quantum), count + 1)[1:].astype(np.int64)
        for part, quantum in zip(maps, quanta, strict=True)
    ]
    pixels = np.bincount(where, minlength=count + 1)[1:].astype(np.int64)
    edges = tuple(edge.astype(np.int64) for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    return BlockRegions(origin, changed.shape, first, pixels, np.array(sums), edges)  # type: ignore[arg-type]


@dataclass
class RegionMerger:
    """Joins the regions of blocks that come row by row, left to right.

    Attributes:
        columns: of the scene.
        smallest: pixels a region needs to be kept.
    """

    columns: int
    smallest: int
    _count: int = 0
    _dropped: int = 0
    _tables: list[Ints] = field(default_factory=list)
    _parts: list[tuple[Ints, Ints, Ints]] = field(default_factory=list)
    _pairs: list[Ints] = field(default_factory=list)
    _above: Ints = field(init=False)
    _below: Ints = field(init=False)
    _left: tuple[int, int, Ints] | None = None

    def __post_init__(self) -> None:
        self._above, self._below = (np.zeros(self.columns, np.int64) for _ in range(2))

    def add(self, block: BlockRegions) -> None:
        """Take the next block."""
        if block.origin[1] == 0:
            self._above, self._below = self._below, np.zeros(self.columns, np.int64)
            self._left = None
        table = self._numbered(block)
        self._tables.append(table)
        top, bottom, left, right = (table[edge] for edge in block.edges)
        start, stop = block.origin[1], block.origin[1] + block.shape[1]
        padded = np.pad(self._above, 1)
        for step in (-1, 0, 1):
            self._touch(top, padded[start + 1 + step : stop + 1 + step])
        if self._left is not None:
            other = np.pad(self._left[2], 1)
            for step in (-1, 0, 1):
                self._touch(left, other[1 + step : 1 + step + len(left)])
        self._below[start:stop] = bottom
        self._left = (start, stop, right)

    def finish(self) -> Regions:
        """Return the regions of the scene."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        maps = self._parts[0][2].shape[0] if self._parts else 0
        first, pixels = (np.concatenate([p[i] for p in self._parts] or [_none()]) for i in (0, 1))
        sums = np.concatenate([p[2] for p in self._parts] or [np.zeros((maps, 0), np.int64)], axis=1)
        pairs = np.concatenate(self._pairs, axis=1) - 1 if self._pairs else np.zeros((2, 0), np.int64)
        graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), (self._count, self._count))
        groups, group = connected_components(graph, directed=False) if self._count else (0, _none())
        start = np.full(groups, np.iinfo(np.int64).max)
        np.minimum.at(start, group, first)
        size = _grouped(pixels, group, groups)
        kept = size >= self.smallest
        order = np.flatnonzero(kept)[np.argsort(start[kept])]
        number = np.zeros(groups, np.int64)
        number[order] = np.arange(1, len(order) + 1)
        lookup = np.concatenate([[0], number[group]])
        totals = [_grouped(row, group, groups)[order] for row in sums]
        return Regions(
            [lookup[table] for table in self._tables],
            size[order],
            np.array(totals, np.int64).reshape(len(sums), len(order)),
            self._dropped + int(size[~kept].sum()),
        )

    def _numbered(self, block: BlockRegions) -> Ints:
        """Give the block's regions numbers of the scene; small ones inside the block end here."""
        touching = np.zeros(len(block.first) + 1, bool)
        for edge in block.edges:
            touching[edge] = True
        going_on = touching[1:] | (block.pixels >= self.smallest)
        table = np.zeros(len(block.first) + 1, np.int64)
        table[1:][going_on] = self._count + 1 + np.arange(np.count_nonzero(going_on))
        self._count += int(np.count_nonzero(going_on))
        self._dropped += int(block.pixels[~going_on].sum())
        self._parts.append((block.first[going_on], block.pixels[going_on], block.sums[:, going_on]))
        return table

    def _touch(self, one: Ints, other: Ints) -> None:
        both = (one > 0) & (other > 0)
        if both.any():
            self._pairs.append(np.unique(np.stack([one[both], other[both]]), axis=1))


def _grouped(values: Ints, group: Ints, groups: int) -> Ints:
    total = np.zeros(groups, np.int64)
    np.add.at(total, group, values)
    return total


def _none() -> Ints:
    return np.zeros(0, np.int64)
