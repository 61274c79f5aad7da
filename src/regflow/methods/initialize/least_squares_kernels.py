"""Loops of :mod:`least_squares`, compiled by numba: look a spline up, and add up the normal equations.

Parallel over chunks of so many points, each added up by itself, so that no sum depends on the threads.
"""

from typing import Any

import numpy as np

from regflow.core.kernels import njit, prange

ROW: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}
PARALLEL: dict[str, Any] = {**ROW, "parallel": True}
CHUNK = 4096
"""Points added up together."""
MARGIN = 2
"""Mirrored coefficients around each axis of more than one sample."""


@njit(inline="always", **ROW)
def _set_weights(t: Any, weights: Any, slopes: Any) -> None:
    """Set the four weights of a cubic B-spline, and their derivatives, at ``t`` beyond the second one."""
    s = 1.0 - t
    weights[0], weights[3] = s * s * s / 6.0, t * t * t / 6.0
    weights[1] = 2.0 / 3.0 - t * t * (1.0 - t * 0.5)
    weights[2] = 2.0 / 3.0 - s * s * (1.0 - s * 0.5)
    slopes[0], slopes[3] = -0.5 * s * s, 0.5 * t * t
    slopes[1], slopes[2] = t * (1.5 * t - 2.0), -s * (1.5 * s - 2.0)


@njit(inline="always", **ROW)
def _map_point(matrix: Any, point: Any, place: Any) -> Any:
    """Set the place of a point under a homogeneous map, and return its depth."""
    ndim = point.size
    depth = matrix[ndim, ndim]
    for axis in range(ndim):
        depth += matrix[ndim, axis] * point[axis]
    for row in range(ndim):
        total = matrix[row, ndim]
        for axis in range(ndim):
            total += matrix[row, axis] * point[axis]
        place[row] = total / depth
    return depth


@njit(**ROW)
def _evaluate(spline: Any, low: Any, weights: Any, slopes: Any, gradient: Any) -> Any:
    """Return a spline's value; set its gradient ``(x, y, z)`` where there is room for one."""
    planes = 1 if spline.shape[0] == 1 else 4
    value, along, across, deep = 0.0, 0.0, 0.0, 0.0
    for k in range(planes):
        part, part_x, part_y = 0.0, 0.0, 0.0
        for j in range(4):
            row = spline[low[2] + k, low[1] + j]
            line, slope = 0.0, 0.0
            for i in range(4):
                sample = row[low[0] + i]
                line += weights[0, i] * sample
                slope += slopes[0, i] * sample
            part += weights[1, j] * line
            part_x += weights[1, j] * slope
            part_y += slopes[1, j] * line
        share = 1.0 if planes == 1 else weights[2, k]
        value += share * part
        along += share * part_x
        across += share * part_y
        deep += slopes[2, k] * part
    if gradient.size:
        gradient[0], gradient[1] = along, across
        if gradient.size > 2:
            gradient[2] = deep
    return value


@njit(**PARALLEL)
def sample_spline(
    spline: Any, valid: Any, points: Any, matrix: Any, values: Any, gradients: Any, inside: Any
) -> None:
    """Evaluate a cubic B-spline at the places of points under a map.

    Args:
        spline: float32 ``(Z, Y, X)`` coefficients with :data:`MARGIN` more on either side of each axis;
            one plane, without more, for an image of two dimensions.
        valid: bool, which samples count; without the margins.
        points: ``(N, d)`` float64.
        matrix: ``(d + 1, d + 1)`` homogeneous, from points to indices ``(x, y, z)``.
        values: ``(N,)`` float64, set.
        gradients: ``(N, d)`` float64 by index, set; ``(N, 0)`` where none are wanted.
        inside: ``(N,)`` bool, set: the nearest sample is there and counts.
    """
    count, ndim = points.shape
    sizes = np.array([valid.shape[2], valid.shape[1], valid.shape[0]])
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        place, low, near = np.zeros(3), np.zeros(3, np.int64), np.zeros(3, np.int64)
        weights, slopes = np.zeros((3, 4)), np.zeros((3, 4))
        for n in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            inside[n], values[n] = False, 0.0
            if _map_point(matrix, points[n], place[:ndim]) <= 0.0:
                continue
            within = True
            for axis in range(ndim):
                within = within and 0.0 <= place[axis] <= sizes[axis] - 1.0
            if not within:
                continue
            for axis in range(ndim):
                start = int(np.floor(place[axis]))
                near[axis] = int(np.floor(place[axis] + 0.5))
                low[axis] = start - 1 + MARGIN
                _set_weights(place[axis] - start, weights[axis], slopes[axis])
            if valid[near[2], near[1], near[0]]:
                inside[n] = True
                values[n] = _evaluate(spline, low, weights, slopes, gradients[n])


@njit(**PARALLEL)
def accumulate_products(
    points: Any, gradients: Any, matrix: Any, factor: Any, rows: int, ends: Any, weights: Any, out: Any
) -> None:
    """Add up the weighted products of the columns of a linear least squares problem with each other.

    The columns are the derivatives of an image, at the places of points under a map, by the first
    ``rows`` rows of the map's matrix, row by row; then those of ``ends``.

    Args:
        points: ``(N, d)`` float64.
        gradients: ``(N, d)`` of the image by index.
        matrix: ``(d + 1, d + 1)`` homogeneous, from points to indices.
        factor: of the derivatives.
        rows: of the matrix; ``d + 1`` with its perspective.
        ends: ``(N, E)`` float64 further columns.
        weights: ``(N,)`` float64; points of weight 0 are left out.
        out: ``(chunks, L, L)`` zeros for the sums, upper triangles, with ``L = rows (d + 1) + E``.
    """
    count, ndim = points.shape
    length = out.shape[1]
    for chunk in prange(out.shape[0]):
        place, column, outer = np.zeros(ndim), np.empty(length), np.zeros(ndim + 1)
        for n in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            if weights[n] == 0.0:
                continue
            depth = _map_point(matrix, points[n], place)
            outer[ndim] = 0.0
            for axis in range(ndim):
                outer[axis] = factor * gradients[n, axis] / depth
                outer[ndim] -= outer[axis] * place[axis]
            for row in range(rows):
                for axis in range(ndim):
                    column[row * (ndim + 1) + axis] = outer[row] * points[n, axis]
                column[row * (ndim + 1) + ndim] = outer[row]
            for last in range(ends.shape[1]):
                column[rows * (ndim + 1) + last] = ends[n, last]
            for i in range(length):
                scaled = weights[n] * column[i]
                for j in range(i, length):
                    out[chunk, i, j] += scaled * column[j]
