"""One level of the greedy scheme on the CPU, by the kernels of :mod:`greedy_kernels`."""

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
from numpy.typing import NDArray

from regflow.methods.refine import greedy_kernels as kernels
from regflow.methods.refine.greedy_level import VARIANCE_FLOOR, Level, Progress, Solved, window_counts

Array = NDArray[np.float32]


@contextmanager
def numba_threads(count: int) -> Iterator[None]:
    """Let numba use at most ``count`` threads inside the block."""
    before, most = numba.get_num_threads(), int(getattr(numba.config, "NUMBA_NUM_THREADS"))  # noqa: B009
    numba.set_num_threads(max(1, min(count, most)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def solve(level: Level, field: Array) -> Solved:
    """Run a level's iterations from a voxel field ``(3, Z, Y, X)``, which is overwritten.

    Each iteration samples the moving image at the field, computes the force, smooths it, scales it
    to the level's step, composes it with the field and smooths the field.
    """
    force = _Correlation(level) if level.correlation else _Difference(level)
    lengths = level.spacing.astype(np.float32)
    update_taps, field_taps = level.gaussians(level.update_sigma), level.gaussians(level.field_sigma)
    update, spare = np.empty_like(field), np.empty_like(field)
    longest = np.empty(field.shape[1], np.float32)
    progress = Progress(level.tolerance)
    for _ in range(level.iterations):
        if progress.stalled(force(field, spare)):
            break
        kernels.smooth(spare, *update_taps, update)
        kernels.squared_lengths(update, lengths, longest)
        norm = float(np.sqrt(longest.max()))
        if norm == 0.0:
            break
        factor = np.float32(level.step / norm)
        kernels.pull(field, update, factor, spare)
        kernels.add_scaled(update, factor, spare)
        kernels.smooth(spare, *field_taps, field)
    return Solved(field, progress.history)


class _Force:
    """Samples the moving image at a field and writes the force there; calling returns the similarity."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._moved = np.empty_like(level.moving)
        self._totals = np.empty(level.weights.shape[0])
        self._whole = max(float(level.weights.sum(dtype=np.float64)), 1.0)

    def __call__(self, field: Array, out: Array) -> float:
        kernels.pull(self._level.moving, field, np.float32(1), self._moved)
        self._write(self._weights(field), out)
        return float(self._totals.sum()) / self._whole

    def _weights(self, field: Array) -> Array:
        if self._level.valid is None:
            return self._level.weights
        seen = np.empty((1, *self._level.weights.shape), np.float32)
        kernels.pull(self._level.valid[None], field, np.float32(1), seen)
        return np.asarray(self._level.weights * (seen[0] > 0.999), np.float32)

    def _write(self, weights: Array, out: Array) -> None:
        raise NotImplementedError


class _Correlation(_Force):
    """Local squared correlation; the fixed image's statistics are computed once."""

    def __init__(self, level: Level) -> None:
        super().__init__(level)
        fixed = level.fixed[0]
        self._counts = window_counts(fixed.shape, level.radii)
        means = local_means(np.stack([fixed, fixed * fixed]), level.radii)
        self._mean = np.ascontiguousarray(means[0])
        self._precision = 1 / (np.maximum(means[1] - means[0] ** 2, 0) + np.float32(VARIANCE_FLOOR))

    def _write(self, weights: Array, out: Array) -> None:
        kernels.correlation_force(
            self._level.fixed[0],
            self._mean,
            self._precision,
            self._moved[0],
            weights,
            self._level.radii,
            *self._counts,
            np.float32(VARIANCE_FLOOR),
            self._level.metric,
            out,
            self._totals,
        )


class _Difference(_Force):
    """Squared differences, summed over channels."""

    def _write(self, weights: Array, out: Array) -> None:
        level = self._level
        kernels.difference_force(level.fixed, self._moved, weights, level.metric, out, self._totals)


def local_means(channels: Array, radii: tuple[int, int, int]) -> Array:
    """Return the means of ``(C, Z, Y, X)`` channels over windows, cut at the image's borders."""
    from scipy.ndimage import uniform_filter1d

    counts = window_counts(channels.shape[1:], radii)
    means = channels
    for axis, (radius, count) in enumerate(zip(radii, counts, strict=True), start=1):
        size = 2 * radius + 1
        sums = uniform_filter1d(means, size, axis=axis, output=np.float32, mode="constant") * np.float32(size)
        means = sums / count.reshape([-1 if k == axis else 1 for k in range(4)])
    return np.ascontiguousarray(means, np.float32)
