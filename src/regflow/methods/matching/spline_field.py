"""A smooth displacement field through scattered points: a tensor-product cubic B-spline.

The fit is penalized least squares. Its normal matrix is the sum of row-wise Kronecker products of the
two axes' bases, a band of some three rows of control points; it is built and factored as such, in an
order that does not depend on threads.

Sources: Eilers & Marx, Statistical Science 11(2):89-121, 1996 (P-splines); Eilers et al.,
Computational Statistics & Data Analysis 50(1):61-76, 2006 (on grids); Beaton & Tukey, Technometrics
16(2):147-185, 1974 (biweight); Breiman et al., Classification and Regression Trees, 1984, section 3.4.3
(the rule of one standard error).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.kernels import njit

Array = NDArray[Any]

STIFFNESSES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e3, math.inf)
"""Weights of the penalty that are tried: from following every point to a plane through them all, and
last to no displacement at all."""
CALM = 1e-3
"""Share of the penalty on slopes, which makes the field level off where no point is near."""
SLOPE_RIDGE = 0.1
"""Added to the normal equations of the plane's slopes: a tenth of a point one spacing off the middle."""
BIWEIGHT = 4.685
"""Robust scales at which a point loses all its weight; 95% efficient for normal errors."""
ROUNDS = 6
FOLDS = 4
FEW_POINTS = 500
"""Up to so many every fold is predicted once, beyond half of them: those tell as well."""
AS_GOOD = 1.05
"""The stiffest fit whose squared error of prediction is within this factor of the least is taken, or
within one standard error of their difference: what few blocks prefer may be chance."""
NO_FIELD = 30.0
"""No displacement at all is kept while its squared error of prediction, in that of the best field, is
less above one than this over the number of blocks. Real displacements predict hundreds of times better;
ground that has changed between two dates looks displaced, and predicts up to four times better in the nine
blocks of a scene of 61 pixels."""

_JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@dataclass(frozen=True, eq=False)
class SplineField:
    """Displacements as a cubic B-spline over a rectangle.

    Attributes:
        coefs: ``(2, rows + 3, columns + 3)`` float64, components x and y.
        origin: ``(x, y)`` of the rectangle's first corner.
        spacing: distance of control points, the same along both axes.
    """

    coefs: Array
    origin: tuple[float, float]
    spacing: float

    def evaluate(self, points: Array) -> Array:
        """Return the displacements ``(N, 2)`` at points ``(N, 2)``; outside, those of the border."""
        places = (np.asarray(points, np.float64) - self.origin) / self.spacing
        out = np.empty((len(places), 2))
        _evaluate(self.coefs, np.ascontiguousarray(places), out)
        return out

    def evaluate_lattice(self, x: Array, y: Array) -> NDArray[np.float32]:
        """Return the displacements at every crossing of ``x`` and ``y``, ``(2, len(y), len(x))``."""
        places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        return self.evaluate(places).T.reshape(2, len(y), len(x)).astype(np.float32)

    def compute_laplacian(self, points: Array) -> Array:
        """Return the sum of the second derivatives along x and y, ``(N, 2)``, at points ``(N, 2)``."""
        places = np.ascontiguousarray((np.asarray(points, np.float64) - self.origin) / self.spacing)
        out = np.empty((len(places), 2))
        _laplacian(self.coefs, places, out)
        return out / self.spacing**2

    def measure_bending(self) -> float:
        """Return the largest second derivative's bound, per squared unit of length."""
        along = [np.abs(np.diff(self.coefs, 2, axis=axis)).max() for axis in (1, 2)]
        return float(max(along)) / self.spacing**2


def list_control_places(field: SplineField) -> Array:
    """Return the places ``(rows * columns, 2)`` of the control points, in the order of ``coefs``."""
    rows, cols = np.indices(field.coefs.shape[1:]) - 1.0
    return np.stack([cols, rows], axis=-1).reshape(-1, 2) * field.spacing + field.origin


@dataclass(frozen=True, eq=False)
class SplineFit:
    """A fitted field and what it made of each point.

    Attributes:
        field: the displacement.
        weights: ``(N,)`` robust weights, 0 for points that were left out.
        residuals: ``(N, 2)`` measured less fitted.
        scale: robust standard deviation of the residuals' components.
        smoothing_weight: the weight of the penalty that predicts left-out points best; infinite where none
            predicts them better than no displacement.
    """

    field: SplineField
    weights: Array
    residuals: Array
    scale: float
    smoothing_weight: float


class FittingProblem(Protocol):
    """The least-squares problem of one set of points in some basis."""

    def solve(self, weights: Array, smoothing_weight: float) -> Array:
        """Return the coefficients for weights ``(N,)`` of the points and a weight of the penalty."""

    def compute_residuals(self, coefs: Array) -> Array:
        """Return what a fit leaves of the displacements, ``(N, 2)``."""

    def to_bspline(self, coefs: Array) -> Array:
        """Return the field as coefficients ``(2, *shape)`` of the cubic B-spline."""


