"""Least squares between images under a linear motion, by Gauss and Newton's steps, at one resolution.

The forward additive scheme asks the moving image for its slopes at each step; the inverse compositional one
turns the roles around and needs those of the fixed image, which stay.

Sources: Lucas and Kanade, IJCAI 1981; Baker and Matthews, Int. J. Computer Vision 56(3):221-255, 2004;
weights: Huber, Annals of Mathematical Statistics 35(1):73-101, 1964; Beaton and Tukey, Technometrics
16(2):147-185, 1974.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.methods.initialize.motion_models import (
    Array,
    compute_motion,
    linearize_motion,
    list_generators,
)

Mask = NDArray[np.bool_]

STILL = 0.001
"""Samples by which the last step of an exact alignment moves a corner at most."""
LEAST_SHARE = 0.05
"""Of the points that the moving image must have, below which nothing is compared."""
LEAST_EACH = 10
"""Points for each unknown, at least."""
HUBER, TUKEY = 1.345, 4.685
"""Residuals, in standard deviations, from which weights fall, and at which they are 0: 95% efficiency."""
CONSISTENT = 1.4826
"""Standard deviation of a normal distribution by the median of its absolute values."""
CONDITION = 1e10
"""Of the normalized equations, beyond which the images do not determine the motion."""
FARTHEST = 0.5
"""A step that moves a corner by more than this part of the longest side is no improvement."""


@dataclass(frozen=True, eq=False)
class SplineImage:
    """One channel of an image, to be looked up anywhere.

    Attributes:
        spline: float32 ``(Z, Y, X)`` coefficients of a cubic B-spline, one plane in two dimensions, else
            with the margins of :func:`~regflow.methods.initialize.least_squares_kernels.sample_spline`.
        valid: ``(Z, Y, X)`` samples that count.
        grid: of the samples.
    """

    spline: NDArray[np.float32]
    valid: Mask
    grid: Grid


def make_spline_image(values: NDArray[np.float32], valid: Mask, grid: Grid) -> SplineImage:
    """Return a channel ``grid.shape`` with the samples that count as a spline."""
    from regflow.core.sampling_kernels import compute_spline_coefficients
    from regflow.methods.initialize.least_squares_kernels import MARGIN

    shape = (1, *grid.shape)[-3:]
    spline = np.array(values, np.float32, order="C").reshape(shape)
    compute_spline_coefficients(spline)
    margins = [(0, 0) if grid.ndim == 2 and axis == 0 else (MARGIN, MARGIN) for axis in range(3)]
    # Where samples are mirrored about the border, so are coefficients.
    padded = np.ascontiguousarray(np.pad(spline, margins, mode="reflect"))
    return SplineImage(padded, np.ascontiguousarray(valid).reshape(shape), grid)


@dataclass(eq=False)
class AlignmentProblem:
    """What is to be made equal; points lie about the fixed image's center.

    Attributes:
        channels: the fixed and the moving image of each; all on one fixed and one moving grid.
        indices: ``(N, d)`` samples ``(x, y, z)`` of the fixed grid that are compared.
        onto: ``(d + 1, d + 1)`` from points to moving world points, before any motion is found.
        unit: from points to fixed world points.
        weights: ``none``, ``huber`` or ``tukey``.
        toned: whether a gain and a bias of the intensities are sought along; of one channel only.
        still: a step that moves no corner by so many samples of the moving image is the last one.
    """

    channels: Sequence[tuple[SplineImage, SplineImage]]
    indices: Array
    onto: Array
    unit: Array
    weights: str = "none"
    toned: bool = False
    still: float = STILL

    def __post_init__(self) -> None:
        fixed, moving = (image.grid.affine for image in self.channels[0])
        self.to_fixed = np.linalg.inv(fixed) @ self.unit
        self.to_moving = np.linalg.inv(moving) @ self.onto
        back = np.linalg.inv(self.to_fixed)
        self.points = np.ascontiguousarray(self.indices @ back[:-1, :-1].T + back[:-1, -1])

    @cached_property
    def fixed_samples(self) -> list[tuple[Array, Array]]:
        """Values ``(N,)`` and slopes ``(N, d)`` of each fixed channel."""
        sampled = [_sample(fixed, self.points, self.to_fixed, slopes=True) for fixed, _ in self.channels]
        return [(values, slopes) for values, slopes, _ in sampled]

    def sample_moving(self, motion: Array, *, slopes: bool) -> list[tuple[Array, Array, Mask]]:
        """Return values, slopes and which are valid, of each moving channel under a motion.

        Raises:
            RegistrationError: hardly any is.
        """
        matrix = self.to_moving @ motion
        found = [_sample(moving, self.points, matrix, slopes) for _, moving in self.channels]
        inside = found[0][2]
        if np.count_nonzero(inside) < max(LEAST_SHARE * len(inside), LEAST_EACH * motion.size):
            raise RegistrationError("the images share too few valid samples there")
        return found

    def measure_step(self, before: Array, after: Array) -> float:
        """Return how far a change of the motion moves the outermost points, in samples of the moving image.

        Raises:
            RegistrationError: so far that it leads away.
        """
        ends = [np.array(each) for each in zip(self.points.min(axis=0), self.points.max(axis=0), strict=True)]
        corners = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, len(ends))
        places = [_map(self.to_moving @ motion, corners) for motion in (before, after)]
        length = float(np.linalg.norm(places[1] - places[0], axis=1).max())
        if not length < FARTHEST * max(self.channels[0][1].valid.shape):
            raise RegistrationError("the steps lead away; start nearer, or seek a motion of less freedom")
        return length


def _sample(image: SplineImage, points: Array, matrix: Array, slopes: bool) -> tuple[Array, Array, Mask]:
    from regflow.methods.initialize.least_squares_kernels import sample_spline

    count, ndim = points.shape
    values, inside = np.empty(count), np.empty(count, bool)
    found = np.zeros((count, ndim if slopes else 0))
    sample_spline(image.spline, image.valid, points, np.ascontiguousarray(matrix), values, found, inside)
    return values, found, inside


def _map(matrix: Array, points: Array) -> Array:
    moved = points @ matrix[:, :-1].T + matrix[:, -1]
    return np.asarray(moved[:, :-1] / moved[:, -1:])


def align_forward_additive(problem: AlignmentProblem, motion: Array, model: str, iterations: int) -> Array:
    """Add steps of the parameters, with the slopes of the moving image at each.

    Args:
        problem: what is to be made equal.
        motion: ``(d + 1, d + 1)`` to start from.
        model: what more is sought, one of :data:`~regflow.methods.initialize.motion_models.MOTIONS`.
        iterations: most steps.

    Returns:
        The motion after which no step is worth taking.

    Raises:
        RegistrationError: the images do not overlap or do not determine the motion, or the steps lead away.
    """
    generators = list_generators(model, len(motion) - 1)
    parameters, tone, current = np.zeros(len(generators)), None, motion
    for _ in range(iterations):
        sampled = problem.sample_moving(current, slopes=True)
        tone = _start_tone(problem, sampled) if tone is None else tone
        derivatives = problem.to_moving @ motion @ linearize_motion(generators, parameters)
        slopes = [slopes for _, slopes, _ in sampled]
        equations = _Equations(slopes, problem.to_moving @ current, derivatives, float(tone[0]))
        step, tone = _solve(problem, equations, sampled, tone)
        parameters = parameters + step
        before, current = current, motion @ compute_motion(generators, parameters)
        if problem.measure_step(before, current) < problem.still:
            break
    return current


def align_inverse_compositional(
    problem: AlignmentProblem, motion: Array, model: str, iterations: int
) -> Array:
    """Move the fixed image a step against the moving one, and the motion by that step's inverse.

    Arguments and errors are those of :func:`align_forward_additive`.
    """
    generators, tone = list_generators(model, len(motion) - 1), None
    slopes = [slopes for _, slopes in problem.fixed_samples]
    equations = _Equations(slopes, problem.to_fixed, problem.to_fixed @ generators, -1.0)
    for _ in range(iterations):
        sampled = problem.sample_moving(motion, slopes=False)
        tone = _start_tone(problem, sampled) if tone is None else tone
        step, tone = _solve(problem, equations, sampled, tone)
        before, motion = motion, motion @ np.linalg.inv(compute_motion(generators, step))
        if problem.measure_step(before, motion) < problem.still:
            break
    return motion


ALIGN_BY: Mapping[str, Callable[[AlignmentProblem, Array, str, int], Array]] = {
    "inverse-compositional": align_inverse_compositional,
    "forward-additive": align_forward_additive,
}
"""The schemes, by name."""


def _start_tone(problem: AlignmentProblem, sampled: Sequence[tuple[Array, Array, Mask]]) -> Array:
    """Return the gain and the bias that bring moving values nearest to the fixed ones; 1 and 0 if not sought.

    Raises:
        RegistrationError: the values are constant.
    """
    if not problem.toned:
        return np.array([1.0, 0.0])
    values, _, inside = sampled[0]
    x, y = values[inside], problem.fixed_samples[0][0][inside]
    centered = x - x.mean()
    power = float((centered**2).sum())
    if not power > 0:
        raise RegistrationError("the moving image is constant where it meets the fixed one")
    gain = float((centered * (y - y.mean())).sum()) / power
    return np.array([gain, y.mean() - gain * x.mean()])


@dataclass(frozen=True, eq=False)
class _Equations:
    """How residuals change with the parameters.

    Attributes:
        slopes: ``(N, d)`` by channel, of the image that a step moves.
        matrix: ``(d + 1, d + 1)`` from points to that image's indices.
        derivatives: ``(P, d + 1, d + 1)`` of the matrix by the parameters.
        factor: of the slopes in the residuals.
    """

    slopes: Sequence[Array]
    matrix: Array
    derivatives: Array
    factor: float

    @property
    def rows(self) -> int:
        """Rows of the matrix that matter: all with a perspective, else all but the last."""
        ndim = len(self.matrix) - 1
        bent = np.any(self.derivatives[:, ndim]) or np.any(self.matrix[ndim, :ndim])
        return ndim + 1 if bent else ndim


def _solve(
    problem: AlignmentProblem,
    equations: _Equations,
    sampled: Sequence[tuple[Array, Array, Mask]],
    tone: Array,
) -> tuple[Array, Array]:
    """Return the step of the parameters, and gain and bias after theirs.

    Raises:
        RegistrationError: the equations do not determine the step.
    """
    count, rows = len(equations.derivatives), equations.rows
    parts = []
    for channel, (values, _, inside) in enumerate(sampled):
        residuals = tone[0] * values + tone[1] - problem.fixed_samples[channel][0]
        columns = [values, np.ones_like(values)] if problem.toned else []
        ends = np.stack([*columns, residuals], axis=1)
        weights = _weigh(residuals, inside, problem.weights)
        sums = _sum_products(problem.points, equations, channel, ends, weights)
        basis = np.zeros((len(sums), count + ends.shape[1]))
        basis[: -ends.shape[1], :count] = equations.derivatives[:, :rows].reshape(count, -1).T
        basis[-ends.shape[1] :, count:] = np.eye(ends.shape[1])
        parts.append(basis.T @ sums @ basis)
    found = _solve_normal(np.sum(parts, axis=0), count)
    return found[:count], tone + found[count:] if problem.toned else tone


def _sum_products(points: Array, equations: _Equations, channel: int, ends: Array, weights: Array) -> Array:
    """Return the weighted products of the derivatives by the matrix's entries and of further columns."""
    from regflow.methods.initialize.least_squares_kernels import CHUNK, accumulate_products

    length = equations.rows * len(equations.matrix) + ends.shape[1]
    parts = np.zeros((-(-len(points) // CHUNK), length, length))
    accumulate_products(
        points,
        equations.slopes[channel],
        np.ascontiguousarray(equations.matrix),
        equations.factor,
        equations.rows,
        ends,
        weights,
        parts,
    )
    sums = parts.sum(axis=0)
    return np.asarray(sums + np.triu(sums, 1).T)


def _solve_normal(system: Array, count: int) -> Array:
    """Solve normal equations whose last column has the residuals.

    The first ``count`` unknowns have one unit: that some of them hardly matter beside the others tells that
    the images do not determine them.
    """
    power = np.diagonal(system)[:-1].copy()
    power[:count] = power[:count].max()
    if np.isfinite(system).all() and (power > 0).all():
        scale = np.sqrt(power)
        normal = system[:-1, :-1] / np.outer(scale, scale)
        if np.linalg.cond(normal) < CONDITION:
            return np.asarray(-np.linalg.solve(normal, system[:-1, -1] / scale) / scale)
    raise RegistrationError("the images have too little contrast to determine this motion")


def _weigh(residuals: Array, inside: Mask, kind: str) -> Array:
    """Return the weight of each residual by its size in robust standard deviations; 0 where not valid."""
    sizes = np.abs(residuals)
    spread = 0.0 if kind == "none" else CONSISTENT * float(np.median(sizes[inside]))
    if spread == 0:
        return inside.astype(np.float64)
    if kind == "huber":
        weights = np.minimum(1.0, HUBER * spread / np.maximum(sizes, HUBER * spread))
    else:
        weights = np.maximum(1.0 - (sizes / (TUKEY * spread)) ** 2, 0.0) ** 2
    return np.asarray(np.where(inside, weights, 0.0))
