"""How much detail a resampled date has lost, by the differences themselves.

A date that was brought onto the other one was interpolated, and every kernel loses some of the finest
detail: where there is much of it, two dates differ although nothing changed. What half a pixel's shift and
back by a cubic kernel takes from the dates' mean tells where; how much of it the differences hold tells the
pair itself, as it does for the registration noise. Pairs that were never resampled show none.

Source of the kernel: Keys, IEEE Trans. Acoustics, Speech, and Signal Processing 29(6):1153-1160, 1981.
"""

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Window, Workers
from regflow.methods.detect.model import ChangeModel, compute_statistic
from regflow.methods.detect.noise_samples import THINNING, compare_steep_with_flat, gather_samples
from regflow.methods.detect.scene_pair import DatedScenePair

HALO: Final = 3
"""Pixels around a block that the lost detail needs."""
MOST: Final = 1.0
"""A date loses no more than half a pixel's shift and back; a pair that shows more lies aside."""
HALF_PIXEL: Final = np.array([-1.0, 9.0, 9.0, -1.0]) / 16.0
"""Weights of a cubic kernel half-way between two pixels."""

Array = NDArray[np.float64]


def measure_interpolation_noise(pair: DatedScenePair, model: ChangeModel, workers: Workers) -> float:
    """Return the variance of the differences for each unit of squared lost detail, at most :data:`MOST`.

    Args:
        pair: the scenes.
        model: the fitted model.
        workers: who works on windows; no result depends on them.

    Returns:
        0 where the pair shows none, and where too few pixels are valid to tell.
    """
    found = gather_samples(pair, workers, partial(_sample, pair=pair, model=model))
    return min(compare_steep_with_flat(*found), MOST)


def compute_lost_detail(variates: tuple[Array, Array], valid: NDArray[np.bool_]) -> Array:
    """Return the squared detail that half a pixel's shift and back loses, along both axes together.

    Args:
        variates: of both dates, ``(p, h, w)`` each, with :data:`HALO` pixels around the block.
        valid: ``(h, w)``, with the halo.

    Returns:
        ``(p, h - 2 HALO, w - 2 HALO)``; 0 where a pixel of the kernel is not valid.
    """
    there_and_back = np.convolve(HALF_PIXEL, HALF_PIXEL)
    mean = 0.5 * (variates[0] + variates[1])
    lost = np.zeros((len(mean), *(n - 2 * HALO for n in valid.shape)))
    for axis in (0, 1):
        shifted = [_shift(mean, axis, tap) for tap in range(2 * HALO + 1)]
        smooth = sum(weight * part for weight, part in zip(there_and_back, shifted, strict=True))
        known = np.all([_shift(valid, axis, tap) for tap in range(2 * HALO + 1)], axis=0)
        lost += np.where(known, (shifted[HALO] - smooth) ** 2, 0.0)
    return lost


def _shift(values: NDArray[Any], axis: int, tap: int) -> NDArray[Any]:
    """Return the block without its halo, as seen from a pixel of the kernel."""
    inner, moved = slice(HALO, -HALO), slice(tap, values.shape[axis - 2] - 2 * HALO + tap)
    return values[..., moved, inner] if axis == 0 else values[..., inner, moved]


def _sample(window: Window, pair: DatedScenePair, model: ChangeModel) -> tuple[Array, Array]:
    """Return the lost detail and the statistic of some pixels of a window."""
    block = pair.read(*window, HALO)
    variates = model.compute_variates(block.before, block.after)
    lost = compute_lost_detail(variates, block.valid)[:, ::THINNING, ::THINNING]
    inner = (slice(HALO, -HALO, THINNING),) * 2
    chosen = block.valid[inner]
    difference = variates[0][:, *inner] - variates[1][:, *inner]
    return lost.sum(axis=0)[chosen], compute_statistic(difference[:, chosen])
