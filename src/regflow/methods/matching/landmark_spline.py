"""A thin-plate spline through displacements at scattered points, in two and three dimensions.

Sources: Duchon, Lecture Notes in Mathematics 571:85-100, 1977; Bookstein, IEEE Trans. PAMI 11(6):567-585,
1989; Wahba, Spline Models for Observational Data, SIAM, 1990 (smoothing); Rippa, Advances in Computational
Mathematics 11:193-210, 1999 (leaving one out without solving anew).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError

Array = NDArray[np.float64]

SMOOTHINGS = (0.0, *(10.0**power for power in range(-5, 2)))
"""Weights of the bending energy to choose from, for places of unit spread."""
CONDITION = 1e14
AT_ONCE = 1_000_000
"""Distances that are in memory together."""


@dataclass(frozen=True, eq=False)
class LandmarkSpline:
    """A thin-plate spline.

    Attributes:
        places: ``(N, d)`` of unit spread about the origin.
        kernels: ``(N, d)`` coefficients.
        plane: ``(d + 1, d)`` of a constant and a linear part.
        middle: ``(d,)`` world point that is the origin of ``places``.
        size: world units of their unit.
        smoothing: the weight of the bending energy.
        left_out: ``(N, d)`` what the spline through all others leaves of each displacement.
    """

    places: Array
    kernels: Array
    plane: Array
    middle: Array
    size: float
    smoothing: float
    left_out: Array

    @property
    def error(self) -> float:
        """Root mean square length of ``left_out``."""
        return float(np.sqrt((self.left_out**2).sum(axis=1).mean()))

    def displace(self, points: Array) -> Array:
        """Return the displacements at world points ``(M, d)``, in their units."""
        out = np.empty_like(points)
        step = max(AT_ONCE // len(self.places), 1)
        for first in range(0, len(points), step):
            local = (points[first : first + step] - self.middle) / self.size
            # Not by a product of matrices, whose last bits depend on the number of threads.
            bent = np.einsum("mn,nd->md", _kernel(local, self.places), self.kernels)
            out[first : first + step] = bent + self.plane[0] + np.einsum("me,ed->md", local, self.plane[1:])
        return out


def fit_landmark_spline(
    points: Array, displacements: Array, weights: Array, smoothing: float | None = None
) -> LandmarkSpline:
    """Fit a thin-plate spline.

    Args:
        points: ``(N, d)`` world points, more than ``d + 1``, not on one line or plane.
        displacements: ``(N, d)`` at them.
        weights: ``(N,)`` above 0.
        smoothing: weight of the bending energy; 0 goes through every point. None takes that of
            :data:`SMOOTHINGS` under which points are best foretold by the others.

    Raises:
        RegistrationError: the points determine no spline.
    """
    middle = points.mean(axis=0)
    size = float(np.sqrt(((points - middle) ** 2).sum(axis=1).mean()))
    if not size > 0:
        raise RegistrationError("landmarks: they lie on one spot")
    places = (points - middle) / size
    tries = SMOOTHINGS if smoothing is None else (smoothing,)
    found = [_solve(places, displacements, weights / weights.mean(), each) for each in tries]
    kernels, plane, left_out, chosen = min(found, key=lambda one: float((one[2] ** 2).sum()))
    return LandmarkSpline(places, kernels, plane, middle, size, chosen, left_out)


def _solve(
    places: Array, values: Array, weights: Array, smoothing: float
) -> tuple[Array, Array, Array, float]:
    count, ndim = places.shape
    system = np.zeros((count + ndim + 1, count + ndim + 1))
    system[:count, :count] = _kernel(places, places) + smoothing * np.diag(1 / weights)
    system[:count, count] = system[count, :count] = 1.0
    system[:count, count + 1 :], system[count + 1 :, :count] = places, places.T
    if not np.linalg.cond(system) < CONDITION:
        raise RegistrationError(
            "landmarks: two lie on one spot, or all on one line or plane: they determine no spline"
        )
    inverse = np.linalg.inv(system)
    solution = inverse[:, :count] @ values
    left_out = solution[:count] / np.diagonal(inverse)[:count, None]
    return solution[:count], solution[count:], left_out, smoothing


def _kernel(points: Array, places: Array) -> Array:
    """Return the fundamental solution of the bending energy between points, ``(M, N)``."""
    from scipy.spatial.distance import cdist

    if points.shape[1] == 3:
        return np.asarray(-cdist(points, places))
    squared = cdist(points, places, "sqeuclidean")
    return np.asarray(0.5 * squared * np.log(np.where(squared > 0, squared, 1.0)))
