"""Changes that the remaining registration error explains.

Where two scenes do not lie on one another to the last tenth of a pixel, every edge looks changed, by
the local gradient times the residual displacement. A pixel is marked when some displacement no larger
than the residual leaves a statistic that is not a change any more.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HALO = 1
"""Pixels around a block that its gradients need."""


def measure_unexplained_statistic(
    variates: tuple[Array, Array],
    valid: NDArray[np.bool_],
    radius_px: float,
    where: NDArray[np.bool_],
    noise: Array | None = None,
) -> Array:
    """Return the statistic that is left when the second date may shift by up to ``radius_px``.

    Args:
        variates: of both dates, ``(p, h, w)`` each, of unit variance where nothing changed, with
            :data:`HALO` pixels around the block.
        valid: ``(h, w)``, with the halo.
        radius_px: residual displacement, in pixels.
        where: of the block without its halo: the pixels to look at.
        noise: ``(p, n)`` standard deviation of each variate at these pixels; 1 when None.

    Returns:
        ``(n,)`` statistic of the ``n`` pixels of ``where``, in row-major order.
    """
    from regflow.methods.detect.kernels import subtract_shift

    rows, cols = (index + HALO for index in np.nonzero(where))
    first, second = variates
    slopes = [compute_central_differences(variates, valid, rows, cols, step) for step in ((0, 1), (1, 0))]
    difference = first[:, rows, cols] - second[:, rows, cols]
    if noise is not None:
        difference, *slopes = (part / noise for part in (difference, *slopes))
    out = np.empty(len(rows))
    subtract_shift(difference, *slopes, radius_px, out)
    return out


def compute_central_differences(
    variates: tuple[Array, Array], valid: NDArray[np.bool_], rows: Any, cols: Any, step: tuple[int, int]
) -> Array:
    """Return the slopes of both dates' mean at some pixels.

    Args:
        variates: of both dates, ``(p, h, w)`` each.
        valid: ``(h, w)``.
        rows: ``(n,)`` of the pixels, none at the border.
        cols: likewise.
        step: ``(0, 1)`` for the slope along x, ``(1, 0)`` along y.

    Returns:
        ``(p, n)`` per pixel; 0 beside a pixel that is not valid.
    """
    first, second = variates
    low, high = (rows - step[0], cols - step[1]), (rows + step[0], cols + step[1])
    both = valid[low] & valid[high]
    ends = [first[:, *place] + second[:, *place] for place in (low, high)]
    return np.where(both, 0.25 * (ends[1] - ends[0]), 0.0)
