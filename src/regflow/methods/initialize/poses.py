"""Linear poses: sets of rotations to start from, and the climb to the nearest best pose."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from regflow.methods.initialize.information import InformationMetric

Matrix = NDArray[np.float64]

FIRST_STEP, LONGEST_STEP, LAST_STEP = 0.5, 3.0, 1e-4
"""Length of an optimizer's first, of its longest and of its last step, in units of the spacing."""
SUFFICIENT = 1e-4
"""Part of the expected gain that a step must bring (Armijo's rule)."""
HALVINGS = 8


@dataclass(frozen=True)
class ScoredPose:
    """A pose ``(4, 4)`` from centered fixed points to moving points, and its mutual information."""

    pose: Matrix
    value: float


def to_3d(matrix: Matrix) -> Matrix:
    """Return a homogeneous matrix of the plane as one of space; one of space as it is."""
    if len(matrix) == 4:
        return np.array(matrix)
    space = np.eye(4)
    space[np.ix_([0, 1, 3], [0, 1, 3])] = matrix
    return space


def to_2d(matrix: Matrix, ndim: int) -> Matrix:
    """Undo :func:`to_3d`."""
    kept = [*range(ndim), 3]
    return matrix[np.ix_(kept, kept)]


def list_rotations(ndim: int, step_degrees: float) -> NDArray[np.float64]:
    """Return rotations ``(K, 3, 3)`` that cover all orientations, the identity first.

    Neighbors are about ``step_degrees`` apart. In 3-D the unit quaternions are taken from a cubed
    sphere, whose cells have nearly equal size; in 2-D the turns are about the last axis.
    """
    if ndim == 2:
        count = int(np.ceil(360 / step_degrees))
        turns = np.arange(count) * (2 * np.pi / count)
        return np.asarray(Rotation.from_rotvec(np.outer(turns, [0, 0, 1])).as_matrix())
    # A rotation by an angle is half that angle on the quaternions' sphere; a face spans 90 degrees.
    count = max(2, int(np.ceil(90 / (step_degrees / 2)))) | 1
    ticks = np.tan(np.linspace(-np.pi / 4, np.pi / 4, count))
    face = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    quaternions = np.concatenate([np.insert(face, axis, 1.0, axis=1) for axis in range(4)])
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    quaternions = quaternions[np.argsort(-np.abs(quaternions[:, 3]), kind="stable")]
    # Points on the edges between faces come twice, once with either sign.
    signs = np.sign(quaternions[np.arange(len(quaternions)), np.abs(quaternions).argmax(axis=1)])
    unique = np.unique(np.round(quaternions * signs[:, None], 9), axis=0, return_index=True)[1]
    return np.asarray(Rotation.from_quat(quaternions[np.sort(unique)]).as_matrix())


def measure_angles(turns: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles in degrees between rotations ``(K, 3, 3)`` and one rotation ``(3, 3)``."""
    cosines = (np.einsum("kij,ij->k", turns, reference) - 1) / 2
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1, 1))))


def find_nearest_rotation(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation nearest to a linear map ``(3, 3)`` without reflection."""
    u, _, vt = np.linalg.svd(linear)
    return np.asarray(u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt)


def optimize_pose(
    metric: InformationMetric, start: Matrix, after: Matrix, ndim: int, *, transform: str, iterations: int
) -> ScoredPose:
    """Climb from a pose to the nearest maximum of mutual information (BFGS).

    Args:
        metric: of the image pair.
        start: ``(4, 4)`` from centered fixed points to the space before ``after``.
        after: ``(4, 4)`` applied after the pose, to moving points.
        ndim: 2 or 3; a 2-D pose stays in its plane.
        transform: what may change: ``rigid`` (rotation and translation), ``similarity`` (one scale
            besides) or ``affine`` (all entries).
        iterations: most iterations.

    Returns:
        The pose, ``after`` not included.
    """
    place, pull = _PARAMETRIZED[transform](start, metric.level.radius, ndim)

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        if not np.linalg.det(place(parameters)[:3, :3]) > 0:
            # No step may lead to a mirror image, however well it fits.
            return np.inf, np.zeros_like(parameters)
        value, gradient = metric(after @ place(parameters))
        return -value, -pull(parameters, after[:3, :3].T @ gradient)

    size = int(_free(ndim, transform).sum())
    best, value = _minimize(cost, size, metric.level.spacing, iterations)
    return ScoredPose(place(best), -value)


Cost = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
PlacePose = Callable[[NDArray[np.float64]], Matrix]
Pull = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _minimize(cost: Cost, size: int, spacing: float, iterations: int) -> tuple[NDArray[np.float64], float]:
    """Minimize from zero by BFGS with a backtracking line search; parameters are world lengths.

    A library's optimizer spends more time in threaded linear algebra than a dozen parameters need.
    """
    x = np.zeros(size)
    value, gradient = cost(x)
    inverse_hessian: NDArray[np.float64] | None = None
    for _ in range(iterations):
        norm = float(np.linalg.norm(gradient))
        if norm == 0:
            break
        if inverse_hessian is None:
            step = gradient * (-FIRST_STEP * spacing / norm)
        else:
            step = -inverse_hessian @ gradient
        length = float(np.linalg.norm(step))
        step *= min(1.0, LONGEST_STEP * spacing / length)
        found = _line_search(cost, x, value, float(gradient @ step), step)
        if found is None:
            if inverse_hessian is None:
                break
            inverse_hessian = None
            continue
        step, new_value, new_gradient = found
        inverse_hessian = _updated(inverse_hessian, step, new_gradient - gradient)
        x, value, gradient = x + step, new_value, new_gradient
        if np.linalg.norm(step) < LAST_STEP * spacing:
            break
    return x, value


def _line_search(
    cost: Cost, x: NDArray[np.float64], value: float, slope: float, step: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]] | None:
    """Shorten a step until it gains enough; None when it never does."""
    for _ in range(HALVINGS):
        new_value, new_gradient = cost(x + step)
        if new_value <= value + SUFFICIENT * slope:
            return step, new_value, new_gradient
        # The minimum of the parabola through both values and the first slope, within bounds.
        shrink = float(np.clip(-slope / (2 * (new_value - value - slope)), 0.1, 0.5))
        step, slope = step * shrink, slope * shrink
    return None


