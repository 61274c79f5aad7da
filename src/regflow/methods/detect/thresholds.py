"""From a statistic to changed or not: a chi-square level, or Otsu's threshold."""

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from regflow.methods.detect.model import ChangeModel, compute_statistic, find_chi_square_limit
from regflow.methods.detect.tiles import ChangeTiles, PairTile

BINS: Final = 4096
LARGEST: Final = 64.0
"""End of the histogram, in root mean square standard deviations per variate; larger ones count there."""

THRESHOLDS: Final = ("chi-square", "otsu")


def find_change_limit(tiles: ChangeTiles, model: ChangeModel, threshold: str, level: float) -> float:
    """Return the statistic above which a pixel counts as changed.

    Args:
        tiles: the scene pair.
        model: the fitted model.
        threshold: ``chi-square`` or ``otsu``, of the root of the statistic.
        level: share of the unchanged pixels that stay unmarked, for ``chi-square``.
    """
    if threshold == "chi-square":
        return find_chi_square_limit(level, model.degrees_of_freedom)
    counts = np.sum(tiles.map(partial(_histogram, model=model)), axis=0)
    return float(model.degrees_of_freedom * find_otsu_limit(counts, LARGEST) ** 2)


def find_otsu_limit(counts: NDArray[Any], end: float) -> float:
    """Return the value that parts a histogram over ``0..end`` best into two classes.

    Otsu, IEEE Trans. Systems, Man, and Cybernetics 9(1):62-66, 1979: the variance between the
    classes is largest. Among equals the middle is taken.
    """
    width = end / len(counts)
    centers = (np.arange(len(counts)) + 0.5) * width
    below = np.cumsum(counts, dtype=np.float64)
    above = below[-1] - below
    sums = np.cumsum(counts * centers, dtype=np.float64)
    parted = (below > 0) & (above > 0)
    if not parted.any():
        return end
    between = np.zeros(len(counts))
    means = sums[parted] / below[parted] - (sums[-1] - sums[parted]) / above[parted]
    between[parted] = below[parted] * above[parted] * means**2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float((best[0] + best[-1]) / 2 + 1) * width


def _histogram(tile: PairTile, model: ChangeModel) -> NDArray[np.int64]:
    values = compute_statistic(model.compute_difference(*tile.gather_pixels()))
    root = np.sqrt(values / model.degrees_of_freedom) * (BINS / LARGEST)
    places = np.minimum(root, BINS - 1).astype(np.int64)
    return np.bincount(places, minlength=BINS).astype(np.int64)
