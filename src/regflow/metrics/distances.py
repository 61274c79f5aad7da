"""Distances between where transforms send points: landmarks, a known truth, there and back."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import InputError
from regflow.core.extent import measure_ball_diameter
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform, measure_inverse_error

POINTS = 100_000
"""Most points at which a dense error is measured: the mean is then known to about a thousandth."""


@dataclass(frozen=True)
class ErrorScale:
    """The lengths that an error is held against.

    Attributes:
        radius_mm: of the sphere (2-D: disk) with the volume of the fixed image's mask.
        spacing_mm: root mean square of a sample's sides, of the coarser image.
    """

    radius_mm: float
    spacing_mm: float

    @classmethod
    def from_images(cls, fixed: Image, moving: Image) -> "ErrorScale":
        """Measure a pair; without a mask, the whole fixed image is the object."""
        radius = measure_ball_diameter(fixed.mask, fixed.grid) / 2
        sides = [float(np.sqrt(np.mean(image.grid.spacing**2))) for image in (fixed, moving)]
        return cls(radius, max(sides))

    def to_percent(self, error_mm: float) -> float:
        """Return an error beyond one sample's side, which placing may explain, in percent of the radius."""
        return 100 * max(error_mm - self.spacing_mm, 0.0) / self.radius_mm


def measure_target_registration_error(
    fixed: ArrayLike, moving: ArrayLike, transform: Transform
) -> NDArray[np.float64]:
    """Return how far each landmark is from where it should be, ``(N,)`` mm.

    Args:
        fixed: ``(N, d)`` world points in the fixed image.
        moving: the same landmarks in the moving image.
        transform: fixed to moving.

    Raises:
        InputError: the two lists differ in length.
    """
    fixed, moving = np.asarray(fixed, dtype=np.float64), np.asarray(moving, dtype=np.float64)
    if fixed.shape != moving.shape:
        raise InputError(
            f"{len(fixed)} fixed and {len(moving)} moving landmarks; every landmark needs its partner"
        )
    return np.asarray(np.linalg.norm(transform.apply(fixed) - moving, axis=-1))


def list_mask_points(grid: Grid, mask: NDArray[np.bool_] | None, most: int = POINTS) -> NDArray[np.float64]:
    """Return the world positions of a regular sub-grid of the mask's samples.

    Args:
        grid: of the mask.
        mask: ``grid.shape``; the whole grid when None.
        most: the sub-grid takes every n-th sample along each axis with the least n that leaves at
            most this many.

    Returns:
        ``(N, d)`` points, at least one.

    Raises:
        InputError: the mask is empty.
    """
    inside = np.ones(grid.shape, dtype=bool) if mask is None else mask
    if not inside.any():
        raise InputError("the fixed mask is empty, so there is nowhere to measure an error")
    index = np.argwhere(inside)
    step = 1
    while len(index) > most:
        step += 1
        coarse = inside[tuple(slice(step // 2, None, step) for _ in grid.shape)]
        index = np.argwhere(coarse) * step + step // 2
    if not len(index):
        index = np.argwhere(inside)[:1]
    return grid.to_world(index[:, ::-1])


def measure_truth_error(transform: Transform, truth: Transform, points: ArrayLike) -> NDArray[np.float64]:
    """Return how far a transform sends fixed points from where the truth sends them, ``(N,)`` mm."""
    return np.asarray(np.linalg.norm(transform.apply(points) - truth.apply(points), axis=-1))


def measure_inverse_consistency(
    forward: Transform, backward: Transform, points: ArrayLike
) -> NDArray[np.float64]:
    """Return how far from its start each fixed point ends after going there and back, ``(N,)`` mm."""
    return measure_inverse_error(forward, backward, points)


def summarize_errors(errors: NDArray[np.float64]) -> Mapping[str, float]:
    """Return mean, median, 95th percentile and maximum of distances in mm."""
    return {
        "mean_mm": float(np.mean(errors)),
        "median_mm": float(np.median(errors)),
        "p95_mm": float(np.percentile(errors, 95)),
        "max_mm": float(np.max(errors)),
    }
