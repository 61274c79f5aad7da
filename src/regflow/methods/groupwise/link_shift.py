"""What shift a link between two images still lacks, to hundredths of a pixel, and how sure that is.

The gradients of both images are compared as complex numbers over windows that an earlier transform has
brought together. The moving gradients, not the picture, are interpolated, so that no whole pixel is
preferred to parts of one, and a shift counts as found where one pixel more is as bad as one pixel less. How
sure it is tells the jackknife over cells of the windows: cells that disagree, as under clouds or between
seasons, make it unsure.

Sources: Argyriou and Vlachos, Electronics Letters 39(13):980-982, 2003; Tukey, Annals of Mathematical
Statistics 29:614, 1958.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.initialize.correlation import fit_subpixel_peak
from regflow.methods.initialize.structure import erode_mask

Array = NDArray[np.float64]

CELL_PX = 12
"""Side of a cell: what lies in one is seen as one observation."""
LEAST_CELLS = 6
LEAST_CORRELATION = 0.3
FARTHEST_PX = 1.5
"""Fewer cells or less agreement says nothing, and a longer shift is no rest of a transform."""
STEPS, STILL = 10, 0.002
"""Steps of the climb at most, and one in pixels that is as good as none."""
SIGMA = 0.6
"""Blur in pixels before the gradient."""
MARGIN, VALID_SHARE = 1, 0.95
"""Pixels that one which is not valid spoils around it, and how valid a place between pixels must be."""
OFFSETS = tuple(np.ndindex(3, 3))


@dataclass(frozen=True, eq=False)
class LinkShift:
    """What a link's transform lacks.

    Attributes:
        pixels: ``(x, y)`` by which the moving image must be fetched farther on, in pixels of the windows.
        sigma: standard deviation of a coordinate of it, in pixels.
        correlation: of the gradients after it, at most 1.
    """

    pixels: Array
    sigma: float
    correlation: float


@dataclass(frozen=True, eq=False)
class _GradientPair:
    """The gradients of both images in a window, the moving ones as coefficients of a cubic spline."""

    still: NDArray[np.complex128]
    coefficients: NDArray[np.complex128]
    valid: NDArray[np.float32]
    cells: NDArray[np.int64]
    count: int


def measure_link_shift(windows: Sequence[tuple[Any, Any, Any]]) -> LinkShift | None:
    """Find the shift under which the gradients of two images are most alike over all windows.

    Args:
        windows: of each ``(H, W)`` samples of the fixed image, of the moving image brought onto it, and
            where both are valid.

    Returns:
        The shift; None where the windows do not settle it.
    """
    pairs = [_compare_gradients(*window) for window in windows]
    shift = np.zeros(2)
    for _ in range(STEPS if pairs else 0):
        sums = np.concatenate([_sum_cells(pair, shift) for pair in pairs])
        step = _find_step(_correlate(sums.sum(axis=0)[None])[0])
        shift = shift + step
        if np.abs(shift).max() > FARTHEST_PX:
            return None
        if np.abs(step).max() < STILL:
            return _judge_shift(shift, sums)
    return None


def _find_step(patch: Array) -> Array:
    """Return the step ``(x, y)`` to the maximum, or to the highest neighbor where the middle is lower."""
    row, column = np.unravel_index(int(np.argmax(patch)), patch.shape)
    if (row, column) != (1, 1):
        return np.array([column - 1.0, row - 1.0])
    return np.asarray(fit_subpixel_peak(patch[None])[0])


def _judge_shift(shift: Array, sums: Array) -> LinkShift | None:
    """Return the shift with its jackknife deviation; None where too little speaks for it."""
    used = sums[sums[:, 4, 1] > 0]
    correlation = float(_correlate(used.sum(axis=0)[None])[0, 1, 1])
    if len(used) < LEAST_CELLS or correlation < LEAST_CORRELATION:
        return None
    without = fit_subpixel_peak(_correlate(used.sum(axis=0) - used))
    variance = (len(used) - 1) * without.var(axis=0)
    return LinkShift(shift, math.sqrt(float(variance.mean())), correlation)


def _compare_gradients(fixed: Any, moving: Any, mask: NDArray[np.bool_]) -> _GradientPair:
    from scipy.ndimage import spline_filter

    still, there = (_compute_gradients(values, mask) for values in (fixed, moving))
    rows, cols = (np.arange(size) // CELL_PX for size in mask.shape)
    cells = rows[:, None] * (cols[-1] + 1) + cols
    return _GradientPair(
        still,
        spline_filter(there, order=3, output=np.complex128),
        erode_mask(mask, MARGIN).astype(np.float32),
        cells.ravel(),
        int(cells[-1, -1]) + 1,
    )


def _compute_gradients(values: Any, mask: NDArray[np.bool_]) -> NDArray[np.complex128]:
    """Return gradients as complex numbers, ``x`` real; values are continued where they are not valid."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    flat = gaussian_filter(np.asarray(values, np.float64)[tuple(nearest)], SIGMA)
    down, right = np.gradient(flat)
    return np.asarray(right + 1j * down)


def _sum_cells(pair: _GradientPair, shift: Array) -> Array:
    """Return by cell, and by shifts of a pixel about one, the product of gradients and both energies.

    Returns:
        ``(cells, 9, 3)``, shifts by row and column.
    """
    from scipy.ndimage import shift as move

    sums = np.zeros((pair.count, len(OFFSETS), 3))
    for number, (down, right) in enumerate(OFFSETS):
        way = (-shift[1] - down + 1, -shift[0] - right + 1)
        there = move(pair.coefficients, way, order=3, prefilter=False, mode="nearest")
        valid = (move(pair.valid, way, order=1, mode="constant") > VALID_SHARE) & (pair.valid > 0)
        here, there = np.where(valid, pair.still, 0), np.where(valid, there, 0)
        products = (here.conj() * there).real, np.abs(here) ** 2, np.abs(there) ** 2
        for part, product in enumerate(products):
            sums[:, number, part] = np.bincount(pair.cells, product.ravel(), pair.count)
    return sums


def _correlate(sums: Array) -> Array:
    """Return correlations ``(N, 3, 3)`` of sums ``(N, 9, 3)``; 0 where there is no energy."""
    energy = np.sqrt(np.maximum(sums[..., 1] * sums[..., 2], 0))
    correlation = np.divide(sums[..., 0], energy, out=np.zeros_like(energy), where=energy > 0)
    return correlation.reshape(-1, 3, 3)
