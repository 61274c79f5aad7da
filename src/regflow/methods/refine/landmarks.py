"""A thin-plate spline through pairs of landmarks, as a displacement field."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.transform import DisplacementField, Transform, compose_transforms
from regflow.methods.context import RunContext
from regflow.methods.matching.landmark_fit import CONSISTENT, SIGMAS, require_landmarks
from regflow.methods.matching.landmark_spline import Array, LandmarkSpline, fit_landmark_spline
from regflow.methods.result import LandmarkErrors, MethodResult

log = logging.getLogger(__name__)

MOST_SAMPLES = 1_500_000
"""Of the field; a spline through landmarks is smooth, and the field is interpolated."""


def landmarks(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Bend the space so that each fixed landmark, displaced, meets its partner by ``initial``.

    The images are not looked at.
    Source: Bookstein, IEEE Trans. PAMI 11(6):567-585, 1989.

    Args:
        fixed: of two or three dimensions; its grid is the field's.
        moving: likewise.
        initial: where to start.
        options: see the table in :mod:`regflow.methods.refine`.
        context: with the landmarks.

    Raises:
        RegistrationError: there are none, too few, or they determine no spline.
    """
    pairs = require_landmarks(context.landmarks, fixed.grid.ndim + 1, "thin-plate spline")
    tolerance = float(max(fixed.grid.spacing.max(), moving.grid.spacing.max()))
    bend = _Bend(pairs, initial, initial.inverse().apply(pairs.moving.points), options["smoothing"])
    used = np.ones(len(pairs), bool)
    spline, left_out = bend.fit(used)
    while options["outliers"] == "drop" and used.sum() > fixed.grid.ndim + 2:
        worst = int(np.argmax(np.where(used, left_out, -1.0)))
        spread = CONSISTENT * float(np.median(left_out[used]))
        if left_out[worst] <= max(SIGMAS * spread, tolerance):
            break
        used[worst] = False
        spline, left_out = bend.fit(used)
    log.info("%d of %d landmarks, smoothing %g", used.sum(), len(pairs), spline.smoothing)
    field = _sample_spline(spline, fixed.grid)
    transform = compose_transforms(field, initial)
    return MethodResult(transform, landmarks=LandmarkErrors.from_pairs(pairs, left_out, used))


@dataclass(frozen=True, eq=False)
class _Bend:
    """What is to be bent.

    Attributes:
        pairs: the landmarks.
        initial: from fixed to moving.
        targets: ``(N, d)`` where the moving landmarks come from under it.
        smoothing: of the spline, or None.
    """

    pairs: LandmarkPairs
    initial: Transform
    targets: Array
    smoothing: float | None

    def fit(self, used: NDArray[np.bool_]) -> tuple[LandmarkSpline, Array]:
        """Return the spline through some landmarks, and how far each lies from where the others put it."""
        points = self.pairs.fixed.points
        steps = self.targets - points
        spline = fit_landmark_spline(points[used], steps[used], self.pairs.weights[used], self.smoothing)
        foretold = points + spline.displace(points)
        foretold[used] = self.targets[used] - spline.left_out
        return spline, np.linalg.norm(self.initial.apply(foretold) - self.pairs.moving.points, axis=1)


def _sample_spline(spline: LandmarkSpline, grid: Grid) -> DisplacementField:
    """Return the displacements on a grid, of a coarser spacing where it has very many samples."""
    samples = float(np.prod([float(length) for length in grid.shape]))
    step = max((samples / MOST_SAMPLES) ** (1 / grid.ndim), 1.0)
    lattice = grid if step == 1 else grid.with_spacing((grid.spacing * step).tolist())
    indices = np.indices(lattice.shape, dtype=np.float64).reshape(grid.ndim, -1)[::-1].T
    vectors = spline.displace(lattice.to_world(indices))
    return DisplacementField(vectors.T.reshape(grid.ndim, *lattice.shape).astype(np.float32), lattice)
