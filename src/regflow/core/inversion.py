"""The inverse of a transform of the plane, solved point by point, and how well an inverse undoes it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.grid import Grid
from regflow.core.transform import (
    DisplacementField,
    Points,
    Transform,
    compose_transforms,
    flatten_transform,
    measure_inverse_error,
)

TOLERANCE_PX = 1e-6
ROUNDS = 40
"""Newton's method doubles its digits in each; where it has not ended by then, there is no inverse."""
SLOPE_STEP_PX = 0.01
PROBES = 48
"""Points along each axis at which an inverse is measured."""


@dataclass(frozen=True, eq=False)
class PointwiseInverse:
    """From moving to fixed world points: for each one, the point that the transform sends there.

    Beyond a field's grid its border's displacement counts, as if the field went on.

    Attributes:
        forward: from fixed to moving world points, of the plane.
        pixel: size of a pixel in world units, the measure of accuracy.
    """

    forward: Transform
    pixel: float

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return 2

    def apply(self, points: ArrayLike) -> Points:
        """Map moving world points ``(N, 2)`` to fixed world points; those without an answer are NaN."""
        wanted = np.asarray(points, dtype=np.float64)
        found = self._guess(wanted)
        missed = wanted - _extended(self.forward, found)
        for _ in range(ROUNDS):
            left = np.flatnonzero(np.linalg.norm(missed, axis=1) > TOLERANCE_PX * self.pixel)
            if not left.size:
                break
            found[left] += self._step(found[left], missed[left])
            missed[left] = wanted[left] - _extended(self.forward, found[left])
        found[~(np.linalg.norm(missed, axis=1) <= TOLERANCE_PX * self.pixel)] = np.nan
        return found

    def inverse(self) -> Transform:
        """Return the transform that is solved for."""
        return self.forward

    def _guess(self, points: Points) -> Points:
        """Undo what has a closed inverse; displacements are small beside it."""
        for part in reversed(list(flatten_transform([self.forward]))):
            if not isinstance(part, DisplacementField):
                points = part.inverse().apply(points)
        return np.array(points)

    def _step(self, at: Points, missed: Points) -> Points:
        """Return Newton's step at points, by the transform's slopes around each."""
        reach = SLOPE_STEP_PX * self.pixel
        (xx, yx), (xy, yy) = (
            ((_extended(self.forward, at + side) - _extended(self.forward, at - side)) / (2 * reach)).T
            for side in reach * np.eye(2)
        )
        determinant = xx * yy - xy * yx
        # Where the slopes say nothing, the point stays and has no answer.
        scale = np.divide(1.0, determinant, out=np.zeros_like(determinant), where=determinant != 0)
        dx, dy = missed.T
        return np.stack([yy * dx - xy * dy, xx * dy - yx * dx], axis=1) * scale[:, None]


def invert_transform(transform: Transform, pixel: float) -> Transform:
    """Return the inverse of a transform of the plane: closed where there is one, else point by point.

    Args:
        transform: from fixed to moving world points.
        pixel: size of a pixel in world units.
    """
    if any(isinstance(part, DisplacementField) for part in flatten_transform([transform])):
        return PointwiseInverse(transform, pixel)
    return compose_transforms(transform.inverse())


def measure_inverse_error_px(
    transform: Transform, inverse: Transform, target: Grid, fixed: Grid
) -> NDArray[np.float64]:
    """Return how far ``transform`` ends from points that ``inverse`` undoes, in pixels.

    Args:
        transform: from fixed to moving world points.
        inverse: from moving to fixed world points.
        target: where the points are taken, a grid of the moving scene.
        fixed: the points that come to lie on this grid count, the others are beyond the transform.
    """
    axes = [np.linspace(0, size - 1, min(size, PROBES)) for size in target.size]
    points = target.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    index = fixed.to_index(inverse.apply(points))
    inside = ((index >= 0) & (index <= np.array(fixed.size) - 1)).all(axis=1)
    return measure_inverse_error(inverse, transform, points[inside]) / float(target.spacing.max())


def _extended(transform: Transform, points: Points) -> Points:
    for part in flatten_transform([transform]):
        points = part.extrapolate(points) if isinstance(part, DisplacementField) else part.apply(points)
    return points
