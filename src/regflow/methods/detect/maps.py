"""A fitted model applied to a window: magnitude, no-change probability, classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Window
from regflow.methods.detect.interpolation_noise import HALO, compute_lost_detail
from regflow.methods.detect.misregistration import HALO as SLOPE_HALO
from regflow.methods.detect.misregistration import measure_unexplained_statistic
from regflow.methods.detect.model import ChangeModel, compute_no_change_probability, compute_statistic
from regflow.methods.detect.regions import BlockRegions, find_regions
from regflow.methods.detect.scene_pair import DatedScenePair
from regflow.methods.detect.tiles import PairTile, list_tile_windows

UNCHANGED, CHANGED, EXPLAINED, NODATA = 0, 1, 2, 255
"""Classes of ``change.tif``: explained are changes that the remaining registration error explains."""


@dataclass(frozen=True)
class ChangeRule:
    """What counts as a change.

    Attributes:
        model: the fitted model.
        limit: of the statistic.
        residual_px: remaining registration error; 0 explains nothing.
        interpolation: variance of the differences for each unit of squared detail that a kernel loses
            (:mod:`regflow.methods.detect.interpolation_noise`); 0 for dates that were not resampled.
        quantum: unit in which regions add up magnitudes, so that sums are exact.
    """

    model: ChangeModel
    limit: float
    residual_px: float
    interpolation: float
    quantum: float


@dataclass(frozen=True, eq=False)
class ChangeMaps:
    """The maps of one window.

    Attributes:
        window: rows and columns in the scene.
        magnitude: ``(h, w)`` float32, not a number where invalid.
        probability: ``(h, w)`` float32 in 0..1, not a number where invalid.
        classes: ``(h, w)`` uint8.
        regions: the connected changed pixels.
    """

    window: Window
    magnitude: NDArray[np.float32]
    probability: NDArray[np.float32]
    classes: NDArray[np.uint8]
    regions: BlockRegions


def measure_change(window: Window, pair: DatedScenePair, rule: ChangeRule) -> ChangeMaps:
    """Read a window and apply the model, tile by tile."""
    rows, cols = window
    block = pair.read(rows, cols, HALO)
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    magnitude, probability = (np.empty(shape, np.float32) for _ in range(2))
    classes = np.empty(shape, np.uint8)
    for r, c in list_tile_windows(*shape):
        wide = (slice(r.start, r.stop + 2 * HALO), slice(c.start, c.stop + 2 * HALO))
        magnitude[r, c], probability[r, c], classes[r, c] = _tile_maps(block.cut_window(*wide), rule)
    origin = (rows.start, cols.start)
    regions = find_regions(
        classes == CHANGED, origin, pair.shape[1], (magnitude, probability), (rule.quantum, 2.0**-24)
    )
    return ChangeMaps(window, magnitude, probability, classes, regions)


def _tile_maps(
    tile: PairTile, rule: ChangeRule
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Return the maps of a tile that has a halo, without it."""
    variates = rule.model.compute_variates(tile.before, tile.after)
    inner = (slice(HALO, -HALO), slice(HALO, -HALO))
    valid = tile.valid[inner]
    difference = variates[0][:, *inner] - variates[1][:, *inner]
    noise = None
    if rule.interpolation > 0:
        noise = np.sqrt(1.0 + rule.interpolation * compute_lost_detail(variates, tile.valid))
    values = compute_statistic(difference if noise is None else difference / noise)
    classes = np.where(values > rule.limit, CHANGED, UNCHANGED).astype(np.uint8)
    classes[~valid] = NODATA
    changed = classes == CHANGED
    if rule.residual_px > 0 and changed.any():
        near = (slice(HALO - SLOPE_HALO, SLOPE_HALO - HALO),) * 2
        left = measure_unexplained_statistic(
            (variates[0][:, *near], variates[1][:, *near]),
            tile.valid[near],
            rule.residual_px,
            changed,
            None if noise is None else noise[:, changed],
        )
        classes[changed] = np.where(left > rule.limit, CHANGED, EXPLAINED)
    magnitude = rule.model.compute_magnitude(difference).astype(np.float32)
    probability = compute_no_change_probability(values, rule.model.degrees_of_freedom).astype(np.float32)
    magnitude[~valid] = probability[~valid] = np.nan
    return magnitude, probability, classes
