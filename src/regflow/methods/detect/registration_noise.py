"""How far two scenes are from lying on one another, by the differences themselves.

Where nothing changed, a displacement makes differences that grow with the local gradient, and noise
does not. So the statistic's median among pixels of steep gradient, above that among flat ones, tells
the size of the displacement, interpolation's share included (after Bruzzone and Cossu, IEEE Trans.
Image Processing 12(4):478-484, 2003, who describe the distribution of this registration noise).
"""

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Window, Workers
from regflow.methods.detect.misregistration import HALO, compute_central_differences
from regflow.methods.detect.model import ChangeModel, compute_statistic
from regflow.methods.detect.noise_samples import THINNING, compare_steep_with_flat, gather_samples
from regflow.methods.detect.scene_pair import DatedScenePair

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
    return estimate_noise(*gather_samples(pair, workers, partial(_slopes, pair=pair, model=model)))


def estimate_noise(sizes: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the displacement's standard deviation from squared gradients and statistics, ``(n,)`` each."""
    return float(np.sqrt(compare_steep_with_flat(sizes, values)))


def _slopes(
    window: Window, pair: DatedScenePair, model: ChangeModel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the squared gradient and the statistic of some pixels of a window."""
    block = pair.read(*window, HALO)
    variates = model.compute_variates(block.before, block.after)
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
