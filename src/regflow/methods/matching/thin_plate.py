"""Thin-plate splines through scattered displacements, as another basis of the penalized fit.

Knots are points, at most so many that the rows of the design fit into memory. The kernel is reduced by a
plane through three anchors, which makes it positive definite; its Cholesky factor turns the bending energy
into a sum of squares, so a fit is one well-conditioned least-squares problem per weighting. The field is
handed on as a cubic B-spline on a lattice as fine as the caller asks.

Sources: Duchon, Lecture Notes in Mathematics 571:85-100, 1977 (thin-plate splines); Wahba, Spline Models for
Observational Data, SIAM, 1990, sections 2.4 and 7.1 (the reduced kernel, fewer knots than points); Bookstein,
IEEE Trans. PAMI 11(6):567-585, 1989 (their use for deformations).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.kernels import njit
from regflow.methods.matching.spline_field import solve_band

Array = NDArray[Any]

MOST_KNOTS = 300
MOST_ENTRIES = 8_000_000
"""Of the design: points times knots."""
LEAST_DISTANCE = 1e-3
"""Least distance of two knots, in units of the places."""
MARGIN = 6
"""Lattice points beyond the field's border, where what the B-spline's prefilter assumes has died away."""
RIDGES = (1e-6, 1e-13)
"""Of the plane's coefficients, in the penalty and in the sum of weights: points on one line leave the slope
across it at zero."""

_JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


class ThinPlateProblem:
    """The least-squares problem of one set of points: as ``spline_field``'s, in another basis."""

    def __init__(self, places: Array, values: Array, shape: tuple[int, int]) -> None:
        self._values = np.ascontiguousarray(values, np.float64)
        self._shape = shape
        self._knots = spread_knots(places, min(MOST_KNOTS, max(MOST_ENTRIES // len(places), 50)))
        # The corners of the field's rectangle, and a little beyond: no knot may lie on an anchor.
        width, height = shape[1] - 2.0, shape[0] - 2.0
        self._anchors = np.array([[-1.0, -1.0], [width, -1.0], [-1.0, height]])
        self._lower = np.zeros((len(self._knots), len(self._knots)))
        _factor(self._knots, self._anchors, self._lower)
        self._rows = self._design(places)
        self._spread = math.sqrt(width * height / len(self._knots))
        self._weights: Array | None = None
        self._normal: tuple[Array, Array] = np.empty((0, 0)), np.empty((0, 2))

    def solve(self, weights: Array, smoothing_weight: float) -> Array:
        """Return the coefficients ``(knots + 3, 2)``: of the kernels, and of a plane."""
        size = self._rows.shape[1]
        if self._weights is not weights:
            self._normal = np.zeros((size, size)), np.zeros((size, 2))
            _assemble(self._rows, self._values, weights, *self._normal)
            self._weights = weights
        band, right = self._normal[0].copy(), self._normal[1].copy()
        total = max(float(weights.sum()), 1e-12)
        # Bending energy in units of the knots' distance, as the B-spline's in those of its control points.
        penalty = 8.0 * math.pi * smoothing_weight * total / (size - 3) * self._spread**2
        band[: size - 3, 0] += penalty
        band[size - 3 :, 0] += RIDGES[0] * penalty + RIDGES[1] * total
        solve_band(band, right)
        return right

    def compute_residuals(self, coefs: Array) -> Array:
        """Return what a fit leaves of the displacements."""
        out = self._values.copy()
        _subtract(self._rows, coefs, out)
        return out

    def to_bspline(self, coefs: Array) -> Array:
        """Return a cubic B-spline ``(2, *shape)`` through the field at the lattice's points."""
        from scipy.ndimage import spline_filter

        rows, cols = (np.arange(-1 - MARGIN, n - 1 + MARGIN, dtype=np.float64) for n in self._shape)
        found = np.empty((2, len(rows), len(cols)))
        for i, row in enumerate(rows):
            places = np.stack([cols, np.full(len(cols), row)], axis=1)
            line = np.zeros((len(cols), 2))
            _subtract(self._design(places), -coefs, line)
            found[:, i] = line.T
        return np.stack([spline_filter(part, 3, mode="mirror") for part in found])[
            :, MARGIN:-MARGIN, MARGIN:-MARGIN
        ]

    def _design(self, places: Array) -> Array:
        out = np.empty((len(places), len(self._knots) + 3))
        _fill_rows(np.ascontiguousarray(places), self._knots, self._anchors, self._lower, out)
        return out


def spread_knots(places: Array, most: int) -> Array:
    """Return at most so many of the places ``(N, 2)``, each as far as can be from those before it."""
    chosen = [int(np.argmin(places.sum(axis=1)))]
    distance = np.full(len(places), np.inf)
    while len(chosen) < most:
        distance = np.minimum(distance, ((places - places[chosen[-1]]) ** 2).sum(axis=1))
        farthest = int(np.argmax(distance))
        if distance[farthest] < LEAST_DISTANCE**2:
            break
        chosen.append(farthest)
    return np.ascontiguousarray(places[np.sort(chosen)], np.float64)


@njit(**_JIT)
def _plate(x: float, y: float) -> float:
    square = x * x + y * y
    return 0.5 * square * math.log(square) if square > 0.0 else 0.0


@njit(**_JIT)
def _shares(x: float, y: float, anchors: Array, out: Array) -> None:
    """Fill the weights of the three anchors with which they give a plane's value at a place."""
    out[1] = (x - anchors[0, 0]) / (anchors[1, 0] - anchors[0, 0])
    out[2] = (y - anchors[0, 1]) / (anchors[2, 1] - anchors[0, 1])
    out[0] = 1.0 - out[1] - out[2]


@njit(**_JIT)
def _reduced(x: float, y: float, u: float, v: float, anchors: Array, p: Array, q: Array) -> float:
    """Return the positive definite kernel of two places; ``p`` and ``q`` are their shares."""
    value = _plate(x - u, y - v)
    for a in range(3):
        value -= p[a] * _plate(anchors[a, 0] - u, anchors[a, 1] - v)
        value -= q[a] * _plate(x - anchors[a, 0], y - anchors[a, 1])
        for b in range(3):
            value += p[a] * q[b] * _plate(anchors[a, 0] - anchors[b, 0], anchors[a, 1] - anchors[b, 1])
    return value


@njit(**_JIT)
def _factor(knots: Array, anchors: Array, lower: Array) -> None:
    """Fill the Cholesky factor of the kernel between the knots."""
    p, q = np.empty(3), np.empty(3)
    for i in range(knots.shape[0]):
        _shares(knots[i, 0], knots[i, 1], anchors, p)
        for j in range(i + 1):
            _shares(knots[j, 0], knots[j, 1], anchors, q)
            value = _reduced(knots[i, 0], knots[i, 1], knots[j, 0], knots[j, 1], anchors, p, q)
            size = value
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            # What rounding leaves of nothing must not be divided by.
            lower[i, j] = math.sqrt(max(value, 1e-12 * size)) if i == j else value / lower[j, j]


@njit(**_JIT)
def _fill_rows(places: Array, knots: Array, anchors: Array, lower: Array, out: Array) -> None:
    """Fill a row of the design for each place: orthonormal kernels, and the plane."""
    count = knots.shape[0]
    p, q = np.empty(3), np.empty(3)
    for n in range(places.shape[0]):
        x, y = places[n, 0], places[n, 1]
        _shares(x, y, anchors, p)
        for j in range(count):
            _shares(knots[j, 0], knots[j, 1], anchors, q)
            value = _reduced(x, y, knots[j, 0], knots[j, 1], anchors, p, q)
            for k in range(j):
                value -= lower[j, k] * out[n, k]
            out[n, j] = value / lower[j, j]
        out[n, count:] = p


@njit(**_JIT)
def _assemble(rows: Array, values: Array, weights: Array, band: Array, right: Array) -> None:
    """Add the points to the normal matrix, ``band[k, d]`` its entry ``(k, k + d)``, and to the right side."""
    size = rows.shape[1]
    for n in range(rows.shape[0]):
        if weights[n] <= 0.0:
            continue
        for i in range(size):
            heavy = weights[n] * rows[n, i]
            right[i, 0] += heavy * values[n, 0]
            right[i, 1] += heavy * values[n, 1]
            for j in range(i, size):
                band[i, j - i] += heavy * rows[n, j]


@njit(**_JIT)
def _subtract(rows: Array, coefs: Array, out: Array) -> None:
    for n in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            out[n, 0] -= rows[n, j] * coefs[j, 0]
            out[n, 1] -= rows[n, j] * coefs[j, 1]
