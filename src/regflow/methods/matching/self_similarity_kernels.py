"""Loops that compute and compare self-similarities, compiled by numba.

Each loop is parallel over planes or channels that are computed from their inputs alone, so no bit
depends on the number of threads. Images of two dimensions are volumes of one plane.
"""

from typing import Any

import numpy as np

from regflow.core.kernels import njit, prange

_ROW: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
_PARALLEL: dict[str, Any] = {**_ROW, "parallel": True}


@njit(**_ROW)
def _add_row(source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] += source[x]


@njit(**_ROW)
def _add_squares(first: Any, second: Any, out: Any) -> None:
    for x in range(out.size):
        difference = first[x] - second[x]
        out[x] += difference * difference


@njit(**_ROW)
def _divide_row(numbers: Any, scale: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] *= scale / numbers[x]


@njit(**_ROW)
def _keep_least(source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = min(out[x], source[x])


@njit(**_ROW)
def _subtract_row(source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] -= source[x]


@njit(**_ROW)
def _box_row(row: Any, reach: int, out: Any) -> None:
    """Add ``row[x + k]`` over ``k`` from 0 to twice the reach; ``row`` is longer by as much."""
    out[:] = np.float32(0)
    for step in range(2 * reach + 1):
        _add_row(row[step : step + out.size], out)


@njit(**_ROW)
def _numbers_inside(count: int, reach: int) -> Any:
    """Return how many of the ``2 * reach + 1`` samples around each of ``count`` lie among them, float32."""
    numbers = np.empty(count, np.float32)
    for x in range(count):
        numbers[x] = min(count, x + reach + 1) - max(0, x - reach)
    return numbers


@njit(**_PARALLEL)
def compute_patch_distances(padded: Any, pairs: Any, reach: Any, out: Any, variance: Any) -> None:
    """Compare patches around each sample's neighbors, pair by pair.

    Args:
        padded: float32 image, larger than ``(Z, Y, X)`` by the neighbors' distance on either side.
        pairs: ``(C, 2, 3)`` where the neighbors are in ``padded``, from the sample itself.
        reach: ``(3,)`` of a patch along each axis.
        out: ``(C, Z, Y, X)``: mean squared difference over the part of the patch inside the image, less
            the least of all pairs.
        variance: ``(Z, Y, X)``: the mean of ``out`` over the pairs.
    """
    channels, depth, height, width = out.shape
    across = _numbers_inside(width, reach[2])
    for z in prange(depth):
        squares = np.empty((height, width), np.float32)
        row = np.zeros(width + 2 * reach[2], np.float32)
        least = np.full((height, width), np.inf, np.float32)
        middle = row[reach[2] : reach[2] + width]
        bottom, top = max(0, z - reach[0]), min(depth, z + reach[0] + 1)
        for k in range(channels):
            one, other = pairs[k, 0], pairs[k, 1]
            squares[:] = np.float32(0)
            for plane in range(bottom, top):
                first, second = padded[plane + one[0]], padded[plane + other[0]]
                for y in range(height):
                    _add_squares(
                        first[y + one[1], one[2] : one[2] + width],
                        second[y + other[1], other[2] : other[2] + width],
                        squares[y],
                    )
            for y in range(height):
                low, high = max(0, y - reach[1]), min(height, y + reach[1] + 1)
                middle[:] = np.float32(0)
                for line in range(low, high):
                    _add_row(squares[line], middle)
                _box_row(row, reach[2], out[k, z, y])
                _divide_row(across, np.float32(1) / np.float32((top - bottom) * (high - low)), out[k, z, y])
                _keep_least(out[k, z, y], least[y])
        variance[z] = np.float32(0)
        for k in range(channels):
            for y in range(height):
                _subtract_row(least[y], out[k, z, y])
                _add_row(out[k, z, y], variance[z, y])
        variance[z] /= np.float32(channels)


@njit(**_PARALLEL)
def scale_distances(distances: Any, variance: Any, low: Any, high: Any) -> None:
    """Divide distances ``(C, Z, Y, X)`` by minus the variance ``(Z, Y, X)``, held within bounds."""
    channels, depth, height, width = distances.shape
    for z in prange(depth):
        held = np.empty(width, np.float32)
        for y in range(height):
            for x in range(width):
                held[x] = min(max(variance[z, y, x], low), high)
            for k in range(channels):
                _divide_row(held, np.float32(-1), distances[k, z, y])


@njit(**_ROW)
def _add_four_squares(first: Any, second: Any, out: Any) -> None:
    """Add ``(first - second)**2`` of four rows each, which is quicker than row by row."""
    for x in range(out.size):
        a, b = first[0, x] - second[0, x], first[1, x] - second[1, x]
        c, d = first[2, x] - second[2, x], first[3, x] - second[3, x]
        out[x] += (a * a + b * b) + (c * c + d * d)


@njit(**_ROW)
def _add_shifted_squares(first: Any, second: Any, shift: int, out: Any) -> None:
    """Add ``(first[c, x] - second[c, x + shift])**2`` of every channel, of which there are ``4 k``.

    The second rows' ends go on outside.
    """
    channels, width = first.shape
    low, high = min(width, max(0, -shift)), max(0, min(width, width - shift))
    for c in range(0, channels, 4):
        for x in range(low):
            for k in range(c, c + 4):
                out[x] += (first[k, x] - second[k, 0]) ** 2
        if low < high:
            _add_four_squares(
                first[c : c + 4, low:high], second[c : c + 4, low + shift : high + shift], out[low:high]
            )
        for x in range(max(low, high), width):
            for k in range(c, c + 4):
                out[x] += (first[k, x] - second[k, width - 1]) ** 2


@njit(**_PARALLEL)
def compute_costs(fixed: Any, moving: Any, offsets: Any, blocks: Any, out: Any) -> None:
    """Compare descriptors at each offset, by blocks.

    Args:
        fixed: float32 ``(C, Z, Y, X)``, ``C`` a multiple of 4.
        moving: of the same shape; its border goes on outside.
        offsets: ``(O, 3)`` samples.
        blocks: ``(3,)`` samples of a block along each axis.
        out: ``(O, Z, Y, X)``, by blocks: mean squared difference over a block and its channels.
    """
    channels, depth, height, width = fixed.shape
    weight = np.float32(1) / np.float32(channels * blocks[0] * blocks[1] * blocks[2])
    for coarse in prange(out.shape[1]):
        sums = np.empty((len(offsets), width), np.float32)
        for line in range(out.shape[2]):
            sums[:] = np.float32(0)
            for z in range(coarse * blocks[0], (coarse + 1) * blocks[0]):
                for y in range(line * blocks[1], (line + 1) * blocks[1]):
                    for o in range(len(offsets)):
                        plane = min(max(z + offsets[o, 0], 0), depth - 1)
                        row = min(max(y + offsets[o, 1], 0), height - 1)
                        _add_shifted_squares(fixed[:, z, y], moving[:, plane, row], offsets[o, 2], sums[o])
            for o in range(len(offsets)):
                for x in range(out.shape[3]):
                    total = np.float32(0)
                    for step in range(blocks[2]):
                        total += sums[o, x * blocks[2] + step]
                    out[o, coarse, line, x] = total * weight


@njit(**_PARALLEL)
def average_around(values: Any, reach: Any, out: Any) -> None:
    """Average ``(O, Z, Y, X)`` over the part of a box inside it, ``reach`` ``(3,)`` to either side."""
    count, depth, height, width = values.shape
    across = _numbers_inside(width, reach[2])
    for z in prange(depth):
        row = np.zeros(width + 2 * reach[2], np.float32)
        middle = row[reach[2] : reach[2] + width]
        bottom, top = max(0, z - reach[0]), min(depth, z + reach[0] + 1)
        for o in range(count):
            for y in range(height):
                low, high = max(0, y - reach[1]), min(height, y + reach[1] + 1)
                middle[:] = np.float32(0)
                for plane in range(bottom, top):
                    for line in range(low, high):
                        _add_row(values[o, plane, line], middle)
                _box_row(row, reach[2], out[o, z, y])
                _divide_row(across, np.float32(1) / np.float32((top - bottom) * (high - low)), out[o, z, y])
