"""Numba kernels of mutual information by a Parzen-windowed joint histogram.

Formulation: Mattes et al., IEEE Trans. Medical Imaging 22(1):120-128, 2003 (a box window for the
fixed image, a cubic B-spline for the moving one), with one more bin on either side for "outside
the mask", shared softly by samples on the mask's border. So the outline steers as well as what is
inside it. The kernels run on one thread and leave the interpreter's lock: callers give each thread
its own samples or poses.
"""

from typing import Any

import numpy as np

from regflow.core.kernels import njit

MARGIN = 2
"""Bins that the B-spline needs below and above the range of intensities."""


@njit(cache=True, inline="always")
def _locate(position: float, length: int) -> tuple[int, int, float, float]:
    """Lower and upper sample, the weight of the upper, and 1 where the position may still move."""
    if position <= 0.0:
        return 0, 0, 0.0, 0.0
    if position >= length - 1.0:
        return length - 1, length - 1, 0.0, 0.0
    low = int(position)
    return low, low + 1, position - low, 1.0


@njit(cache=True)
def _probe(moving: Any, z: float, y: float, x: float, out: Any) -> None:
    """Interpolate both channels at an index: value and its gradient, mask and its gradient."""
    z0, z1, c, moves_z = _locate(z, moving.shape[0])
    y0, y1, b, moves_y = _locate(y, moving.shape[1])
    x0, x1, a, moves_x = _locate(x, moving.shape[2])
    for channel in range(2):
        v000, v001 = moving[z0, y0, x0, channel], moving[z0, y0, x1, channel]
        v010, v011 = moving[z0, y1, x0, channel], moving[z0, y1, x1, channel]
        v100, v101 = moving[z1, y0, x0, channel], moving[z1, y0, x1, channel]
        v110, v111 = moving[z1, y1, x0, channel], moving[z1, y1, x1, channel]
        v00, v01 = v000 + a * (v001 - v000), v010 + a * (v011 - v010)
        v10, v11 = v100 + a * (v101 - v100), v110 + a * (v111 - v110)
        v0, v1 = v00 + b * (v01 - v00), v10 + b * (v11 - v10)
        d00, d01, d10, d11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
        d0, d1 = d00 + b * (d01 - d00), d10 + b * (d11 - d10)
        out[4 * channel] = v0 + c * (v1 - v0)
        out[4 * channel + 1] = moves_x * (d0 + c * (d1 - d0))
        out[4 * channel + 2] = moves_y * ((v01 - v00) + c * ((v11 - v10) - (v01 - v00)))
        out[4 * channel + 3] = moves_z * (v1 - v0)


@njit(cache=True, inline="always")
def _spline(t: float) -> tuple[float, float, float, float]:
    """Cubic B-spline weights of the four bins around a value ``t`` above the second."""
    s = 1.0 - t
    return (
        s * s * s / 6.0,
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
        (4.0 - 6.0 * s * s + 3.0 * s * s * s) / 6.0,
        t * t * t / 6.0,
    )


@njit(cache=True, inline="always")
def _spline_slopes(t: float) -> tuple[float, float, float, float]:
    """Derivatives of :func:`_spline` with respect to the value."""
    s = 1.0 - t
    return -0.5 * s * s, -2.0 * t + 1.5 * t * t, 2.0 * s - 1.5 * s * s, 0.5 * t * t


@njit(cache=True)
def _inside(moving: Any, z: float, y: float, x: float) -> bool:
    return (
        -0.5 <= z <= moving.shape[0] - 0.5
        and -0.5 <= y <= moving.shape[1] - 0.5
        and -0.5 <= x <= moving.shape[2] - 0.5
    )


@njit(cache=True)
def _add(histogram: Any, row: int, probe: Any) -> None:
    """Add one sample to the histogram: its share inside the mask, and the rest to the last bin."""
    share = probe[4]
    low = int(probe[0])
    w0, w1, w2, w3 = _spline(probe[0] - low)
    low += MARGIN
    histogram[row, low - 1] += share * w0
    histogram[row, low] += share * w1
    histogram[row, low + 1] += share * w2
    histogram[row, low + 2] += share * w3
    histogram[row, histogram.shape[1] - 1] += 1.0 - share


@njit(cache=True, inline="always")
def _index(matrix: Any, p: Any) -> tuple[float, float, float]:
    x = matrix[0, 0] * p[0] + matrix[0, 1] * p[1] + matrix[0, 2] * p[2] + matrix[0, 3]
    y = matrix[1, 0] * p[0] + matrix[1, 1] * p[1] + matrix[1, 2] * p[2] + matrix[1, 3]
    z = matrix[2, 0] * p[0] + matrix[2, 1] * p[1] + matrix[2, 2] * p[2] + matrix[2, 3]
    return z, y, x