Basis = Callable[[Array, Array, tuple[int, int]], FittingProblem]
"""Gives the problem of places in units of the spacing, displacements there, and the controls' shape."""


def fit_field(
    points: Array,
    values: Array,
    errors: Array,
    extent: Sequence[float],
    spacing: float,
    *,
    seed: int = 0,
    floor: float = 0.02,
    smoothing_weight: float | None = None,
    reach: float = 0.0,
    basis: Basis | None = None,
) -> SplineFit:
    """Fit displacements robustly; how smooth is decided by the points themselves.

    Args:
        points: ``(N, 2)`` places.
        values: ``(N, 2)`` displacements measured there.
        errors: ``(N,)`` standard error of each.
        extent: x0, y0, x1, y1 of the rectangle on which the field is wanted.
        spacing: of the control points.
        seed: of the division into folds.
        floor: smallest robust scale believed.
        smoothing_weight: weight of the penalty; None takes the one that predicts left-out points best.
        reach: distance within which measurements share pixels, and with them their errors; such
            neighbors are left out together.
        basis: of the fit; None takes the B-spline itself.

    Raises:
        RegistrationError: fewer than six points.
    """
    if len(points) < 6:
        raise RegistrationError(f"tie-points: {len(points)} points are too few for a displacement field")
    shape = _controls(extent, spacing)
    places = np.ascontiguousarray((np.asarray(points, np.float64) - extent[:2]) / spacing)
    prior = 1.0 / (errors**2 + floor**2)
    prior = np.minimum(prior / np.median(prior), 1.0)
    values = np.asarray(values, np.float64)
    plane = _plane(places, values, prior)
    build = basis or _SplineProblem
    problem = build(places, values - _on_plane(plane, places), shape)
    blocks = _blocks(places, reach / spacing)
    weights, held = prior, STIFFNESSES[0] if smoothing_weight is None else smoothing_weight
    for turn in range(ROUNDS):
        if smoothing_weight is None and turn in (0, ROUNDS // 2):
            tried = _no_stiffer(held) if turn else STIFFNESSES
            held = _best_stiffness(places, values, weights, shape, tried, blocks, seed, build)
        if math.isinf(held):
            residuals = values
        else:
            solution = problem.solve(weights, held)
            residuals = problem.compute_residuals(solution)
        scale = max(_spread(residuals, prior), floor)
        weights = prior * _biweight(np.hypot(*residuals.T) / scale)
    coefs = np.zeros((2, *shape))
    if math.isfinite(held):
        coefs = problem.to_bspline(solution) + _plane_controls(plane, shape)
    field = SplineField(coefs, (float(extent[0]), float(extent[1])), spacing)
    return SplineFit(field, weights, residuals, scale, held)


class _SplineProblem:
    """The problem in the B-spline's own basis: built once a weighting, solved for both axes."""

    def __init__(self, places: Array, values: Array, shape: tuple[int, int]) -> None:
        # The band is as wide as three rows: rows run along the shorter axis.
        self._turned = shape[1] > shape[0]
        self._places = np.ascontiguousarray(places[:, ::-1]) if self._turned else places
        self._shape = shape[::-1] if self._turned else shape
        self._values = values

    def solve(self, weights: Array, smoothing_weight: float) -> Array:
        """Return the coefficients ``(2, *shape)``."""
        rows, cols = self._shape
        band = np.zeros((rows * cols, 3 * cols + 4))
        right = np.zeros((rows * cols, 2))
        _assemble(self._places, self._values, weights, cols, band, right)
        density = max(float(weights.sum()) / (rows * cols), 1e-12)
        _penalize(band, rows, cols, density * smoothing_weight, density * max(smoothing_weight, 1e-4) * CALM)
        solve_band(band, right)
        coefs = right.T.reshape(2, rows, cols)
        return np.ascontiguousarray(coefs.transpose(0, 2, 1) if self._turned else coefs)

    def compute_residuals(self, coefs: Array) -> Array:
        """Return what a fit leaves of the displacements."""
        out = np.empty((len(self._places), 2))
        places = np.ascontiguousarray(self._places[:, ::-1]) if self._turned else self._places
        _evaluate(coefs, places, out)
        return np.asarray(self._values - out)

    def to_bspline(self, coefs: Array) -> Array:
        """Return the coefficients: they are the B-spline's."""
        return coefs


def _no_stiffer(smoothing_weight: float) -> tuple[float, ...]:
    """Return what is worth a second try: gross errors make the first choice too stiff, not too soft."""
    return STIFFNESSES[: STIFFNESSES.index(smoothing_weight) + 2]


def _blocks(places: Array, reach: float) -> NDArray[np.int64]:
    """Return the block of each point: points in one square of side ``reach`` share theirs."""
    if reach <= 0:
        return np.arange(len(places))
    squares = np.floor(places / reach).astype(np.int64)
    return np.asarray(np.unique(squares, axis=0, return_inverse=True)[1].reshape(-1))


def _best_stiffness(
    places: Array,
    values: Array,
    weights: Array,
    shape: tuple[int, int],
    tried: Sequence[float],
    blocks: NDArray[np.int64],
    seed: int,
    build: Basis,
) -> float:
    """Return the smoothing_weight that predicts left-out blocks best, judged by their robust weights.

    All that is predicted with is fitted without the left-out blocks, the plane too.
    """
    count = int(blocks.max()) + 1
    fold = (np.random.default_rng(seed).permutation(count) % FOLDS)[blocks]
    errors = np.zeros((len(tried), count))
    judged = np.zeros(count, bool)
    for k in range(FOLDS if len(places) <= FEW_POINTS else FOLDS // 2):
        out = fold == k
        kept = np.where(out, 0.0, weights)
        if not out.any() or not kept.any():
            continue
        level = values - _on_plane(_plane(places, values, kept), places)
        problem = build(places, level, shape)
        for row, smoothing_weight in enumerate(tried):
            left = (
                problem.compute_residuals(problem.solve(kept, smoothing_weight))
                if math.isfinite(smoothing_weight)
                else values
            )
            lost = weights * (left**2).sum(1)
            errors[row] += np.bincount(blocks[out], lost[out], count)
        judged[blocks[out]] = True
    if not judged.any():
        # One block alone cannot be left out: nothing says that a field predicts anything.
        return tried[-1]
    total = errors.sum(axis=1)
    best = int(np.argmin(total))
    worse = (errors - errors[best])[:, judged]
    allowed = np.maximum((AS_GOOD - 1.0) * total[best], math.sqrt(worse.shape[1]) * worse.std(axis=1))
    allowed[np.isinf(tried)] = max(AS_GOOD - 1.0, NO_FIELD / worse.shape[1]) * total[best]
    return tried[int(np.flatnonzero(total - total[best] <= allowed)[-1])]


def _plane(places: Array, values: Array, prior: Array) -> Array:
    """Return the robust plane ``(3, 2)`` through the displacements: constant, slope along x and along y.

    Slopes that the points hardly determine stay near zero.
    """
    design = np.column_stack([np.ones(len(places)), places])
    ridge = np.diag([0.0, 1.0, 1.0]) * SLOPE_RIDGE
    weights = prior
    for _ in range(10):
        weighted = design * weights[:, None]
        found = np.linalg.solve(weighted.T @ design + ridge, weighted.T @ values)
        lengths = np.hypot(*(values - design @ found).T)
        weights = prior / np.maximum(lengths / max(float(np.median(lengths[prior > 0])), 1e-6), 1.0)
    return np.asarray(found)


def _on_plane(plane: Array, places: Array) -> Array:
    return np.asarray(plane[0] + places @ plane[1:])


def _plane_controls(plane: Array, shape: tuple[int, int]) -> Array:
    """Return the coefficients of a plane: a cubic B-spline whose control points lie on one is that plane."""
    rows, cols = np.indices(shape) - 1.0
    controls = np.stack([cols, rows], axis=-1).reshape(-1, 2)
    return _on_plane(plane, controls).T.reshape(2, *shape)


def _controls(extent: Sequence[float], spacing: float) -> tuple[int, int]:
    cells = [max(1, math.ceil((extent[2 + k] - extent[k]) / spacing)) for k in (0, 1)]
    return cells[1] + 3, cells[0] + 3


def _spread(residuals: Array, prior: Array) -> float:
    """Return the median absolute deviation of both components, as a standard deviation."""
    counted = np.abs(residuals[prior > 0])
    return float(np.median(counted)) / 0.6745


def _biweight(distance: Array) -> Array:
    # Two components: a distance of sqrt(2) scales is what one scale is for one.
    share = distance / (BIWEIGHT * math.sqrt(2.0))
    return np.where(share < 1.0, (1.0 - np.minimum(share, 1.0) ** 2) ** 2, 0.0)


@njit(**_JIT)
def _basis(place: float, cells: int, out: Array) -> int:
    """Fill the four weights at a place in units of the spacing; return the first control point."""
    cell = min(max(math.floor(place), 0), cells - 1)
    t = min(max(place - cell, 0.0), 1.0)
    out[0] = (1.0 - t) ** 3 / 6.0
    out[1] = 2.0 / 3.0 - 0.5 * t * t * (2.0 - t)
    out[2] = 2.0 / 3.0 - 0.5 * (1.0 - t) ** 2 * (1.0 + t)
    out[3] = t**3 / 6.0
    return cell


@njit(**_JIT)
def _evaluate(coefs: Array, places: Array, out: Array) -> None:
    bx, by = np.empty(4), np.empty(4)
    for n in range(places.shape[0]):
        col = _basis(places[n, 0], coefs.shape[2] - 3, bx)
        row = _basis(places[n, 1], coefs.shape[1] - 3, by)
        for c in range(2):
            value = 0.0
            for i in range(4):
                for j in range(4):
                    value += by[i] * bx[j] * coefs[c, row + i, col + j]
            out[n, c] = value


@njit(**_JIT)
def _laplacian(coefs: Array, places: Array, out: Array) -> None:
    bx, by, cx, cy = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for n in range(places.shape[0]):
        col = _basis(places[n, 0], coefs.shape[2] - 3, bx)
        row = _basis(places[n, 1], coefs.shape[1] - 3, by)
        _curvature(places[n, 0] - col, cx)
        _curvature(places[n, 1] - row, cy)
        for c in range(2):
            value = 0.0
            for i in range(4):
                for j in range(4):
                    value += (by[i] * cx[j] + cy[i] * bx[j]) * coefs[c, row + i, col + j]
            out[n, c] = value


@njit(**_JIT)
def _curvature(place: float, out: Array) -> None:
    """Fill the second derivatives of the four weights at a place in a cell."""
    t = min(max(place, 0.0), 1.0)
    out[0], out[1], out[2], out[3] = 1.0 - t, 3.0 * t - 2.0, 1.0 - 3.0 * t, t


@njit(**_JIT)
def _assemble(places: Array, values: Array, weights: Array, cols: int, band: Array, right: Array) -> None:
    """Add the points to the upper band of the normal matrix and to the right-hand sides."""
    rows = band.shape[0] // cols
    bx, by = np.empty(4), np.empty(4)
    for n in range(places.shape[0]):
        if weights[n] <= 0.0:
            continue
        col = _basis(places[n, 0], cols - 3, bx)
        row = _basis(places[n, 1], rows - 3, by)
        for p in range(16):
            at_p = (row + p // 4) * cols + col + p % 4
            of_p = weights[n] * by[p // 4] * bx[p % 4]
            right[at_p, 0] += of_p * values[n, 0]
            right[at_p, 1] += of_p * values[n, 1]
            for q in range(p, 16):
                band[at_p, (row + q // 4) * cols + col + q % 4 - at_p] += of_p * by[q // 4] * bx[q % 4]


@njit(**_JIT)
def _penalize(band: Array, rows: int, cols: int, bend: float, slope: float) -> None:
    """Add the thin-plate energy of the control points and a little of their slopes' energy."""
    second, first = np.array([1.0, -2.0, 1.0]), np.array([-1.0, 1.0])
    for i in range(rows):
        for j in range(cols):
            at = i * cols + j
            if i + 2 < rows:
                _add_square(band, at, cols, second, bend)
            if j + 2 < cols:
                _add_square(band, at, 1, second, bend)
            if i + 1 < rows:
                _add_square(band, at, cols, first, slope)
            if j + 1 < cols:
                _add_square(band, at, 1, first, slope)
            if i + 1 < rows and j + 1 < cols:
                corners = np.array([at, at + 1, at + cols, at + cols + 1])
                signs = np.array([1.0, -1.0, -1.0, 1.0])
                for p in range(4):
                    for q in range(p, 4):
                        band[corners[p], corners[q] - corners[p]] += 2.0 * bend * signs[p] * signs[q]


@njit(**_JIT)
def _add_square(band: Array, at: int, stride: int, stencil: Array, weight: float) -> None:
    for p in range(stencil.size):
        for q in range(p, stencil.size):
            band[at + p * stride, (q - p) * stride] += weight * stencil[p] * stencil[q]


@njit(**_JIT)
def solve_band(band: Array, right: Array) -> None:
    """Solve a positive definite banded system in place; ``band[k, d]`` is the entry ``(k, k + d)``."""
    size, width = band.shape
    for k in range(size):
        pivot = 1.0 / band[k, 0]
        for i in range(1, min(width, size - k)):
            factor = band[k, i] * pivot
            if factor == 0.0:
                continue
            below, rest = band[k + i, : width - i], band[k, i:]
            for j in range(width - i):
                below[j] -= factor * rest[j]
            for c in range(right.shape[1]):
                right[k + i, c] -= factor * right[k, c]
    for k in range(size - 1, -1, -1):
        for c in range(right.shape[1]):
            value = right[k, c]
            for j in range(1, min(width, size - k)):
                value -= band[k, j] * right[k + j, c]
            right[k, c] = value / band[k, 0]
