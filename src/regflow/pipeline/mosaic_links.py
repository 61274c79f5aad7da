"""Links between the tiles of a mosaic: from expected positions, or from nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Workers, map_blocks
from regflow.core.errors import InputError
from regflow.methods.mosaic.illumination import Illumination
from regflow.methods.mosaic.overlap_shift import OverlapShift, find_overlap_windows, measure_overlap_shift
from regflow.methods.mosaic.placement import list_neighbors, place_tiles
from regflow.pipeline.mosaic_tiles import TileImages

Array = NDArray[np.float64]
TilePair = tuple[int, int]

MOST_BLIND = 60
"""Tiles up to which all pairs are compared where nothing is known of their places."""
PROBES = 24
"""Pairs by which an unknown overlap is measured."""
LARGEST_OVERLAP = 0.5
"""Of neighboring tiles, as a part of a tile, where the overlap is not known."""


@dataclass(frozen=True, eq=False)
class LinkSearch:
    """How links are measured.

    Attributes:
        images: the tiles.
        light: of each band.
        channel: number of the file of each tile that is compared.
        workers: who does the work.
    """

    images: TileImages
    light: Sequence[Illumination]
    channel: int
    workers: Workers

    def measure(
        self, pairs: Sequence[TilePair], offsets: Array, reach: float
    ) -> dict[TilePair, OverlapShift]:
        """Measure pairs about expected offsets ``(P, 2)``; those without agreement are missing."""
        jobs = list(zip(pairs, offsets, strict=True))
        found = map_blocks(partial(_measure_pair, self, reach=reach), jobs, self.workers, describe="links")
        return {pair: shift for pair, shift in zip(pairs, found, strict=True) if shift is not None}


def predict_positions(search: LinkSearch, overlap: float | None) -> Array:
    """Return ``(N, 2)`` positions in pixels by the rows and columns of names.

    Args:
        search: with tiles that have rows and columns.
        overlap: of neighbors as a part of a tile; measured on some pairs when None.

    Raises:
        InputError: the overlap is not known and no pair of neighbors tells it.
    """
    places = np.array([tile.place for tile in search.images.tiles], np.float64)[:, ::-1]
    size = search.images.sizes.max(axis=0)
    if overlap is not None:
        return (places - places.min(axis=0)) * size * (1 - overlap)
    steps = [_measure_step(search, places, axis) for axis in (0, 1)]
    return (places - places.min(axis=0)) @ np.stack(steps)


def _measure_step(search: LinkSearch, places: Array, axis: int) -> Array:
    """Return the median offset ``(x, y)`` between neighbors along an axis."""
    numbers = {(float(x), float(y)): index for index, (x, y) in enumerate(places)}
    step = np.eye(2)[axis]
    pairs = [
        (index, numbers[other])
        for (x, y), index in numbers.items()
        if (other := (x + step[0], y + step[1])) in numbers
    ]
    size = search.images.sizes.max(axis=0)
    if not pairs:
        return np.asarray(step * size)
    chosen = [pairs[k * len(pairs) // min(PROBES, len(pairs))] for k in range(min(PROBES, len(pairs)))]
    expected = step * size * (1 - LARGEST_OVERLAP / 2)
    reach = LARGEST_OVERLAP / 2 * float(size[axis])
    found = search.measure(chosen, np.tile(expected, (len(chosen), 1)), reach)
    offsets = [shift.offset for shift in found.values() if shift.is_reliable]
    if not offsets:
        raise InputError(
            "the overlap of neighboring tiles could not be measured; give it with --overlap, in percent, or "
            "check the order of rows and columns in the names with --pattern"
        )
    return np.asarray(np.median(offsets, axis=0))


def search_blindly(search: LinkSearch) -> tuple[Array, dict[TilePair, OverlapShift]]:
    """Return positions and links of tiles of which nothing is known: all pairs at all offsets.

    Raises:
        InputError: there are too many tiles for that.
    """
    count = len(search.images.tiles)
    if count > MOST_BLIND:
        raise InputError(
            f"nothing is known of where {count} tiles lie, and all pairs are compared of {MOST_BLIND} at "
            "most; give a table, a pattern of names, or a grid such as 5x4"
        )
    pairs = list(combinations(range(count), 2))
    reach = float(search.images.sizes.max())
    found = search.measure(pairs, np.zeros((len(pairs), 2)), reach)
    links = {pair: shift for pair, shift in found.items() if shift.is_reliable}
    # What nothing links goes to a row of its own below all others.
    names = [f"{index:06d}" for index in range(count)]
    placed = place_tiles(names, np.zeros((count, 2)), links)
    alone = [names.index(name) for part in placed.solution.parts[1:] for name in part]
    positions = placed.positions.copy()
    size = search.images.sizes.max(axis=0)
    for row, index in enumerate(alone):
        positions[index] = [
            1.1 * size[0] * row,
            float(positions[:, 1].max()) + (2.2 if row == 0 else 0) * size[1],
        ]
    return positions, links


def find_links(
    search: LinkSearch, expected: Array, reach: float
) -> tuple[dict[TilePair, OverlapShift], list[TilePair]]:
    """Measure the links of tiles that overlap as expected.

    Args:
        search: how.
        expected: ``(N, 2)`` positions in pixels.
        reach: by how much an expected offset may be wrong, in pixels.

    Returns:
        Reliable links, and the pairs that were looked at.
    """
    pairs = list_neighbors(expected, search.images.sizes, reach, 8.0)
    offsets = np.array([expected[b] - expected[a] for a, b in pairs]).reshape(-1, 2)
    found = search.measure(pairs, offsets, reach)
    return {pair: shift for pair, shift in found.items() if shift.is_reliable}, pairs


def _measure_pair(search: LinkSearch, job: tuple[TilePair, Array], *, reach: float) -> OverlapShift | None:
    (first, second), expected = job
    shapes = [(int(rows), int(columns)) for rows, columns in search.images.shapes[[first, second]]]
    windows = find_overlap_windows(shapes[0], shapes[1], expected, reach)
    if windows is None:
        return None
    parts = [
        search.images.read_guide(number, window, search.light, search.channel)
        for number, window in zip((first, second), windows, strict=True)
    ]
    origins = [np.array([window[1].start, window[0].start], np.float64) for window in windows]
    return measure_overlap_shift(parts[0], parts[1], (origins[0], origins[1]), expected, reach)
