"""What the greedy scheme does with fields, compiled by numba: smooth, sample, compose, add up.

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
from numpy.typing import NDArray

from regflow.core.kernels import njit, prange
from regflow.methods.refine import row_kernels as on_row


@njit(**on_row.ROW)
def _scale_row(weight: Any, source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = weight * source[x]


@njit(**on_row.ROW)
def _add_pair(weight: Any, first: Any, second: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] += weight * (first[x] + second[x])


@njit(**on_row.PARALLEL)
def smooth_channels(field: Any, taps_z: Any, taps_y: Any, taps_x: Any, spans: Any, out: Any) -> None:
    """Filter ``(C, Z, Y, X)`` by a separable symmetric kernel; borders repeat their samples."""
    channels, depth, height, width = field.shape
    reach, pad = taps_y.size - 1, taps_x.size - 1
    for plane in prange(depth):
        z = np.int64(plane)
        top, bottom, left, right = on_row.find_box(spans[z])
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


@njit(**on_row.ROW)
def _smooth_row(taps: Any, padded: Any, low: int, out: Any) -> None:
    """Filter the samples from ``low`` on of a row that has ``taps.size - 1`` samples before its first."""
    start, count = low + taps.size - 1, out.size
    _scale_row(taps[0], padded[start : start + count], out)
    for r in range(1, taps.size):
        _add_pair(taps[r], padded[start - r : start - r + count], padded[start + r : start + r + count], out)


@njit(**on_row.PARALLEL)
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
                on_row.multiply_row(factors[z, y, low:high], row)
            longest = max(longest, _longest(deep, across, along, lengths))
        out[z] = longest


@njit(**on_row.PARALLEL)
def accumulate_field(keep: Any, scale: Any, source: Any, spans: Any, out: Any) -> None:
    """Turn a field ``out`` into ``keep * out + scale * source``."""
    for plane in prange(out.shape[1]):
        z = np.int64(plane)
        for y in range(out.shape[2]):
            low, high = spans[z, y]
            for n in range(out.shape[0]):
                _blend_row(keep, scale, source[n, z, y, low:high], out[n, z, y, low:high])


@njit(**on_row.ROW)
def _blend_row(keep: Any, scale: Any, source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = keep * out[x] + scale * source[x]


@njit(**on_row.ROW)
def _longest(first: Any, second: Any, third: Any, lengths: Any) -> np.float32:
    longest = np.float32(0)
    for x in range(first.size):
        a, b, c = first[x] * lengths[0], second[x] * lengths[1], third[x] * lengths[2]
        longest = max(longest, a * a + b * b + c * c)
    return longest


@njit(**on_row.ROW)
def _split_row(start: Any, rate: Any, offsets: Any, length: int, low: Any, share: Any) -> None:
    """Lower neighbors and shares of the upper ones for positions ``start + rate x + offset``."""
    top, last = np.float32(length - 1), np.int32(max(length - 2, 0))
    for x in range(offsets.size):
        position = min(max(start + rate * np.float32(x) + offsets[x], np.float32(0)), top)
        index = min(np.int32(position), last)
        low[x] = index
        share[x] = position - np.float32(index)


@njit(**on_row.ROW)
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


@njit(**on_row.ROW)
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


@njit(**on_row.ROW)
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


@njit(**on_row.PARALLEL)
def pull_channels(channels: Any, field: Any, spans: Any, out: Any) -> None:
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


@njit(**on_row.PARALLEL)
def compose_fields(field: Any, update: Any, spans: Any, out: Any) -> None:
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
                on_row.add_row(update[n, z, y, low:high], out[n, z, y, low:high])
                out[n, z, y, high:] = field[n, z, y, high:]


@njit(**on_row.PARALLEL)
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


def make_full_spans(shape: Sequence[int]) -> NDArray[np.int32]:
    """Return spans that hold every sample of a volume of ``shape``."""
    return np.broadcast_to(np.array([0, shape[-1]], np.int32), (*shape[:-1], 2)).copy()


def find_spans(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the spans of the samples of a mask ``(Z, Y, X)``: in each row from the first to the last."""
    first, last = mask.argmax(axis=-1), mask.shape[-1] - mask[..., ::-1].argmax(axis=-1)
    found = mask.any(axis=-1)
    return np.stack([np.where(found, first, 0), np.where(found, last, 0)], axis=-1).astype(np.int32)
