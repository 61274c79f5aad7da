"""What drives the greedy scheme, compiled by numba: similarities, their forces and their curvature.

Parallel as :mod:`greedy_kernels` is, and with spans of the same kind.
"""

from typing import Any, NamedTuple

import numpy as np

from regflow.core.kernels import njit, prange
from regflow.methods.refine import row_kernels as on_row


class LocalStatistics(NamedTuple):
    """An image and what its windows hold, each ``(Z, Y, X)`` float32.

    Attributes:
        values: the samples.
        mean: their local mean.
        precision: one over their local variance.
    """

    values: Any
    mean: Any
    precision: Any


class WindowSize(NamedTuple):
    """The window around each sample, cut at the image's borders.

    Attributes:
        radii: in samples along z, y and x.
        counts_z: for each plane, how many of its window's planes lie in the image.
        counts_y: the same for rows.
        counts_x: the same along rows.
    """

    radii: Any
    counts_z: Any
    counts_y: Any
    counts_x: Any


@njit(**on_row.ROW)
def _add_products(fixed: Any, moved: Any, sums: Any) -> None:
    for x in range(moved.size):
        value = moved[x]
        sums[0, x] += value
        sums[1, x] += value * value
        sums[2, x] += value * fixed[x]


@njit(**on_row.ROW)
def _sum_planes(fixed: Any, moved: Any, plane: int, radius: int, box: Any, columns: Any) -> None:
    """Add the products of the planes in a window around ``plane``, in a box, to ``(Y, 3, X)``."""
    first, end, left, right = box
    for k in range(max(plane - radius, 0), min(plane + radius, fixed.shape[0] - 1) + 1):
        for y in range(first, end):
            _add_products(fixed[k, y, left:right], moved[k, y, left:right], columns[y - first])


@njit(**on_row.ROW)
def _sum_rows(columns: Any, y: int, radius: int, out: Any) -> None:
    """Sum ``(Y, C, X)`` over a window of rows around ``y``."""
    out[:] = 0
    for k in range(max(y - radius, 0), min(y + radius, columns.shape[0] - 1) + 1):
        for n in range(out.shape[0]):
            on_row.add_row(columns[k, n], out[n])


@njit(**on_row.ROW)
def _slide(sums: Any, radius: int, padded: Any, out: Any) -> None:
    """Sum ``(3, X)`` rows over a window along x; outside counts as zero."""
    width = out.shape[1]
    padded[:, :radius] = 0
    padded[:, radius + width :] = 0
    for n in range(sums.shape[0]):
        padded[n, radius : radius + width] = sums[n]
        out[n] = padded[n, :width]
        for r in range(1, 2 * radius + 1):
            on_row.add_row(padded[n, r : r + width], out[n])


@njit(**on_row.ROW)
def _share_row(counts_z: Any, counts_y: Any, counts_x: Any, out: Any) -> None:
    """One over the number of samples in each window of a row."""
    for x in range(out.size):
        out[x] = np.float32(1) / (counts_z * counts_y * counts_x[x])


@njit(**on_row.PARALLEL)
def compute_local_means(channels: Any, window: WindowSize, out: Any) -> None:
    """Write the means of ``(C, Z, Y, X)`` channels over windows, cut at the image's borders."""
    radii, counts_z, counts_y, counts_x = window
    count, depth, height, width = channels.shape
    for plane in prange(depth):
        z = np.int64(plane)
        columns = np.zeros((height, count, width), np.float32)
        for k in range(max(z - radii[0], 0), min(z + radii[0], depth - 1) + 1):
            for y in range(height):
                for c in range(count):
                    on_row.add_row(channels[c, k, y], columns[y, c])
        padded = np.empty((count, width + 2 * radii[2]), np.float32)
        rows, sums = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
        shares = np.empty(width, np.float32)
        for y in range(height):
            _sum_rows(columns, y, radii[1], rows)
            _slide(rows, radii[2], padded, sums)
            _share_row(counts_z[z], counts_y[y], counts_x, shares)
            for c in range(count):
                on_row.multiply_row(shares, sums[c])
                out[c, z, y] = sums[c]


@njit(**on_row.ROW)
def _correlation_row(
    fixed: Any,
    mean: Any,
    precision: Any,
    moved: Any,
    sums: Any,
    shares: Any,
    weights: Any,
    floor: Any,
    pull: Any,
) -> np.float32:
    """Write the force's scalar factor of a row; return its summed squared correlation."""
    total = np.float32(0)
    for x in range(moved.size):
        moved_mean = sums[0, x] * shares[x]
        variance = sums[1, x] * shares[x] - moved_mean * moved_mean + floor
        covariance = sums[2, x] * shares[x] - moved_mean * mean[x]
        slope = covariance / variance
        residual = (fixed[x] - mean[x]) - slope * (moved[x] - moved_mean)
        pull[x] = weights[x] * slope * residual * precision[x]
        total += weights[x] * slope * covariance * precision[x]
    return total


@njit(**on_row.ROW)
def _add_slope(pull: Any, before: Any, after: Any, scale: Any, force: Any) -> None:
    for x in range(pull.size):
        force[x] += pull[x] * (after[x] - before[x]) * scale


