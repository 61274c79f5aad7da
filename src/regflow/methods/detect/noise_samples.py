"""What grows where a scene is steep or detailed: the statistic there, above that of flat ground."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Window, Workers, map_blocks
from regflow.methods.detect.scene_pair import DatedScenePair, split_chunks
from regflow.methods.detect.tiles import TILE

WINDOWS: Final = 48
"""Tiles that are looked at, evenly spaced."""
THINNING: Final = 2
"""Every second pixel along rows and columns: neighbors say the same."""
FEWEST_PIXELS: Final = 500
STEEP, FLAT = 0.9, 0.3
"""Quantiles of the sizes: steep pixels are above the one, flat ones below the other."""
MEDIAN_SHARE: Final = 0.5
"""Median over mean of what a displacement adds, in one direction (0.45) or in two (0.69)."""

Array = NDArray[np.float64]
SampleWindow = Callable[[Window], tuple[Array, Array]]


def gather_samples(pair: DatedScenePair, workers: Workers, sample: SampleWindow) -> tuple[Array, Array]:
    """Return sizes and statistics of pixels from all over a pair, ``(n,)`` each.

    Args:
        pair: the scenes.
        workers: who works on windows; no result depends on them.
        sample: returns both of a window.
    """
    tiles = split_chunks(pair.shape, TILE)
    chosen = tiles[:: max(1, -(-len(tiles) // WINDOWS))]
    parts = list(map_blocks(sample, chosen, workers, describe="registration noise"))
    sizes, values = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return sizes, values


def compare_steep_with_flat(sizes: Array, values: Array) -> float:
    """Return by how much the statistic grows for each unit of size; 0 where it does not, or too few tell.

    Args:
        sizes: ``(n,)`` squared gradients, or other squares.
        values: ``(n,)`` statistics.
    """
    if len(sizes) < FEWEST_PIXELS:
        return 0.0
    low, high = np.quantile(sizes, (FLAT, STEEP))
    steep, flat = sizes >= high, sizes <= low
    step = float(np.median(sizes[steep]) - np.median(sizes[flat]))
    more = float(np.median(values[steep]) - np.median(values[flat]))
    return max(more, 0.0) / (MEDIAN_SHARE * step) if step > 0 else 0.0
