"""The mean of linear maps: the map from which all others together lie nowhere."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.transform import Affine

Matrix = NDArray[np.float64]

ROUNDS = 30
SETTLED = 1e-12
"""A step of the mean with no larger entry, relative to the map's, is its last."""


def average_linear_maps(maps: Sequence[Affine], weights: Sequence[float] | None = None) -> Affine:
    """Return the weighted mean of linear maps in the group of affine maps.

    It is the map ``m`` for which the logarithms of all ``m^-1 a_i`` sum to zero, so the mean of the inverses
    is the inverse of the mean, and maps that are all rigid have a rigid mean. Sums are taken in the order
    given: sort the maps where the last bits must not depend on it.

    Args:
        maps: of one number of coordinates, at least one.
        weights: of each, not negative; all equal when None.

    Returns:
        The mean.

    Raises:
        RegistrationError: a map mirrors, or turns against the others by half a circle: there is no mean.

    Source: Pennec & Arsigny, Exponential barycenters of the canonical Cartan connection and invariant means
    on Lie groups, in Matrix Information Geometry, Springer 2012; its first round is the log-Euclidean mean
    of Arsigny et al., WBIR 2006.
    """
    from scipy.linalg import expm

    shares = normalize_weights(len(maps), weights)
    # Any of the maps will do to begin with; the heaviest has the others around it.
    mean = np.array(maps[int(np.argmax(shares))].matrix)
    for _ in range(ROUNDS):
        inverse = np.linalg.inv(mean)
        step = np.zeros_like(mean)
        for share, one in zip(shares, maps, strict=True):
            step += share * compute_logarithm(inverse @ one.matrix)
        mean = mean @ expm(step)
        if np.abs(step).max() <= SETTLED * max(1.0, float(np.abs(mean).max())):
            break
    mean[-1] = 0.0
    mean[-1, -1] = 1.0
    return Affine(mean)


def compute_logarithm(matrix: Matrix) -> Matrix:
    """Return the principal logarithm of a homogeneous ``(d + 1, d + 1)`` matrix.

    Raises:
        RegistrationError: there is no real one, because the map mirrors or turns by half a circle.
    """
    from scipy.linalg import logm

    angle_free = np.linalg.eigvals(matrix[:-1, :-1])
    if np.any((np.abs(angle_free.imag) < 1e-9) & (angle_free.real <= 0)):
        raise RegistrationError("a linear map mirrors or turns by half a circle, so that it has no mean")
    found = np.asarray(logm(matrix))
    if np.abs(found.imag).max() > 1e-6:
        raise RegistrationError("a linear map has no real logarithm, so that it has no mean")
    return np.asarray(found.real, dtype=np.float64)


def find_stretch(linear: Affine, center: NDArray[np.float64]) -> Affine:
    """Return the part of a linear map that changes sizes and angles: its stretch about a point.

    The map is a stretch, then a rotation and a shift (polar decomposition).

    Args:
        linear: a map that does not mirror.
        center: ``(d,)`` world point that the stretch leaves in place.
    """
    from scipy.linalg import polar

    _, stretch = polar(linear.linear)
    return Affine.from_parts(stretch, np.zeros(linear.ndim), center)


def normalize_weights(count: int, weights: Sequence[float] | None) -> Matrix:
    """Return weights that sum to one, equal ones when None."""
    shares = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    return np.asarray(shares / shares.sum())
