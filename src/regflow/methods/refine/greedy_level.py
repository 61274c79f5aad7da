"""What one level of the greedy scheme needs, whichever device computes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIANCE_FLOOR = 1e-5
"""Added to local variances, for intensities scaled to about [0, 1]: silences flat windows."""
SMALLEST_VARIANCE, NARROW_VARIANCE = 1e-4, 0.4
"""Of Gaussians, in squared samples: below the first they change nothing worth their time."""
TRUNCATE = 3.0
"""Where Gaussians end, in standard deviations."""
WHOLLY = 0.999
"""Share of valid samples from which a sampled or shrunk place counts as valid."""
SMALLEST_SHARE = 0.2
"""Of the mask in a smoothing's window: further out the update fades away."""
LARGEST_GAIN = 4.0
"""Most that an update may be, in units of a Newton step with the mean curvature. The longest vector
bounds the step far from the match, this bound near it, where there is little but rounding left."""
BACKTRACKING_FACTOR, RECOVERY, SMALLEST_STEP_SCALE = 0.5, 1.1, 1 / 64
"""What multiplies the step when the similarity fell, what when it rose, and the least that is left."""
WINDOW = 10
"""Iterations over which progress is judged."""


@dataclass(frozen=True, eq=False)
class GreedyLevel:
    """The images of one level and how they are to be matched.

    All arrays are float32 with three axes; a 2-D image ``(rows, columns)`` is ``(rows, 1, columns)``.

    Attributes:
        fixed: ``(C, Z, Y, X)`` channels: one image, or descriptors, and perhaps further ones that guide it.
        moving: the same, on the same grid.
        weights: ``(Z, Y, X)``, how much each fixed sample steers, 0 to 1.
        valid: ``(Z, Y, X)``, 1 where the moving image has samples that may steer; None for everywhere.
        spacing: of the samples in array order, in units of the finest axis: all at least 1.
        correlation: match the first channel by local correlation; all others by squared differences.
        radius: of the correlation's window, update_sigma and field_sigma: of the Gaussians, and
            step: the longest vector of an update; all four in samples of the finest axis.
        momentum: share of each update that the next one repeats, 0 to less than 1 (Polyak, 1964).
        iterations: most updates.
        tolerance: see :class:`StepControl`.
    """

    fixed: NDArray[np.float32]
    moving: NDArray[np.float32]
    weights: NDArray[np.float32]
    valid: NDArray[np.float32] | None
    spacing: NDArray[np.float64]
    correlation: bool
    radius: int
    update_sigma: float
    field_sigma: float
    step: float
    momentum: float
    iterations: int
    tolerance: float

    @property
    def radii(self) -> tuple[int, int, int]:
        """The window's radius along each axis, in samples."""
        a, b, c = (round(self.radius / width) for width in self.spacing)
        return a, b, c

    def make_gaussians(self, sigma: float) -> tuple[NDArray[np.float32], ...]:
        """Return half kernels along each axis, center first, for a Gaussian of ``sigma``."""
        return tuple(make_half_gaussian(sigma / width) for width in self.spacing)

    def make_relaxation_kernels(self, gain: float) -> tuple[NDArray[np.float32], ...]:
        """Return the half kernels that smooth the field after an update of ``gain`` Newton steps.

        Smoothing in proportion to the step, repetitions included, keeps the balance between force and
        smoothness, to which the iterations converge, independent of the step.
        """
        return self.make_gaussians(self.field_sigma * float(np.sqrt(gain / (1 - self.momentum))))

    def compute_factor(self, longest: float, curvature: float) -> float:
        """Return what to multiply the smoothed force with.

        Args:
            longest: length of its longest vector.
            curvature: mean second derivative along the force.
        """
        bounds = [self.step / longest] if longest > 0 else []
        bounds += [LARGEST_GAIN / curvature] if curvature > 0 else []
        return min(bounds, default=0.0)

    @property
    def metric(self) -> NDArray[np.float32]:
        """What turns a gradient along samples into a displacement in samples, per axis.

        A gradient per sample, over the sample's width twice: once for the slope in the world,
        once for the displacement back in samples.
        """
        return (1.0 / np.square(self.spacing)).astype(np.float32)


@dataclass
class StepControl:
    """Judges the similarities so far: how bold the next step may be, and whether it is worth its time.

    Attributes:
        tolerance: least gain of mean similarity over :data:`WINDOW` iterations.
        history: similarity before each iteration.
        step_scale: share of the full step that the next one may take, halved when the similarity falls.
    """

    tolerance: float
    history: list[float] = field(default_factory=list)
    step_scale: float = 1.0

    def check_convergence(self, similarity: float) -> bool:
        """Note a similarity; return whether the last iterations gained less than the tolerance."""
        if self.history and similarity < self.history[-1]:
            self.step_scale = max(self.step_scale * BACKTRACKING_FACTOR, SMALLEST_STEP_SCALE)
        elif self.history:
            self.step_scale = min(self.step_scale * RECOVERY, 1.0)
        self.history.append(similarity)
        if self.tolerance <= 0 or len(self.history) <= WINDOW:
            return False
        return similarity - self.history[-1 - WINDOW] < self.tolerance


@dataclass(frozen=True, eq=False)
class LevelSolution:
    """What a level came to: the voxel field ``(3, Z, Y, X)`` and the similarity before each update."""

    field: NDArray[np.float32]
    similarities: Sequence[float]


def make_half_gaussian(sigma: float) -> NDArray[np.float32]:
    """Return the taps ``[center, 1, 2, ..]`` of a Gaussian whose two sides sum to 1.

    A narrow one has three taps with exactly the variance asked for, which samples of the curve
    would miss by far.
    """
    variance = sigma * sigma
    if variance < SMALLEST_VARIANCE:
        return np.ones(1, np.float32)
    if variance < NARROW_VARIANCE:
        return np.array([1 - variance, variance / 2], np.float32)
    taps = np.exp(-0.5 * np.square(np.arange(int(np.ceil(TRUNCATE * sigma)) + 1) / sigma))
    return np.asarray(taps / (2 * taps.sum() - taps[0]), dtype=np.float32)


def count_window_samples(shape: Sequence[int], radii: Sequence[int]) -> tuple[NDArray[Any], ...]:
    """Return, per axis, how many samples of a window centered at each index lie in the image."""
    counts = []
    for size, radius in zip(shape, radii, strict=True):
        index = np.arange(size)
        inside = np.minimum(index + radius, size - 1) - np.maximum(index - radius, 0) + 1
        counts.append(inside.astype(np.float32))
    return tuple(counts)