@njit(**on_row.ROW)
def _push_row(
    pull: Any, moved: Any, z: int, y: int, low: int, metric: Any, deep: Any, across: Any, along: Any
) -> None:
    """Add ``pull`` times the gradient of one moved channel to a row of the force's three components.

    All four begin at the sample ``low`` of the image's row. Differences are central, one-sided at borders.
    """
    depth, height, width = moved.shape
    high = low + pull.size
    below, above = max(z - 1, 0), min(z + 1, depth - 1)
    back, front = max(y - 1, 0), min(y + 1, height - 1)
    row = moved[z, y]
    first, second = (
        metric[0] / np.float32(max(above - below, 1)),
        metric[1] / np.float32(max(front - back, 1)),
    )
    _add_slope(pull, moved[below, y, low:high], moved[above, y, low:high], first, deep)
    _add_slope(pull, moved[z, back, low:high], moved[z, front, low:high], second, across)
    a, b = max(low, 1), min(high, width - 1)
    inner = slice(a - low, b - low)
    _add_slope(pull[inner], row[a - 1 : b - 1], row[a + 1 : b + 1], metric[2] * np.float32(0.5), along[inner])
    if width > 1 and low == 0:
        along[0] += pull[0] * (row[1] - row[0]) * metric[2]
    if width > 1 and high == width:
        along[width - 1 - low] += pull[width - 1 - low] * (row[width - 1] - row[width - 2]) * metric[2]


@njit(**on_row.PARALLEL)
def compute_correlation_force(
    statistics: LocalStatistics,
    window: WindowSize,
    floor: Any,
    moved: Any,
    weights: Any,
    spans: Any,
    metric: Any,
    force: Any,
    totals: Any,
) -> None:
    """Write the gradient of the local squared correlation with respect to the displacement.

    Args:
        statistics: of the fixed image.
        window: over which they are taken.
        floor: added to variances.
        moved: ``(Z, Y, X)``, the moving image at the current displacement.
        weights: of the samples.
        spans: of the rows, with a window's radius around all weights.
        metric: of :attr:`GreedyLevel.metric`.
        force: ``(3, Z, Y, X)``, overwritten.
        totals: ``(Z,)`` float64, the weighted sum of squared correlations of each plane.
    """
    fixed, mean, precision = statistics
    radii, counts_z, counts_y, counts_x = window
    depth, height, width = fixed.shape
    for plane in prange(depth):
        z = np.int64(plane)
        force[:, z] = 0
        totals[z] = 0.0
        top, bottom, left, right = on_row.find_box(spans[z])
        if top >= bottom:
            continue
        first, end = max(top - radii[1], 0), min(bottom + radii[1], height)
        columns = np.zeros((end - first, 3, right - left), np.float32)
        _sum_planes(fixed, moved, z, radii[0], (first, end, left, right), columns)
        padded = np.empty((3, width + 2 * radii[2]), np.float32)
        rows, sums = np.empty((3, right - left), np.float32), np.empty((3, right - left), np.float32)
        shares, pull = np.empty(right - left, np.float32), np.empty(right - left, np.float32)
        total = 0.0
        for y in range(top, bottom):
            if not weights[z, y].any():
                continue
            _sum_rows(columns, y - first, radii[1], rows)
            _slide(rows, radii[2], padded, sums)
            _share_row(counts_z[z], counts_y[y], counts_x[left:right], shares)
            total += _correlation_row(
                fixed[z, y, left:right],
                mean[z, y, left:right],
                precision[z, y, left:right],
                moved[z, y, left:right],
                sums,
                shares,
                weights[z, y, left:right],
                floor,
                pull,
            )
            _push_row(
                pull,
                moved,
                z,
                y,
                left,
                metric,
                force[0, z, y, left:right],
                force[1, z, y, left:right],
                force[2, z, y, left:right],
            )
        totals[z] = total


@njit(**on_row.PARALLEL)
def compute_difference_force(
    fixed: Any, moved: Any, weights: Any, spans: Any, metric: Any, force: Any, totals: Any
) -> None:
    """Write the negative gradient of half the squared differences of ``(C, Z, Y, X)`` channels.

    Arguments are those of :func:`compute_correlation_force`; ``totals`` gets minus the squared differences.
    """
    channels, depth, height, width = fixed.shape
    for plane in prange(depth):
        z = np.int64(plane)
        force[:, z] = 0
        row = np.empty(width, np.float32)
        total = 0.0
        for y in range(height):
            low, high = spans[z, y]
            pull = row[: high - low]
            for c in range(channels):
                total -= _difference_row(
                    fixed[c, z, y, low:high], moved[c, z, y, low:high], weights[z, y, low:high], pull
                )
                _push_row(
                    pull,
                    moved[c],
                    z,
                    y,
                    low,
                    metric,
                    force[0, z, y, low:high],
                    force[1, z, y, low:high],
                    force[2, z, y, low:high],
                )
        totals[z] = total


@njit(**on_row.ROW)
def _difference_row(fixed: Any, moved: Any, weights: Any, pull: Any) -> np.float32:
    total = np.float32(0)
    for x in range(moved.size):
        difference = fixed[x] - moved[x]
        pull[x] = weights[x] * difference
        total += weights[x] * difference * difference
    return total


@njit(**on_row.PARALLEL)
def sum_squared_slopes(channels: Any, weights: Any, metric: Any, totals: Any) -> None:
    """Write each plane's sum of weighted squared slopes of ``(C, Z, Y, X)`` channels."""
    count, depth, height, width = channels.shape
    for plane in prange(depth):
        z = np.int64(plane)
        slopes, one = np.empty((3, width), np.float32), np.ones(width, np.float32)
        total = 0.0
        for y in range(height):
            for c in range(count):
                slopes[:] = 0
                _push_row(one, channels[c], z, y, 0, metric, slopes[0], slopes[1], slopes[2])
                for n in range(3):
                    total += _weighted_squares(slopes[n], weights[z, y]) / metric[n]
        totals[z] = total


@njit(**on_row.ROW)
def _weighted_squares(values: Any, weights: Any) -> np.float32:
    total = np.float32(0)
    for x in range(values.size):
        total += weights[x] * values[x] * values[x]
    return total
