"""The greedy scheme's loops, compiled by numba.

Each loop is parallel over the first axis, and every plane is computed from its inputs alone, sums
included, so no bit depends on the number of threads. Rows are handed to small functions on
contiguous rows, which the compiler turns into vector instructions.

Where a loop takes ``spans``, an int32 ``(Z, Y, 2)``, it computes only from the first of these samples of each
row to before the second: a mask is seldom half of its box. Outside, the output keeps what it held,
unless told otherwise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

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


@njit(**_ROW)
def _box(spans: Any) -> Any:
    """Return the rows ``first, end`` and samples ``first, end`` that a plane's spans ``(Y, 2)`` lie in.

    Without any, ``first`` is not before ``end``.
    """
    top, bottom, left, right = spans.shape[0], 0, spans[:, 1].max(), 0
    for y in range(spans.shape[0]):
        if spans[y, 0] < spans[y, 1]:
            top, bottom = min(top, y), y + 1
            left, right = min(left, spans[y, 0]), max(right, spans[y, 1])
    return top, bottom, left, right


@njit(**_PARALLEL)
def smooth(field: Any, taps_z: Any, taps_y: Any, taps_x: Any, spans: Any, out: Any) -> None:
    """Filter ``(C, Z, Y, X)`` by a separable symmetric kernel; borders repeat their samples."""
    channels, depth, height, width = field.shape
    reach, pad = taps_y.size - 1, taps_x.size - 1
    for plane in prange(depth):
        z = np.int64(plane)
        top, bottom, left, right = _box(spans[z])
        if top >= bottom:
            continue
        first, end = max(top - reach, 0), min(bottom + reach, height)
        left, right = max(left - pad, 0), min(right + pad, width)
        partial = np.empty((end - first, right - left), np.float32)
        padded = np.empty(width + 2 * pad, np.float32)
        for c in range(channels):
            for y in range(first, end):
                row = partial[y - first]
                _scale_row(taps_z[0], field[c, z, y, left:right], row)
                for r in range(1, taps_z.size):
                    below, above = max(z - r, 0), min(z + r, depth - 1)
                    _add_pair(taps_z[r], field[c, below, y, left:right], field[c, above, y, left:right], row)
            for y in range(top, bottom):
                low, high = spans[z, y]
                if low >= high:
                    continue
                a, b = max(low - pad, left), min(high + pad, right)
                inner = padded[pad + a : pad + b]
                _scale_row(taps_y[0], partial[y - first, a - left : b - left], inner)
                for r in range(1, taps_y.size):
                    back, front = max(y - r, 0) - first, min(y + r, height - 1) - first
                    _add_pair(
                        taps_y[r],
                        partial[back, a - left : b - left],
                        partial[front, a - left : b - left],
                        inner,
                    )
                if a == 0:
                    padded[:pad] = padded[pad]
                if b == width:
                    padded[pad + width :] = padded[pad + width - 1]
                _smooth_row(taps_x, padded, low, out[c, z, y, low:high])


@njit(**_ROW)
def _smooth_row(taps: Any, padded: Any, low: int, out: Any) -> None:
    """Filter the samples from ``low`` on of a row that has ``taps.size - 1`` samples before its first."""
    start, count = low + taps.size - 1, out.size
    _scale_row(taps[0], padded[start : start + count], out)
    for r in range(1, taps.size):
        _add_pair(taps[r], padded[start - r : start - r + count], padded[start + r : start + r + count], out)


@njit(**_ROW)
def _add_products(fixed: Any, moved: Any, sums: Any) -> None:
    for x in range(moved.size):
        value = moved[x]
        sums[0, x] += value
        sums[1, x] += value * value
        sums[2, x] += value * fixed[x]


@njit(**_ROW)
def _sum_planes(fixed: Any, moved: Any, plane: int, radius: int, box: Any, columns: Any) -> None:
    """Add the products of the planes in a window around ``plane``, in a box, to ``(Y, 3, X)``."""
    first, end, left, right = box
    for k in range(max(plane - radius, 0), min(plane + radius, fixed.shape[0] - 1) + 1):
        for y in range(first, end):
            _add_products(fixed[k, y, left:right], moved[k, y, left:right], columns[y - first])


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
def _add_slope(pull: Any, before: Any, after: Any, scale: Any, force: Any) -> None:
    for x in range(pull.size):
        force[x] += pull[x] * (after[x] - before[x]) * scale


@njit(**_ROW)
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


@njit(**_PARALLEL)
def correlation_force(
    fixed: Any,
    mean: Any,
    precision: Any,
    moved: Any,
    weights: Any,
    spans: Any,
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
        spans: of the rows, with a window's radius around all weights.
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
        force[:, z] = 0
        totals[z] = 0.0
        top, bottom, left, right = _box(spans[z])
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


@njit(**_PARALLEL)
def difference_force(
    fixed: Any, moved: Any, weights: Any, spans: Any, metric: Any, force: Any, totals: Any
) -> None:
    """Write the negative gradient of half the squared differences of ``(C, Z, Y, X)`` channels.

    Arguments are those of :func:`correlation_force`; ``totals`` gets minus the squared differences.
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
        slopes, one = np.empty((3, width), np.float32), np.ones(width, np.float32)
        total = 0.0
        for y in range(height):
            for c in range(count):
                slopes[:] = 0
                _push_row(one, channels[c], z, y, 0, metric, slopes[0], slopes[1], slopes[2])
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
def scale_and_measure(field: Any, factors: Any, lengths: Any, spans: Any, out: Any) -> None:
    """Multiply ``(3, Z, Y, X)`` by ``(Z, Y, X)`` factors; write each plane's largest squared length.

    ``lengths`` are the axes' units.
    """
    for plane in prange(field.shape[1]):
        z = np.int64(plane)
        longest = np.float32(0)
        for y in range(field.shape[2]):
            low, high = spans[z, y]
            deep, across, along = field[0, z, y, low:high], field[1, z, y, low:high], field[2, z, y, low:high]
            for row in (deep, across, along):
                _multiply_row(factors[z, y, low:high], row)
            longest = max(longest, _longest(deep, across, along, lengths))
        out[z] = longest


