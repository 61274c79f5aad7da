"""How far two scenes are from lying on one another, by the differences themselves.

Where nothing changed, a displacement makes differences that grow with the local gradient, and noise
does not. So the statistic's median among pixels of steep gradient, above that among flat ones, tells
the size of the displacement, interpolation's share included (after Bruzzone and Cossu, IEEE Trans.
Image Processing 12(4):478-484, 2003, who describe the distribution of this registration noise).
"""

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Window, Workers, map_blocks
from regflow.methods.detect.misregistration import HALO, compute_central_differences
from regflow.methods.detect.model import ChangeModel, compute_statistic
from regflow.methods.detect.scene_pair import DatedScenePair, split_chunks
from regflow.methods.detect.tiles import TILE

WINDOWS: Final = 48
"""Tiles that are looked at, evenly spaced."""
THINNING: Final = 2
"""Every second pixel along rows and columns: neighbors say the same."""
FEWEST_PIXELS: Final = 500
STEEP, FLAT = 0.9, 0.3
"""Quantiles of the gradient's size: steep pixels are above the one, flat ones below the other."""
MEDIAN_SHARE: Final = 0.5
"""Median over mean of what a displacement adds, in one direction (0.45) or in two (0.69)."""
RADIUS_95: Final = 2.45
"""Radius that holds 95% of displacements, in standard deviations along an axis."""


def measure_registration_noise(pair: DatedScenePair, model: ChangeModel, workers: Workers) -> float:
    """Return the standard deviation of the displacement along an axis, in pixels.

    Args:
        pair: the scenes.
        model: the fitted model.
        workers: who works on windows; no result depends on them.

    Returns:
        0 where the pair shows none, and where too few pixels are valid to tell.
    """
    tiles = split_chunks(pair.shape, TILE)
    chosen = tiles[:: max(1, -(-len(tiles) // WINDOWS))]
    work = partial(_slopes, pair=pair, model=model)
    parts = list(map_blocks(work, chosen, workers, describe="registration noise"))
    sizes, values = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return estimate_noise(sizes, values)


def estimate_noise(sizes: NDArray[Any], values: NDArray[Any]) -> float:
    """Return the displacement's standard deviation from squared gradients and statistics, ``(n,)`` each."""
    if len(sizes) < FEWEST_PIXELS:
        return 0.0
    low, high = np.quantile(sizes, (FLAT, STEEP))
    steep, flat = sizes >= high, sizes <= low
    step = float(np.median(sizes[steep]) - np.median(sizes[flat]))
    more = float(np.median(values[steep]) - np.median(values[flat]))
    return float(np.sqrt(max(more, 0.0) / (MEDIAN_SHARE * step))) if step > 0 else 0.0


def _slopes(
    window: Window, pair: DatedScenePair, model: ChangeModel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the squared gradient and the statistic of some pixels of a window."""
    block = pair.read(*window, HALO)
    variates = model.variates(block.before, block.after)
    inside = block.valid.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inside &= np.roll(block.valid, step, axis)
    rows, cols = np.nonzero(inside[HALO:-HALO:THINNING, HALO:-HALO:THINNING])
    rows, cols = rows * THINNING + HALO, cols * THINNING + HALO
    slopes = [
        compute_central_differences(variates, block.valid, rows, cols, step) for step in ((0, 1), (1, 0))
    ]
    difference = variates[0][:, rows, cols] - variates[1][:, rows, cols]
    return compute_statistic(slopes[0]) + compute_statistic(slopes[1]), compute_statistic(difference)
