"""The mean of diffeomorphisms: averaged as velocities, whose exponentials never fold.

A diffeomorphism is taken for what a stationary velocity field does in a unit of time. Velocities can be
averaged like vectors; the negative of the mean gives the inverse of the mean map. Fields are voxel fields
of :mod:`regflow.core.fields`, 2-D or 3-D.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VoxelField = NDArray[np.float32]

LONGEST_STEP = 0.25
"""Samples of the longest displacement that is doubled by composing it with itself."""
ROUNDS = 8
SETTLED = 0.002
"""Mean distance in samples between a map and the exponential of its velocity at which it is found."""
GAIN = 0.8
"""A round that leaves more than this part of the distance is the last: not every map has a velocity."""


@dataclass(frozen=True, eq=False)
class VelocityFit:
    """The velocity of a map.

    Attributes:
        velocity: ``(d, *shape)`` voxel field.
        residual: mean distance, in samples, between the map and the velocity's exponential.
    """

    velocity: VoxelField
    residual: float


def integrate_velocity(velocity: VoxelField) -> VoxelField:
    """Return the displacement of a stationary velocity field: its exponential, by scaling and squaring.

    Source: Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006.
    """
    from regflow.core import fields

    longest = math.sqrt(float((velocity.astype(np.float64) ** 2).sum(axis=0).max(initial=0.0)))
    squarings = max(0, math.ceil(math.log2(longest / LONGEST_STEP))) if longest > 0 else 0
    displacement = np.asarray(velocity, np.float32) * np.float32(0.5**squarings)
    for _ in range(squarings):
        displacement = fields.compose_displacements(displacement, displacement)
    return displacement


def compute_velocity(displacement: VoxelField) -> VelocityFit:
    """Return the velocity whose exponential a displacement is, as nearly as there is one.

    Each round adds what is left of the map after the present velocity's inverse, ``exp(-v) o phi``: the
    first term of the Baker-Campbell-Hausdorff series, which vanishes at the solution.

    Source: Bossa & Olmos, A new algorithm for the computation of the group logarithm of diffeomorphisms,
    MFCA 2008.
    """
    from regflow.core import fields

    best = VelocityFit(np.asarray(displacement, np.float32), math.inf)
    velocity = best.velocity
    for _ in range(ROUNDS):
        left = fields.compose_displacements(integrate_velocity(-velocity), displacement)
        residual = measure_mean_length(left)
        if residual >= best.residual:
            break
        slow = residual > GAIN * best.residual
        best = VelocityFit(velocity, residual)
        if slow or residual <= SETTLED:
            break
        velocity = velocity + left
    return best


def measure_mean_length(field: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> float:
    """Return the mean length of vectors ``(d, *shape)`` inside a mask (None: everywhere), in their unit."""
    lengths = np.sqrt((field.astype(np.float64) ** 2).sum(axis=0))
    inside = lengths if mask is None else lengths[mask]
    return float(inside.mean()) if inside.size else 0.0


class VelocityMean:
    """Adds displacements up as velocities, one after another, in double precision.

    The order of adding is the order of the sum: add in a fixed one where the last bits must not change.

    Attributes:
        residuals: mean distance, in samples, of each map added to its velocity's exponential.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.residuals: list[float] = []
        self._sum = np.zeros((len(shape), *shape))
        self._squares = np.zeros(shape)
        self._weight = 0.0

    def add(self, displacement: VoxelField, weight: float = 1.0) -> None:
        """Add a voxel field ``(d, *shape)``."""
        fit = compute_velocity(displacement)
        velocity = fit.velocity.astype(np.float64)
        self._sum += weight * velocity
        self._squares += weight * (velocity**2).sum(axis=0)
        self._weight += weight
        self.residuals.append(fit.residual)

    def average(self) -> VoxelField:
        """Return the mean velocity; zero where nothing was added."""
        return np.asarray(self._sum / (self._weight or 1.0), dtype=np.float32)

    def measure_spread(self) -> NDArray[np.float32]:
        """Return, per sample, the root of the mean squared distance of the velocities from their mean."""
        mean = self._sum / (self._weight or 1.0)
        variance = self._squares / (self._weight or 1.0) - (mean**2).sum(axis=0)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)), dtype=np.float32)
