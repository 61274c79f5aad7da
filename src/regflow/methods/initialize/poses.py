"""Linear poses: sets of rotations to start from, and the climb to the nearest best pose."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from regflow.methods.initialize.information import Metric

Matrix = NDArray[np.float64]

RELATIVE_CHANGE = 1e-6
"""An optimization ends when the mutual information changes by less than this part."""


@dataclass(frozen=True)
class Found:
    """A pose ``(4, 4)`` from centered fixed points to moving points, and its mutual information."""

    pose: Matrix
    value: float


def lifted(matrix: Matrix) -> Matrix:
    """Return a homogeneous matrix of the plane as one of space; one of space as it is."""
    if len(matrix) == 4:
        return np.array(matrix)
    space = np.eye(4)
    space[np.ix_([0, 1, 3], [0, 1, 3])] = matrix
    return space


def flattened(matrix: Matrix, ndim: int) -> Matrix:
    """Undo :func:`lifted`."""
    kept = [*range(ndim), 3]
    return matrix[np.ix_(kept, kept)]


def rotations(ndim: int, step_degrees: float) -> NDArray[np.float64]:
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


def angles(turns: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles in degrees between rotations ``(K, 3, 3)`` and one rotation ``(3, 3)``."""
    cosines = (np.einsum("kij,ij->k", turns, reference) - 1) / 2
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1, 1))))


def nearest_rotation(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation nearest to a linear map ``(3, 3)`` without reflection."""
    u, _, vt = np.linalg.svd(linear)
    return np.asarray(u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt)


def optimize(
    metric: Metric, start: Matrix, after: Matrix, ndim: int, *, rigid: bool, iterations: int
) -> Found:
    """Climb from a pose to the nearest maximum of mutual information (L-BFGS).

    Args:
        metric: of the image pair.
        start: ``(4, 4)`` from centered fixed points to the space before ``after``.
        after: ``(4, 4)`` applied after the pose, to moving points.
        ndim: 2 or 3; a 2-D pose stays in its plane.
        rigid: change rotation and translation only, else all entries.
        iterations: most iterations.

    Returns:
        The pose, ``after`` not included.
    """
    place, pull = (_rigid if rigid else _affine)(start, metric.level.radius, ndim)

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = metric(after @ place(parameters))
        return -value, -pull(parameters, after[:3, :3].T @ gradient)

    size = _free(ndim, rigid).sum()
    options = {"maxiter": iterations, "maxcor": 12, "ftol": RELATIVE_CHANGE, "gtol": 1e-7, "maxls": 10}
    result = minimize(cost, np.zeros(size), jac=True, method="L-BFGS-B", options=options)
    return Found(place(result.x), -float(result.fun))


Place = Callable[[NDArray[np.float64]], Matrix]
Pull = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _free(ndim: int, rigid: bool) -> NDArray[np.bool_]:
    """Return which of the parameters of a 3-D pose may change: turns or entries, then shifts."""
    flat = np.array([True, True, ndim == 3])
    turning = np.array([ndim == 3, ndim == 3, True]) if rigid else np.outer(flat, flat).ravel()
    return np.concatenate([turning, flat])


def _rigid(start: Matrix, radius: float, ndim: int) -> tuple[Place, Pull]:
    """Parametrize by a rotation vector times the radius, and a shift: all in world units."""
    free = _free(ndim, rigid=True)

    def full(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.zeros(6)
        values[free] = parameters
        return values

    def place(parameters: NDArray[np.float64]) -> Matrix:
        values = full(parameters)
        pose = start.copy()
        pose[:3, :3] = Rotation.from_rotvec(values[:3] / radius).as_matrix() @ start[:3, :3]
        pose[:3, 3] += values[3:]
        return pose

    def pull(parameters: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        turn = full(parameters)[:3] / radius
        moment = gradient[:, :3] @ place(parameters)[:3, :3].T
        torque = np.array(
            [moment[2, 1] - moment[1, 2], moment[0, 2] - moment[2, 0], moment[1, 0] - moment[0, 1]]
        )
        by_turn = _left_jacobian(turn).T @ torque / radius
        return np.concatenate([by_turn, gradient[:, 3]])[free]

    return place, pull


def _affine(start: Matrix, radius: float, ndim: int) -> tuple[Place, Pull]:
    """Parametrize by the entries of a map after the start, times the radius, and a shift."""
    free = _free(ndim, rigid=False)

    def place(parameters: NDArray[np.float64]) -> Matrix:
        values = np.zeros(12)
        values[free] = parameters
        pose = start.copy()
        pose[:3, :3] = (np.eye(3) + values[:9].reshape(3, 3) / radius) @ start[:3, :3]
        pose[:3, 3] += values[9:]
        return pose

    def pull(parameters: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        by_entry = gradient[:, :3] @ start[:3, :3].T / radius
        return np.concatenate([by_entry.ravel(), gradient[:, 3]])[free]

    return place, pull


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
