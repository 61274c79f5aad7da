"""The greedy scheme's loops, compiled by numba.

Each loop is parallel over the first axis, and every plane is computed from its inputs alone, sums
included, so no bit depends on the number of threads. Rows are handed to small functions on
contiguous rows, which the compiler turns into vector instructions.
"""

from typing import Any

import numpy as np
from numba import njit, prange

_MATH = {"contract", "nsz", "arcp", "reassoc"}
_ROW: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": _MATH}
_PARALLEL: dict[str, Any] = {**_ROW, "parallel": True}


@njit(**_ROW)
def _scale_row(weight: Any, source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = weight * source[x]


@njit(**_ROW)
def _add_pair(weight: Any, first: Any, second: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] += weight * (first[x] + second[x])


@njit(**_ROW)
def _add_row(source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] += source[x]


@njit(**_PARALLEL)
def smooth(field: Any, taps_z: Any, taps_y: Any, taps_x: Any, out: Any) -> None:
    """Filter ``(C, Z, Y, X)`` by a separable symmetric kernel; borders repeat their samples."""
    channels, depth, height, width = field.shape
    pad = taps_x.size - 1
    for plane in prange(depth):
        z = np.int64(plane)
        partial = np.empty((height, width), np.float32)
        padded = np.empty(width + 2 * pad, np.float32)
        inner = padded[pad : pad + width]
        for c in range(channels):
            for y in range(height):
                _scale_row(taps_z[0], field[c, z, y], partial[y])
                for r in range(1, taps_z.size):
                    below, above = max(z - r, 0), min(z + r, depth - 1)
                    _add_pair(taps_z[r], field[c, below, y], field[c, above, y], partial[y])
            for y in range(height):
                _scale_row(taps_y[0], partial[y], inner)
                for r in range(1, taps_y.size):
                    _add_pair(taps_y[r], partial[max(y - r, 0)], partial[min(y + r, height - 1)], inner)
                padded[:pad] = inner[0]
                padded[pad + width :] = inner[width - 1]
                _scale_row(taps_x[0], inner, out[c, z, y])
                for r in range(1, taps_x.size):
                    before, after = padded[pad - r : pad - r + width], padded[pad + r : pad + r + width]
                    _add_pair(taps_x[r], before, after, out[c, z, y])


@njit(**_ROW)
def _add_products(fixed: Any, moved: Any, sums: Any) -> None:
    for x in range(moved.size):
        value = moved[x]
        sums[0, x] += value
        sums[1, x] += value * value
        sums[2, x] += value * fixed[x]


@njit(**_ROW)
def _sum_planes(fixed: Any, moved: Any, plane: int, radius: int, columns: Any) -> None:
    """Add the products of the planes in a window around ``plane`` to ``(Y, 3, X)``."""
    for k in range(max(plane - radius, 0), min(plane + radius, fixed.shape[0] - 1) + 1):
        for y in range(columns.shape[0]):
            _add_products(fixed[k, y], moved[k, y], columns[y])


@njit(**_ROW)
def _sum_rows(columns: Any, y: int, radius: int, out: Any) -> None:
    """Sum ``(Y, C, X)`` over a window of rows around ``y``."""
    out[:] = 0
    for k in range(max(y - radius, 0), min(y + radius, columns.shape[0] - 1) + 1):
        for n in range(out.shape[0]):
            _add_row(columns[k, n], out[n])


@njit(**_ROW)
def _slide(sums: Any, radius: int, padded: Any, out: Any) -> None:
    """Sum ``(3, X)`` rows over a window along x; outside counts as zero."""
    width = out.shape[1]
    padded[:, :radius] = 0
    padded[:, radius + width :] = 0
    for n in range(sums.shape[0]):
        padded[n, radius : radius + width] = sums[n]
        out[n] = padded[n, :width]
        for r in range(1, 2 * radius + 1):
            _add_row(padded[n, r : r + width], out[n])


@njit(**_ROW)
def _share_row(counts_z: Any, counts_y: Any, counts_x: Any, out: Any) -> None:
    """One over the number of samples in each window of a row."""
    for x in range(out.size):
        out[x] = np.float32(1) / (counts_z * counts_y * counts_x[x])


@njit(**_ROW)
def _multiply_row(factors: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] *= factors[x]


@njit(**_PARALLEL)
def local_means(channels: Any, radii: Any, counts_z: Any, counts_y: Any, counts_x: Any, out: Any) -> None:
    """Write the means of ``(C, Z, Y, X)`` channels over windows, cut at the image's borders."""
    count, depth, height, width = channels.shape
    for plane in prange(depth):
        z = np.int64(plane)
        columns = np.zeros((height, count, width), np.float32)
        for k in range(max(z - radii[0], 0), min(z + radii[0], depth - 1) + 1):
            for y in range(height):
                for c in range(count):
                    _add_row(channels[c, k, y], columns[y, c])
        padded = np.empty((count, width + 2 * radii[2]), np.float32)
        rows, sums = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
        shares = np.empty(width, np.float32)
        for y in range(height):
            _sum_rows(columns, y, radii[1], rows)
            _slide(rows, radii[2], padded, sums)
            _share_row(counts_z[z], counts_y[y], counts_x, shares)
            for c in range(count):
                _multiply_row(shares, sums[c])
                out[c, z, y] = sums[c]


@njit(**_ROW)
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


@njit(**_ROW)
def _gradient_row(pull: Any, moved: Any, z: int, y: int, sides: Any, scale: Any, force: Any) -> None:
    """Add the factor times the gradient of the moved image to a row of the force."""
    below, above = moved[sides[0], y], moved[sides[1], y]
    back, front, row = moved[z, sides[2]], moved[z, sides[3]], moved[z, y]
    width = row.size
    for x in range(width):
        force[0, x] += pull[x] * (above[x] - below[x]) * scale[0]
        force[1, x] += pull[x] * (front[x] - back[x]) * scale[1]
    for x in range(1, width - 1):
        force[2, x] += pull[x] * (row[x + 1] - row[x - 1]) * scale[2]
    if width > 1:
        twice = scale[2] * np.float32(2)
        force[2, 0] += pull[0] * (row[1] - row[0]) * twice
        force[2, width - 1] += pull[width - 1] * (row[width - 1] - row[width - 2]) * twice


@njit(**_ROW)
def _push_row(pull: Any, moved: Any, z: int, y: int, metric: Any, scale: Any, force: Any) -> None:
    """Add ``pull`` times the gradient of one moved channel to a row ``(3, X)`` of the force.

    Differences are central, one-sided at borders.
    """
    depth, height = moved.shape[:2]
    below, above = max(z - 1, 0), min(z + 1, depth - 1)
    back, front = max(y - 1, 0), min(y + 1, height - 1)
    scale[0] = metric[0] / np.float32(max(above - below, 1))
    scale[1] = metric[1] / np.float32(max(front - back, 1))
    scale[2] = metric[2] * np.float32(0.5)
    _gradient_row(pull, moved, z, y, (below, above, back, front), scale, force)


@njit(**_PARALLEL)
def correlation_force(
    fixed: Any,
    mean: Any,
    precision: Any,
    moved: Any,
    weights: Any,
    radii: Any,
    counts_z: Any,
    counts_y: Any,
    counts_x: Any,
    floor: Any,
    metric: Any,
    force: Any,
    totals: Any,
) -> None:
    """Write the gradient of the local squared correlation with respect to the displacement.

    Args:
        fixed: ``(Z, Y, X)``.
        mean: its local mean.
        precision: one over its local variance.
        moved: the moving image at the current displacement.
        weights: of the samples.
        radii: of the window along each axis.
        counts_z: for each plane, how many of its window's planes lie in the image.
        counts_y: the same for rows.
        counts_x: the same along rows.
        floor: added to variances.
        metric: of :attr:`Level.metric`.
        force: ``(3, Z, Y, X)``, overwritten.
        totals: ``(Z,)`` float64, the weighted sum of squared correlations of each plane.
    """
    depth, height, width = fixed.shape
    for plane in prange(depth):
        z = np.int64(plane)
        columns = np.zeros((height, 3, width), np.float32)
        _sum_planes(fixed, moved, z, radii[0], columns)
        padded = np.empty((3, width + 2 * radii[2]), np.float32)
        rows, sums = np.empty((3, width), np.float32), np.empty((3, width), np.float32)
        shares, pull = np.empty(width, np.float32), np.empty(width, np.float32)
        scale = np.empty(3, np.float32)
        total = 0.0
        for y in range(height):
            force[:, z, y] = 0
            if not weights[z, y].any():
                continue
            _sum_rows(columns, y, radii[1], rows)
            _slide(rows, radii[2], padded, sums)
            _share_row(counts_z[z], counts_y[y], counts_x, shares)
            total += _correlation_row(
                fixed[z, y],
                mean[z, y],
                precision[z, y],
                moved[z, y],
                sums,
                shares,
                weights[z, y],
                floor,
                pull,
            )
            _push_row(pull, moved, z, y, metric, scale, force[:, z, y])
        totals[z] = total


@njit(**_PARALLEL)
def difference_force(fixed: Any, moved: Any, weights: Any, metric: Any, force: Any, totals: Any) -> None:
    """Write the negative gradient of half the squared differences of ``(C, Z, Y, X)`` channels.

    Arguments are those of :func:`correlation_force`; ``totals`` gets minus the squared differences.
    """
    channels, depth, height, width = fixed.shape
    for plane in prange(depth):
        z = np.int64(plane)
        pull, scale = np.empty(width, np.float32), np.empty(3, np.float32)
        total = 0.0
        for y in range(height):
            force[:, z, y] = 0
            if not weights[z, y].any():
                continue
            for c in range(channels):
                total -= _difference_row(fixed[c, z, y], moved[c, z, y], weights[z, y], pull)
                _push_row(pull, moved[c], z, y, metric, scale, force[:, z, y])
        totals[z] = total


@njit(**_ROW)
def _difference_row(fixed: Any, moved: Any, weights: Any, pull: Any) -> np.float32:
    total = np.float32(0)
    for x in range(moved.size):
        difference = fixed[x] - moved[x]
        pull[x] = weights[x] * difference
        total += weights[x] * difference * difference
    return total


@njit(**_PARALLEL)
def squared_slopes(channels: Any, weights: Any, metric: Any, totals: Any) -> None:
    """Write each plane's sum of weighted squared slopes of ``(C, Z, Y, X)`` channels."""
    count, depth, height, width = channels.shape
    for plane in prange(depth):
        z = np.int64(plane)
        slopes = np.empty((3, width), np.float32)
        one, scale = np.ones(width, np.float32), np.empty(3, np.float32)
        total = 0.0
        for y in range(height):
            for c in range(count):
                slopes[:] = 0
                _push_row(one, channels[c], z, y, metric, scale, slopes)
                for n in range(3):
                    total += _weighted_squares(slopes[n], weights[z, y]) / metric[n]
        totals[z] = total


@njit(**_ROW)
def _weighted_squares(values: Any, weights: Any) -> np.float32:
    total = np.float32(0)
    for x in range(values.size):
        total += weights[x] * values[x] * values[x]
    return total


@njit(**_PARALLEL)
def scale_and_measure(field: Any, factors: Any, lengths: Any, out: Any) -> None:
    """Multiply ``(3, Z, Y, X)`` by ``(Z, Y, X)`` factors; write each plane's largest squared length.

    ``lengths`` are the axes' units.
    """
    for plane in prange(field.shape[1]):
        z = np.int64(plane)
        longest = np.float32(0)
        for y in range(field.shape[2]):
            for n in range(3):
                _multiply_row(factors[z, y], field[n, z, y])
            longest = max(longest, _longest(field[:, z, y], lengths))
        out[z] = longest


@njit(**_ROW)
def _longest(vectors: Any, lengths: Any) -> np.float32:
    longest = np.float32(0)
    first, second, third = vectors[0], vectors[1], vectors[2]
    for x in range(first.size):
        a, b, c = first[x] * lengths[0], second[x] * lengths[1], third[x] * lengths[2]
        longest = max(longest, a * a + b * b + c * c)
    return longest


@njit(**_ROW)
def _split_row(start: Any, rate: Any, offsets: Any, factor: Any, length: int, low: Any, share: Any) -> None:
    """Lower neighbors and shares of the upper ones for positions ``start + rate x + factor offset``."""
    top, last = np.float32(length - 1), np.int32(max(length - 2, 0))
    for x in range(low.size):
        position = min(max(start + rate * np.float32(x) + factor * offsets[x], np.float32(0)), top)
        index = min(np.int32(position), last)
        low[x] = index
        share[x] = position - np.float32(index)


@njit(**_ROW)
def _gather_row(source: Any, corners: Any, shares: Any, steps: Any, out: Any) -> None:
    """Interpolate a flat volume linearly at the cells whose lowest ``corners`` are given.

    Offsets are unsigned, which spares the test for negative indices.
    """
    dz, dy, dx = steps
    for x in range(out.size):
        c, b, a = shares[0, x], shares[1, x], shares[2, x]
        p = np.uint64(corners[x])
        q, r = p + dy, p + dz
        s = r + dy
        s00 = source[p] + a * (source[p + dx] - source[p])
        s01 = source[q] + a * (source[q + dx] - source[q])
        s10 = source[r] + a * (source[r + dx] - source[r])
        s11 = source[s] + a * (source[s + dx] - source[s])
        s00 += b * (s01 - s00)
        s10 += b * (s11 - s10)
        out[x] = s00 + c * (s10 - s00)


@njit(**_PARALLEL)
def pull(channels: Any, field: Any, factor: Any, out: Any) -> None:
    """Sample ``(C, Z, Y, X)`` channels linearly at ``i + factor * field(i)``; borders extend."""
    count, depth, height, width = channels.shape
    flat = channels.reshape(count, depth * height * width)
    steps = (
        np.uint64(height * width if depth > 1 else 0),
        np.uint64(width if height > 1 else 0),
        np.uint64(1 if width > 1 else 0),
    )
    zero, one = np.float32(0), np.float32(1)
    for plane in prange(out.shape[1]):
        z = np.int64(plane)
        low = np.empty((3, out.shape[3]), np.int32)
        corners = np.empty(out.shape[3], np.int64)
        shares = np.empty((3, out.shape[3]), np.float32)
        for y in range(out.shape[2]):
            _split_row(np.float32(z), zero, field[0, z, y], factor, depth, low[0], shares[0])
            _split_row(np.float32(y), zero, field[1, z, y], factor, height, low[1], shares[1])
            _split_row(zero, one, field[2, z, y], factor, width, low[2], shares[2])
            for x in range(corners.size):
                corners[x] = (np.int64(low[0, x]) * height + low[1, x]) * width + low[2, x]
            for n in range(count):
                _gather_row(flat[n], corners, shares, steps, out[n, z, y])


@njit(**_PARALLEL)
def add_scaled(field: Any, factor: Any, out: Any) -> None:
    """Add ``factor`` times a field to ``out``."""
    for plane in prange(field.shape[1]):
        z = np.int64(plane)
        for c in range(field.shape[0]):
            for y in range(field.shape[2]):
                _add_pair(factor * np.float32(0.5), field[c, z, y], field[c, z, y], out[c, z, y])
