"""Changes that the remaining registration error explains.

Where two scenes do not lie on one another to the last tenth of a pixel, every edge looks changed, by
the local gradient times the residual displacement. A pixel is marked when some displacement no larger
than the residual leaves a statistic that is not a change any more (after Bruzzone and Cossu, IEEE
Trans. Image Processing 12(4):478-484, 2003, who model registration noise; the bound on the
displacement is here the measured one).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.detect.model import ChangeModel
from regflow.methods.detect.tiles import PairTile

HALO = 1
"""Pixels around a block that its gradients need."""


def unexplained_statistic(
    model: ChangeModel, tile: PairTile, radius_px: float, where: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the statistic that is left when the second date may shift by up to ``radius_px``.

    Args:
        model: the fitted model.
        tile: the block, with :data:`HALO` pixels around it.
        radius_px: residual displacement, in pixels.
        where: ``(h, w)`` of the block without its halo: the pixels to look at.

    Returns:
        ``(n,)`` statistic of the ``n`` pixels of ``where``, in row-major order.
    """
    from regflow.methods.detect.kernels import explained_by_shift

    first, second = model.variates(tile.before, tile.after)
    middle = 0.5 * (first + second)
    slopes = [_central(middle, tile.valid, axis)[:, where] for axis in (1, 0)]
    inner = (slice(None), slice(HALO, -HALO), slice(HALO, -HALO))
    difference = (first - second)[inner][:, where]
    out = np.empty(difference.shape[1])
    explained_by_shift(
        np.ascontiguousarray(difference),
        np.ascontiguousarray(slopes[0]),
        np.ascontiguousarray(slopes[1]),
        radius_px,
        out,
    )
    return out


def _central(values: NDArray[Any], valid: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Return central differences ``(p, h, w)`` inside the halo; 0 beside a pixel that is not valid."""
    steps = ((0, 2) if axis == 0 else (1, 1), (0, 2) if axis == 1 else (1, 1))
    rows, cols = values.shape[1:]

    def part(offset_row: int, offset_col: int) -> tuple[slice, slice]:
        return slice(offset_row, rows - 2 + offset_row), slice(offset_col, cols - 2 + offset_col)

    low = part(steps[0][0], steps[1][0])
    high = part(steps[0][1], steps[1][1])
    both = valid[low] & valid[high]
    slope: NDArray[np.float64] = 0.5 * (values[:, high[0], high[1]] - values[:, low[0], low[1]])
    slope[:, ~both] = 0.0
    return slope
