"""Loops of :mod:`sampling`, compiled by numba: parallel over planes, each sample by itself."""

from typing import Any

import numpy as np

from regflow.core.kernels import njit, prange

_ROW: dict[str, Any] = {"cache": True, "error_model": "numpy"}
_PARALLEL: dict[str, Any] = {**_ROW, "parallel": True, "fastmath": {"contract"}}
POLE = np.sqrt(3.0) - 2.0
"""Of the cubic B-spline's recursive filter (Unser et al., IEEE Trans. Signal Process. 41(2), 1993)."""
REACH = 12
"""Samples after which the filter's memory, ``POLE**REACH``, is below a float32's precision."""
TINY = np.float32(1e-30)
"""Coefficients below this become zero: next to an empty background they fade into numbers so small that
processors compute with them a hundred times slower."""


@njit(**_ROW)
def _add_scaled(factor: Any, source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] += factor * source[x]


@njit(**_ROW)
def _reverse_scaled(factor: Any, source: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = factor * (source[x] - out[x])


@njit(**_ROW)
def _filter_lines(lines: Any) -> None:
    """Turn samples ``(length, width)`` into spline coefficients along the first axis, in place.

    The border is mirrored about its samples.
    """
    length, width = lines.shape
    if length < 2:
        return
    pole = np.float32(POLE)
    start = lines[0].copy()
    power = np.float32(1)
    for step in range(1, REACH):
        power *= pole
        place = step % (2 * length - 2)
        _add_scaled(power, lines[min(place, 2 * length - 2 - place)], start)
    lines[0] = start
    for row in range(1, length):
        _add_scaled(pole, lines[row - 1], lines[row])
    last = pole / (pole * pole - np.float32(1))
    for x in range(width):
        lines[length - 1, x] = last * (lines[length - 1, x] + pole * lines[length - 2, x])
    for row in range(length - 2, -1, -1):
        _reverse_scaled(pole, lines[row + 1], lines[row])
    for row in range(length):
        for x in range(width):
            value = np.float32(6) * lines[row, x]
            lines[row, x] = value if abs(value) > TINY else np.float32(0)


@njit(**_PARALLEL)
def compute_spline_coefficients(volume: Any) -> None:
    """Replace float32 samples ``(Z, Y, X)`` by the coefficients of the cubic B-spline through them."""
    depth, height = volume.shape[:2]
    for z in prange(depth):
        _filter_lines(volume[z])
        turned = np.ascontiguousarray(volume[z].T)
        _filter_lines(turned)
        volume[z] = turned.T
    for y in prange(height):
        plane = np.ascontiguousarray(volume[:, y])
        _filter_lines(plane)
        volume[:, y] = plane


@njit(inline="always", **_ROW)
def _low(position: Any, length: int) -> Any:
    """Return the lower neighbor of a position, and the position's distance from it; borders go on."""
    held = min(max(position, 0.0), length - 1.0)
    low = min(int(held), max(length - 2, 0))
    return low, np.float32(held - low)


@njit(inline="always", **_ROW)
def _inside(z: Any, y: Any, x: Any, shape: Any) -> bool:
    """Tell whether a position lies within half a sample of an array, as in ITK."""
    return -0.5 <= z < shape[0] - 0.5 and -0.5 <= y < shape[1] - 0.5 and -0.5 <= x < shape[2] - 0.5


@njit(inline="always", **_ROW)
def _linear(volume: Any, z: Any, y: Any, x: Any) -> Any:
    depth, height, width = volume.shape
    k, c = _low(z, depth)
    j, b = _low(y, height)
    i, a = _low(x, width)
    up, down, right = min(k + 1, depth - 1), min(j + 1, height - 1), min(i + 1, width - 1)
    near = (volume[k, j, i] * (1 - a) + volume[k, j, right] * a) * (1 - b) + (
        volume[k, down, i] * (1 - a) + volume[k, down, right] * a
    ) * b
    far = (volume[up, j, i] * (1 - a) + volume[up, j, right] * a) * (1 - b) + (
        volume[up, down, i] * (1 - a) + volume[up, down, right] * a
    ) * b
    return near * (1 - c) + far * c


@njit(inline="always", **_ROW)
def _weights(t: Any) -> Any:
    """Return the cubic B-spline's four weights for a distance ``t`` beyond the second sample."""
    s, sixth, most = np.float32(1) - t, np.float32(1 / 6), np.float32(2 / 3)
    second = most - t * t * (np.float32(1) - t * np.float32(0.5))
    third = most - s * s * (np.float32(1) - s * np.float32(0.5))
    return s * s * s * sixth, second, third, t * t * t * sixth


@njit(**_ROW)
def _mirrored(place: int, length: int) -> int:
    if length == 1:
        return 0
    place = abs(place) % (2 * length - 2)
    return min(place, 2 * length - 2 - place)


@njit(inline="always", **_ROW)
def _line(samples: Any, first: Any, weights: Any) -> Any:
    return (weights[0] * samples[first] + weights[1] * samples[first + np.uint64(1)]) + (
        weights[2] * samples[first + np.uint64(2)] + weights[3] * samples[first + np.uint64(3)]
    )


@njit(inline="always", **_ROW)
def _plane(samples: Any, first: Any, stride: Any, shares: Any, weights: Any) -> Any:
    second, third = first + stride, first + np.uint64(2) * stride
    return (shares[0] * _line(samples, first, weights) + shares[1] * _line(samples, second, weights)) + (
        shares[2] * _line(samples, third, weights) + shares[3] * _line(samples, third + stride, weights)
    )


@njit(inline="always", **_ROW)
def _cubic(samples: Any, shape: Any, z: Any, y: Any, x: Any) -> Any:
    """Evaluate a spline, whose coefficients lie in one row, at a position inside its volume."""
    k, j, i = int(np.floor(z)), int(np.floor(y)), int(np.floor(x))
    parts, shares = _weights(np.float32(z - k)), _weights(np.float32(y - j))
    weights = _weights(np.float32(x - i))
    if not (0 < k < shape[0] - 2 and 0 < j < shape[1] - 2 and 0 < i < shape[2] - 2):
        return _cubic_at_border(samples, shape, (k, j, i), parts, shares, weights)
    # Unsigned numbers need no look at whether an index counts from the end.
    stride, across = np.uint64(shape[1] * shape[2]), np.uint64(shape[2])
    first = np.uint64(((k - 1) * shape[1] + j - 1) * shape[2] + i - 1)
    second, third = first + stride, first + np.uint64(2) * stride
    return (
        parts[0] * _plane(samples, first, across, shares, weights)
        + parts[1] * _plane(samples, second, across, shares, weights)
    ) + (
        parts[2] * _plane(samples, third, across, shares, weights)
        + parts[3] * _plane(samples, third + stride, across, shares, weights)
    )


@njit(**_ROW)
def _cubic_at_border(samples: Any, shape: Any, low: Any, parts: Any, shares: Any, weights: Any) -> Any:
    """The same where samples beyond the border are needed: it is mirrored about its samples."""
    value = np.float32(0)
    for m in range(4):
        plane = shape[1] * _mirrored(low[0] - 1 + m, shape[0])
        for n in range(4):
            line = shape[2] * (plane + _mirrored(low[1] - 1 + n, shape[1]))
            for o in range(4):
                weight = parts[m] * shares[n] * weights[o]
                value += weight * samples[line + _mirrored(low[2] - 1 + o, shape[2])]
    return value


@njit(**_PARALLEL)
def sample_at(
    volume: Any,
    to_field: Any,
    field: Any,
    to_source: Any,
    from_field: Any,
    cubic: bool,
    outside: Any,
    out: Any,
) -> None:
    """Sample a volume at where each target sample goes.

    Args:
        volume: float32 ``(Z, Y, X)``: samples, or for ``cubic`` the spline's coefficients.
        to_field: ``(3, 4)`` from the target's index ``(z, y, x, 1)`` to the field's.
        field: float32 ``(3, z, y, x)`` displacements, zero outside; empty for none.
        to_source: ``(3, 4)`` from the target's index to the volume's, without the displacement.
        from_field: ``(3, 3)`` from a displacement to a step in the volume's index.
        cubic: else linear.
        outside: value where the volume has no sample.
        out: float32, the target's samples.
    """
    depth, height, width = out.shape
    shape, samples = volume.shape, volume.ravel()
    for plane in prange(depth):
        place, start, index = np.empty(3), np.empty(3), np.empty(3)
        for line in range(height):
            for axis in range(3):
                start[axis] = to_source[axis, 0] * plane + to_source[axis, 1] * line + to_source[axis, 3]
                index[axis] = to_field[axis, 0] * plane + to_field[axis, 1] * line + to_field[axis, 3]
            for x in range(width):
                for axis in range(3):
                    place[axis] = start[axis] + to_source[axis, 2] * x
                if field.size:
                    k = index[0] + to_field[0, 2] * x
                    j = index[1] + to_field[1, 2] * x
                    i = index[2] + to_field[2, 2] * x
                    if _inside(k, j, i, field.shape[1:]):
                        for part in range(3):
                            step = _linear(field[part], k, j, i)
                            for axis in range(3):
                                place[axis] += from_field[axis, part] * step
                if not _inside(place[0], place[1], place[2], shape):
                    out[plane, line, x] = outside
                elif cubic:
                    out[plane, line, x] = _cubic(samples, shape, place[0], place[1], place[2])
                else:
                    out[plane, line, x] = _linear(volume, place[0], place[1], place[2])