def _updated(
    inverse: NDArray[np.float64] | None, step: NDArray[np.float64], change: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the BFGS update of an inverse Hessian; unchanged where the curvature is not positive."""
    curvature = float(step @ change)
    if curvature <= 1e-12 * float(np.linalg.norm(step) * np.linalg.norm(change)):
        return inverse
    if inverse is None:
        inverse = np.eye(len(step)) * (curvature / float(change @ change))
    left = np.eye(len(step)) - np.outer(step, change) / curvature
    return np.asarray(left @ inverse @ left.T + np.outer(step, step) / curvature)


def _free(ndim: int, transform: str) -> NDArray[np.bool_]:
    """Return which of the parameters of a 3-D pose may change: turns (and scale) or entries, then shifts."""
    flat = np.array([True, True, ndim == 3])
    if transform == "affine":
        return np.concatenate([np.outer(flat, flat).ravel(), flat])
    turning = np.array([ndim == 3, ndim == 3, True])
    return np.concatenate([turning, flat] if transform == "rigid" else [turning, [True], flat])


def _filled(parameters: NDArray[np.float64], free: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return all parameters of a pose: those that are free, and zero for the others."""
    values = np.zeros(len(free))
    values[free] = parameters
    return values


def _rigid(start: Matrix, radius: float, ndim: int) -> tuple[PlacePose, Pull]:
    """Parametrize by a rotation vector times the radius, and a shift: all in world units."""
    free = _free(ndim, "rigid")

    def place(parameters: NDArray[np.float64]) -> Matrix:
        values = _filled(parameters, free)
        pose = start.copy()
        pose[:3, :3] = Rotation.from_rotvec(values[:3] / radius).as_matrix() @ start[:3, :3]
        pose[:3, 3] += values[3:]
        return pose

    def pull(parameters: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        moment = gradient[:, :3] @ place(parameters)[:3, :3].T
        by_turn = _by_turn(_filled(parameters, free)[:3] / radius, moment) / radius
        return np.concatenate([by_turn, gradient[:, 3]])[free]

    return place, pull


def _similarity(start: Matrix, radius: float, ndim: int) -> tuple[PlacePose, Pull]:
    """Parametrize as :func:`_rigid`, with the logarithm of one scale times the radius before the shift."""
    free = _free(ndim, "similarity")

    def place(parameters: NDArray[np.float64]) -> Matrix:
        values = _filled(parameters, free)
        turn = Rotation.from_rotvec(values[:3] / radius).as_matrix()
        # A plane lifted into space keeps its third axis: a scale of it would change nothing.
        scales = np.where(np.arange(3) < ndim, np.exp(values[3] / radius), 1.0)
        pose = start.copy()
        pose[:3, :3] = scales[:, None] * (turn @ start[:3, :3])
        pose[:3, 3] += values[4:]
        return pose

    def pull(parameters: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        moment = gradient[:, :3] @ place(parameters)[:3, :3].T
        by_turn = _by_turn(_filled(parameters, free)[:3] / radius, moment) / radius
        by_scale = [float(np.trace(moment[:ndim, :ndim])) / radius]
        return np.concatenate([by_turn, by_scale, gradient[:, 3]])[free]

    return place, pull


def _affine(start: Matrix, radius: float, ndim: int) -> tuple[PlacePose, Pull]:
    """Parametrize by the entries of a map after the start, times the radius, and a shift."""
    free = _free(ndim, "affine")

    def place(parameters: NDArray[np.float64]) -> Matrix:
        values = _filled(parameters, free)
        pose = start.copy()
        pose[:3, :3] = (np.eye(3) + values[:9].reshape(3, 3) / radius) @ start[:3, :3]
        pose[:3, 3] += values[9:]
        return pose

    def pull(parameters: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        by_entry = gradient[:, :3] @ start[:3, :3].T / radius
        return np.concatenate([by_entry.ravel(), gradient[:, 3]])[free]

    return place, pull


_PARAMETRIZED: dict[str, Callable[[Matrix, float, int], tuple[PlacePose, Pull]]] = {
    "rigid": _rigid,
    "similarity": _similarity,
    "affine": _affine,
}


def _by_turn(turn: NDArray[np.float64], moment: Matrix) -> NDArray[np.float64]:
    """Return the derivative by a rotation vector, from that by the entries of a map after the pose."""
    torque = np.array([moment[2, 1] - moment[1, 2], moment[0, 2] - moment[2, 0], moment[1, 0] - moment[0, 1]])
    return np.asarray(_left_jacobian(turn).T @ torque)


def _left_jacobian(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the derivative of a rotation, as a small turn after it, by its rotation vector."""
    angle = float(np.linalg.norm(turn))
    x, y, z = turn
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-6:
        return np.asarray(np.eye(3) + cross / 2)
    first = (1 - np.cos(angle)) / angle**2
    second = (angle - np.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross)
