"""A smooth displacement field through scattered points in two or three dimensions, robustly.

The field is the polyharmonic spline of least bending: ``r^2 log r`` in the plane, ``r`` in space, with an
affine part. Points that their neighbors contradict are left out. A point's weight sets how far the spline may
pass it by; weights fall with residuals.

Sources: Duchon, Lecture Notes in Mathematics 571:85-100, 1977; Wahba, Spline Models for Observational Data,
1990; Beaton and Tukey, Technometrics 16(2):147-185, 1974 (biweight).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core import fields
from regflow.core.errors import RegistrationError
from regflow.methods.matching.neighbors import normalized_median_test

Array = NDArray[Any]

KERNELS = {2: "thin_plate_spline", 3: "linear"}
BIWEIGHT = 4.685
ROUNDS = 3
NOISE = 0.3
"""Of a match that is right, in samples along an axis, at least."""
AFFINE_ROUNDS = 20
LEAST_WEIGHT = 0.05
"""Below it a point is left out."""
NODES_PER_POINT = 2.0
"""Nodes along each axis at which the spline is evaluated, per point; between them the field is linear."""
LEAST_POINTS = 12


@dataclass(frozen=True, eq=False)
class ScatteredFit:
    """A fitted field and what it made of the points.

    Attributes:
        field: voxel field ``(d, *shape)``.
        weights: ``(N,)`` robust weights, 0 for points that were left out.
        scale: robust standard deviation of the residuals' components, samples.
    """

    field: fields.VoxelField
    weights: Array
    scale: float


def fit_scattered_field(
    places: Array, shifts: Array, trust: Array, shape: tuple[int, ...], smoothing: float
) -> ScatteredFit:
    """Fit a smooth field.

    Args:
        places: ``(N, d)`` samples, array order.
        shifts: ``(N, d)`` displacements there.
        trust: ``(N,)`` relative weights above 0.
        shape: of the grid.
        smoothing: 0 to pass through every point; 1 and more for a field that bends little.

    Raises:
        RegistrationError: fewer than twelve points agree on a field.
    """
    ndim = places.shape[1]
    if len(places) < LEAST_POINTS:
        raise RegistrationError(f"only {len(places)} points could be matched; {LEAST_POINTS} are needed")
    extent = np.ptp(places, axis=0) + 1
    unit = float(np.prod(extent) / len(places)) ** (1 / ndim)
    # Against their neighbors first: wrong matches must not bend the field that tells them from right ones.
    robust = 1.0 - normalized_median_test(places, shifts, floor=NOISE)
    scale = 0.0
    for _ in range(ROUNDS):
        kept = robust > LEAST_WEIGHT
        if int(kept.sum()) < LEAST_POINTS:
            raise RegistrationError(f"only {int(kept.sum())} of {len(places)} points agree on a smooth field")
        spline = _fit_spline(places[kept], shifts[kept], (robust * trust)[kept], unit, smoothing)
        left = np.linalg.norm(shifts - spline(places / unit), axis=1) / np.sqrt(ndim)
        scale = max(1.4826 * float(np.median(left[kept])), NOISE)
        robust = np.where(robust > 0, _biweight(left / scale), 0)
    step = max(1.0, unit / NODES_PER_POINT)
    nodes = tuple(max(2, int(np.ceil(count / step))) for count in shape)
    axes = [(np.arange(n) + 0.5) * count / n - 0.5 for n, count in zip(nodes, shape, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, ndim)
    values = spline(lattice / unit).T.reshape(ndim, *nodes)
    ratio = np.array([n / count for n, count in zip(nodes, shape, strict=True)])
    coarse = np.asarray(values * ratio.reshape(-1, *[1] * ndim), np.float32)
    return ScatteredFit(fields.resize_displacement(coarse, shape), np.where(kept, robust, 0), scale)


def _fit_spline(places: Array, shifts: Array, weights: Array, unit: float, smoothing: float) -> Any:
    from scipy.interpolate import RBFInterpolator

    each = smoothing / np.maximum(weights / weights.mean(), 1e-3)
    kernel = KERNELS[places.shape[1]]
    return RBFInterpolator(places / unit, shifts, smoothing=each, kernel=kernel, degree=1)


def fit_affine(places: Array, values: Array, trust: Array) -> Array:
    """Return the affine map ``(d + 1, d)`` of least absolute residuals, its first row the offset.

    Args:
        places: ``(N, d)``.
        values: ``(N, d)`` there.
        trust: ``(N,)`` relative weights above 0.
    """
    design = np.concatenate([np.ones((len(places), 1)), places], axis=1)
    weights, found = np.asarray(trust, np.float64), np.zeros((design.shape[1], values.shape[1]))
    for _ in range(AFFINE_ROUNDS):
        root = np.sqrt(weights)[:, None]
        found, *_ = np.linalg.lstsq(root * design, root * values, rcond=None)
        left = np.linalg.norm(values - design @ found, axis=1)
        weights = trust / (left + 0.1 * np.median(left) + 1e-6)
    return found


def apply_affine(affine: Array, places: Array) -> Array:
    """Return the values ``(N, d)`` of a map of :func:`fit_affine` at places."""
    return np.asarray(affine[0] + places @ affine[1:])


def _biweight(distance: Array) -> Array:
    return np.asarray(np.square(np.maximum(0, 1 - np.square(distance / BIWEIGHT))))