@njit(cache=True)
def _visit(moving: Any, closed: bool, matrix: Any, point: Any, probe: Any) -> bool:
    """Fill ``probe`` for one fixed point; False when the point has no partner."""
    z, y, x = _index(matrix, point)
    if _inside(moving, z, y, x):
        _probe(moving, z, y, x, probe)
        return True
    if closed:
        probe[:] = 0.0
    return closed


@njit(cache=True, nogil=True)
def compute_histograms(
    points: Any, rows: Any, moving: Any, closed: bool, matrices: Any, shape: tuple[int, int]
) -> Any:
    """Joint histograms of many poses.

    Args:
        points: fixed world points relative to their center, ``(N, 3)`` float32, ``(x, y, z)``.
        rows: fixed bin of each point, the last one for outside the mask, ``(N,)``.
        moving: ``(Z, Y, X, 2)`` float32: value in bins, and share inside the mask.
        closed: points beyond the moving grid are outside the mask (else they do not count).
        matrices: ``(K, 3, 4)`` from points to moving indices, ``(x, y, z)`` order.
        shape: fixed and moving bins.

    Returns:
        ``(K, *shape)`` float64 sums.
    """
    result = np.zeros((matrices.shape[0], shape[0], shape[1]))
    probe = np.empty(8, np.float32)
    for k in range(matrices.shape[0]):
        for i in range(points.shape[0]):
            if _visit(moving, closed, matrices[k], points[i], probe):
                _add(result[k], rows[i], probe)
    return result


@njit(cache=True, nogil=True)
def compute_histogram(
    points: Any, rows: Any, moving: Any, closed: bool, matrix: Any, shape: tuple[int, int], probes: Any
) -> Any:
    """Joint histogram of one pose; see :func:`compute_histograms`.

    ``probes``, ``(N, 8)`` float32, is filled with each point's value, mask and their gradients, for
    :func:`compute_forces`; points without a partner get a negative share.
    """
    result = np.zeros(shape)
    for i in range(points.shape[0]):
        if _visit(moving, closed, matrix, points[i], probes[i]):
            _add(result, rows[i], probes[i])
        else:
            probes[i, 4] = -1.0
    return result


@njit(cache=True, nogil=True)
def compute_forces(points: Any, rows: Any, probes: Any, logs: Any) -> Any:
    """Sum over points of the metric's gradient with respect to each point's index, and moments.

    Args:
        points: as in :func:`compute_histogram`.
        rows: as in :func:`compute_histogram`.
        probes: as :func:`compute_histogram` filled them.
        logs: derivative of the metric with respect to each bin of the joint histogram.

    Returns:
        ``(3, 4)``: sums of ``gradient times (x, y, z, 1)``, in ``(x, y, z)`` order.
    """
    total = np.zeros((3, 4))
    last = logs.shape[1] - 1
    for i in range(points.shape[0]):
        probe = probes[i]
        share = probe[4]
        if share < 0.0:
            continue
        line = logs[rows[i]]
        low = int(probe[0])
        w0, w1, w2, w3 = _spline(probe[0] - low)
        s0, s1, s2, s3 = _spline_slopes(probe[0] - low)
        low += MARGIN
        l0, l1, l2, l3 = line[low - 1], line[low], line[low + 1], line[low + 2]
        by_value = share * (l0 * s0 + l1 * s1 + l2 * s2 + l3 * s3)
        by_share = l0 * w0 + l1 * w1 + l2 * w2 + l3 * w3 - line[last]
        for axis in range(3):
            force = by_value * probe[1 + axis] + by_share * probe[5 + axis]
            total[axis, 0] += force * points[i, 0]
            total[axis, 1] += force * points[i, 1]
            total[axis, 2] += force * points[i, 2]
            total[axis, 3] += force
    return total


@njit(cache=True, nogil=True)
def decimate_volume(data: Any, first: Any, weights: Any) -> Any:
    """Weighted sums along the middle axis; what lies beyond an end repeats the end.

    Args:
        data: ``(A, N, B)`` float32.
        first: first sample of each sum, ``(M,)``; may lie beyond the ends.
        weights: of the samples from there on, ``(M, T)`` float32.

    Returns:
        ``(A, M, B)`` float32.
    """
    outer, length, inner = data.shape
    count, taps = weights.shape
    result = np.zeros((outer, count, inner), np.float32)
    for job in range(outer * count):
        a, m = job // count, job % count
        for tap in range(taps):
            n = min(max(first[m] + tap, 0), length - 1)
            weight = weights[m, tap]
            for b in range(inner):
                result[a, m, b] += weight * data[a, n, b]
    return result