@njit(**_PARALLEL)
def accumulate(keep: Any, scale: Any, source: Any, spans: Any, out: Any) -> None:
    """Turn a field ``out`` into ``keep * out + scale * source``."""
    for plane in prange(out.shape[1]):
        z = np.int64(plane)
        for y in range(out.shape[2]):
            low, high = spans[z, y]
            for n in range(out.shape[0]):
                _blend_row(keep, scale, source[n, z, y, low:high], out[n, z, y, low:high])


@njit(**_ROW)
def _blend_row(keep: Any, scale: Any, source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = keep * out[x] + scale * source[x]


@njit(**_ROW)
def _longest(first: Any, second: Any, third: Any, lengths: Any) -> np.float32:
    longest = np.float32(0)
    for x in range(first.size):
        a, b, c = first[x] * lengths[0], second[x] * lengths[1], third[x] * lengths[2]
        longest = max(longest, a * a + b * b + c * c)
    return longest


@njit(**_ROW)
def _split_row(start: Any, rate: Any, offsets: Any, length: int, low: Any, share: Any) -> None:
    """Lower neighbors and shares of the upper ones for positions ``start + rate x + offset``."""
    top, last = np.float32(length - 1), np.int32(max(length - 2, 0))
    for x in range(offsets.size):
        position = min(max(start + rate * np.float32(x) + offsets[x], np.float32(0)), top)
        index = min(np.int32(position), last)
        low[x] = index
        share[x] = position - np.float32(index)


@njit(**_ROW)
def _cells_row(
    field: Any, z: int, y: int, start: int, end: int, shape: Any, cells: Any, corners: Any, shares: Any
) -> None:
    """Write which cells of a volume of ``shape`` a row of positions ``i + field(i)`` falls into.

    ``corners`` get the flat index of each cell's lowest corner, ``shares`` the position within.
    """
    depth, height, width = shape
    zero, one = np.float32(0), np.float32(1)
    _split_row(np.float32(z), zero, field[0, z, y, start:end], depth, cells[0], shares[0])
    _split_row(np.float32(y), zero, field[1, z, y, start:end], height, cells[1], shares[1])
    _split_row(np.float32(start), one, field[2, z, y, start:end], width, cells[2], shares[2])
    for x in range(end - start):
        corners[x] = (np.int64(cells[0, x]) * height + cells[1, x]) * width + cells[2, x]


@njit(**_ROW)
def _steps(shape: Any) -> Any:
    """Return how far the neighbor along each axis is in a flat volume; 0 along an axis of one sample.

    Unsigned offsets spare the test for negative indices.
    """
    depth, height, width = shape
    return (
        np.uint64(height * width if depth > 1 else 0),
        np.uint64(width if height > 1 else 0),
        np.uint64(1 if width > 1 else 0),
    )


@njit(**_ROW)
def _gather_row(source: Any, corners: Any, shares: Any, steps: Any, out: Any) -> None:
    """Interpolate a flat volume linearly at the cells whose lowest ``corners`` are given."""
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
def pull(channels: Any, field: Any, spans: Any, out: Any) -> None:
    """Sample ``(C, Z, Y, X)`` channels linearly at ``i + field(i)``; borders extend."""
    shape, steps = channels.shape[1:], _steps(channels.shape[1:])
    flat = channels.reshape(channels.shape[0], -1)
    for plane in prange(out.shape[1]):
        z = np.int64(plane)
        cells, corners = np.empty((3, out.shape[3]), np.int32), np.empty(out.shape[3], np.int64)
        shares = np.empty((3, out.shape[3]), np.float32)
        for y in range(out.shape[2]):
            low, high = spans[z, y]
            _cells_row(field, z, y, low, high, shape, cells, corners, shares)
            for n in range(channels.shape[0]):
                _gather_row(flat[n], corners, shares, steps, out[n, z, y, low:high])


@njit(**_PARALLEL)
def compose(field: Any, update: Any, spans: Any, out: Any) -> None:
    """Write ``field(i + update(i)) + update(i)``; outside the spans ``field(i)``."""
    shape, steps = field.shape[1:], _steps(field.shape[1:])
    flat = field.reshape(3, -1)
    for plane in prange(shape[0]):
        z = np.int64(plane)
        cells, corners = np.empty((3, shape[2]), np.int32), np.empty(shape[2], np.int64)
        shares = np.empty((3, shape[2]), np.float32)
        for y in range(shape[1]):
            low, high = spans[z, y]
            _cells_row(update, z, y, low, high, shape, cells, corners, shares)
            for n in range(3):
                out[n, z, y, :low] = field[n, z, y, :low]
                _gather_row(flat[n], corners, shares, steps, out[n, z, y, low:high])
                _add_row(update[n, z, y, low:high], out[n, z, y, low:high])
                out[n, z, y, high:] = field[n, z, y, high:]


@njit(**_PARALLEL)
def keep_seen(valid: Any, field: Any, weights: Any, spans: Any, least: Any, out: Any) -> None:
    """Write the weights where ``valid`` ``(Z, Y, X)`` at ``i + field(i)`` is over ``least``; else 0."""
    steps, flat = _steps(valid.shape), valid.reshape(-1)
    for plane in prange(weights.shape[0]):
        z = np.int64(plane)
        width = weights.shape[2]
        cells, corners = np.empty((3, width), np.int32), np.empty(width, np.int64)
        shares, seen = np.empty((3, width), np.float32), np.empty(width, np.float32)
        for y in range(weights.shape[1]):
            out[z, y] = 0
            if not weights[z, y].any():
                continue
            low, high = spans[z, y]
            _cells_row(field, z, y, low, high, valid.shape, cells, corners, shares)
            _gather_row(flat, corners, shares, steps, seen[: high - low])
            for x in range(low, high):
                out[z, y, x] = weights[z, y, x] if seen[x - low] > least else np.float32(0)


def everywhere(shape: Sequence[int]) -> NDArray[np.int32]:
    """Return spans that hold every sample of a volume of ``shape``."""
    return np.broadcast_to(np.array([0, shape[-1]], np.int32), (*shape[:-1], 2)).copy()


def spans_of(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the spans of the samples of a mask ``(Z, Y, X)``: in each row from the first to the last."""
    first, last = mask.argmax(axis=-1), mask.shape[-1] - mask[..., ::-1].argmax(axis=-1)
    found = mask.any(axis=-1)
    return np.stack([np.where(found, first, 0), np.where(found, last, 0)], axis=-1).astype(np.int32)
