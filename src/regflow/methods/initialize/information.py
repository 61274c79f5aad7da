"""Mutual information of two images as a function of a linear transform, with its gradient.

The samples are those of the fixed mask and a thin shell around it. "Outside the mask" is a value
like any other in the joint histogram, so that the outlines of both masks take part.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter1d, uniform_filter

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import compute_antialias_sigma
from regflow.methods.initialize import parzen

TAIL_PERCENT = 0.5
"""Intensities beyond this percentile at either end share the outermost bins."""
SHELL = 0.02
"""Thickness of the shell around the fixed mask, as a part of the mask's longest side."""
CUT = 0.1
"""A mask that covers more than this part of its largest cross-section on a face of the grid was cut
by the field of view: beyond that face nothing is known."""
LEAST_SIGMA = 0.25
"""Standard deviation, in samples, of the blur of an axis that gets little or no coarser."""
MIN_OVERLAP = 0.4
"""Smallest part of the samples that must have a partner, of those that could have one: all, or as
many as the moving image's field of view holds."""

ROLES = ("fixed", "moving")
POINTS_PER_JOB = 16384
POSES_PER_JOB = 64
SCORED = 2
"""Every so many points are enough to tell promising poses from others."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class InformationLevel:
    """Both images at one spacing, ready for the kernels.

    Attributes:
        points: fixed world points relative to ``center``, ``(N, 3)`` float32.
        rows: fixed bin of each point.
        moving: ``(Z, Y, X, 2)`` float32, value in bins and share inside the mask.
        closed: the moving image is known to hold nothing beyond its grid.
        to_index: ``(4, 4)`` from moving world points to indices.
        center: center of the fixed mask, the same for all levels of a pair, ``(3,)``.
        radius: root mean square distance of the points from the center.
        shape: fixed and moving bins.
        spacing: of the fixed samples.
        possible: how many of the points can have a partner.
    """

    points: NDArray[np.float32]
    rows: NDArray[np.uint8]
    moving: NDArray[np.float32]
    closed: bool
    to_index: Matrix
    center: NDArray[np.float64]
    radius: float
    shape: tuple[int, int]
    spacing: float
    possible: float

    def compute_matrices(self, poses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(K, 3, 4)`` maps from centered points to moving indices of poses ``(K, 4, 4)``."""
        return np.ascontiguousarray((self.to_index @ poses)[:, :3])


def score_poses(
    level: InformationLevel, poses: NDArray[np.float64], workers: Executor
) -> NDArray[np.float64]:
    """Return the mutual information of many poses ``(K, 4, 4)`` in nats, ``(K,)``, from some points."""
    points, rows = level.points[::SCORED], level.rows[::SCORED]

    def score(block: NDArray[np.float64]) -> list[float]:
        joints = parzen.compute_histograms(
            points, rows, level.moving, level.closed, level.compute_matrices(block), level.shape
        )
        return [_information(joint, level.possible * len(points) / len(level.points))[0] for joint in joints]

    blocks = [poses[i : i + POSES_PER_JOB] for i in range(0, len(poses), POSES_PER_JOB)]
    return np.array([value for block in workers.map(score, blocks) for value in block])


class InformationMetric:
    """Mutual information at one level and its gradient, with the working memory this takes.

    The samples are divided into parts of a fixed size whose sums are added in order, so the result
    does not depend on the number of workers.
    """

    def __init__(self, level: InformationLevel, workers: Executor | None = None) -> None:
        self.level = level
        self._probes = np.empty((len(level.points), 8), np.float32)
        self._run = map if workers is None else workers.map
        count = len(level.points)
        self._parts = [slice(i, i + POINTS_PER_JOB) for i in range(0, count, POINTS_PER_JOB)]

    def __call__(self, pose: Matrix) -> tuple[float, NDArray[np.float64]]:
        """Return the mutual information in nats and its derivative by the pose's ``(3, 4)`` entries."""
        level = self.level
        matrix = level.compute_matrices(pose[None])[0]

        def fill(part: slice) -> NDArray[np.float64]:
            points, rows, probes = level.points[part], level.rows[part], self._probes[part]
            joint: NDArray[np.float64] = parzen.compute_histogram(
                points, rows, level.moving, level.closed, matrix, level.shape, probes
            )
            return joint

        joint = np.sum(list(self._run(fill, self._parts)), axis=0)
        value, logs = _information(joint, level.possible)

        def push(part: slice) -> NDArray[np.float64]:
            force: NDArray[np.float64] = parzen.compute_forces(
                level.points[part], level.rows[part], self._probes[part], logs
            )
            return force

        by_index = np.sum(list(self._run(push, self._parts)), axis=0)
        return value, level.to_index[:3, :3].T @ by_index


def prepare_levels(
    fixed: Image, moving: Image, across: Sequence[int], bins: int, workers: Executor
) -> list[InformationLevel]:
    """Prepare an image pair, coarse to fine; all levels share the center of the finest.

    Args:
        fixed: its first channel and mask are used; 2-D or 3-D.
        moving: likewise.
        across: samples along the longest side of the fixed mask, in rising order; never more than
            the images have.
        bins: intensity bins of either image.
        workers: threads; the result does not depend on their number.

    Raises:
        RegistrationError: a mask is empty, or an image is constant inside it.
    """
    parts = [_lifted(image) for image in (fixed, moving)]
    cut = is_cut(parts[1].inside)
    boxes = [_box(part.inside, role) for part, role in zip(parts, ROLES, strict=True)]
    spans = np.array([end - start for start, end in boxes[0]])
    side = float((spans * parts[0].grid.spacing[::-1]).max())
    pyramid: list[InformationLevel] = []
    sampling: _Sampling | None = None
    for count in sorted(across, reverse=True):
        parts = list(workers.map(_shrunk, parts, [side / count] * 2))
        sampling = sampling or _sampling(parts, bins, side * SHELL)
        pyramid.insert(0, _level(parts, sampling, closed=not cut))
    return pyramid


@dataclass(frozen=True)
class _PyramidImage:
    """One image on its way down the pyramid: intensities and share inside the mask."""

    values: NDArray[np.float32]
    inside: NDArray[np.float32]
    grid: Grid
    masked: bool


def _lifted(image: Image) -> _PyramidImage:
    """Return a volume of the first channel; a 2-D image becomes a volume of one slice."""
    values = np.asarray(image.channel, dtype=np.float32)
    mask = image.mask
    inside = np.ones(values.shape, np.float32) if mask is None else mask.astype(np.float32)
    grid = image.grid
    if grid.ndim == 2:
        affine = np.eye(4)
        affine[np.ix_([0, 1, 3], [0, 1, 3])] = grid.affine
        affine[2, 2] = float(grid.spacing.mean())
        grid = Grid((1, *grid.shape), affine)
        values, inside = values[None], inside[None]
    return _PyramidImage(values, inside, grid, mask is not None)


def _box(inside: NDArray[np.float32], role: str) -> list[tuple[int, int]]:
    spans = []
    for axis in range(3):
        used = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        if used.size == 0:
            raise RegistrationError(f"mutual-information: the {role} image's mask is empty")
        spans.append((int(used[0]), int(used[-1]) + 1))
    return spans


def is_cut(inside: NDArray[Any]) -> bool:
    """Tell whether a mask goes on beyond its grid, as :data:`CUT` says."""
    for axis in range(inside.ndim):
        areas = inside.sum(axis=tuple(a for a in range(inside.ndim) if a != axis), dtype=np.float64)
        if inside.shape[axis] > 1 and max(areas[0], areas[-1]) > CUT * areas.max():
            return True
    return False


def _shrunk(part: _PyramidImage, spacing: float) -> _PyramidImage:
    """Blur and sample at a coarser spacing, with nothing from outside the mask mixed in.

    Not by :func:`regflow.core.resample.resample_aligned`, which blurs at the finer samples and interpolates
    between them: these weights lie about each coarser sample's own place, and every axis is blurred, by
    :data:`LEAST_SIGMA` at least.
    """
    target = np.maximum(part.grid.spacing, spacing)
    if part.grid.shape[0] == 1:
        target[2] = part.grid.spacing[2]
    grid = part.grid.with_spacing(target.tolist())
    inside = np.ones(grid.shape, np.float32)
    if part.masked:
        # Rounding can make a weighted mean of ones a hair more than one.
        inside = np.minimum(_decimated(part.inside, part.grid, grid), 1)
    values = part.values * part.inside if part.masked else part.values
    values = _decimated(values, part.grid, grid)
    if part.masked:
        values = np.divide(values, inside, out=np.zeros_like(values), where=inside > 1e-3)
    return _PyramidImage(values, inside, grid, part.masked)


def _decimated(data: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    for axis in range(3):
        before, after = source.size[2 - axis], target.size[2 - axis]
        if before == after and abs(source.spacing[2 - axis] / target.spacing[2 - axis] - 1) < 1e-6:
            continue
        ratio = float(target.spacing[2 - axis] / source.spacing[2 - axis])
        first, weights = _taps(before, after, ratio)
        shape = data.shape
        rows = np.ascontiguousarray(data).reshape(math.prod(shape[:axis]), before, -1)
        data = parzen.decimate_volume(rows, first, weights).reshape(*shape[:axis], after, *shape[axis + 1 :])
    return data


def _taps(before: int, after: int, ratio: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return, for each sample to make, the first sample to read and the weights from there on."""
    sigma = max(compute_antialias_sigma(ratio), LEAST_SIGMA)
    reach = math.ceil(3 * sigma)
    positions = (np.arange(after) - (after - 1) / 2) * ratio + (before - 1) / 2
    first = np.floor(positions).astype(np.int64) - reach
    offsets = first[:, None] + np.arange(2 * reach + 2) - positions[:, None]
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _range(part: _PyramidImage, role: str) -> tuple[float, float]:
    chosen = part.values[part.inside >= 0.5]
    if chosen.size == 0:
        raise RegistrationError(f"mutual-information: the {role} image's mask is too thin to sample")
    low, high = np.percentile(chosen, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    if not high > low:
        low, high = chosen.min(), chosen.max()
    # A spread of rounding errors is what blurring leaves of a constant image.
    if not high - low > 1e-5 * max(abs(low), abs(high)):
        raise RegistrationError(f"mutual-information: the {role} image is constant inside its mask")
    return float(low), float(high)


@dataclass(frozen=True)
class _Sampling:
    """What all levels share: intensity ranges, bins, the shell's thickness, the center."""

    ranges: tuple[tuple[float, float], ...]
    bins: int
    shell: float
    center: NDArray[np.float64]


def _sampling(parts: Sequence[_PyramidImage], bins: int, shell: float) -> _Sampling:
    ranges = tuple(_range(part, role) for part, role in zip(parts, ROLES, strict=True))
    center = np.argwhere(parts[0].inside >= 0.5).mean(axis=0)[::-1]
    return _Sampling(ranges, bins, shell, parts[0].grid.to_world(center))


def _level(parts: Sequence[_PyramidImage], sampling: _Sampling, *, closed: bool) -> InformationLevel:
    fixed, moving = parts
    bins = sampling.bins
    binned = [
        _extended(np.clip((part.values - low) * ((bins - 1) / (high - low)), 0, bins - 1), part.inside)
        for part, (low, high) in zip(parts, sampling.ranges, strict=True)
    ]
    index = _jittered(np.argwhere(_grown(fixed.inside >= 0.5, fixed.grid, sampling.shell)), fixed.grid)
    values, inside = (_at(volume, index) for volume in (binned[0], fixed.inside))
    rows = np.where(inside >= 0.5, np.rint(values), bins).astype(np.uint8)
    # Column by column: a product with a long array wakes threads that cost more than they do.
    columns = [index[:, 2 - axis, None] * fixed.grid.affine[:3, axis] for axis in range(3)]
    points = sum(columns, fixed.grid.origin - sampling.center)
    stacked = np.stack([binned[1], moving.inside], axis=-1)
    to_index = np.array(np.linalg.inv(moving.grid.affine), dtype=np.float64)
    if closed:
        pad = [(1, 1) if length > 1 else (0, 0) for length in moving.grid.shape]
        stacked = np.pad(stacked, [*pad, (0, 0)])
        to_index[:3, 3] += [width for width, _ in pad[::-1]]
    return InformationLevel(
        points.astype(np.float32),
        rows,
        np.ascontiguousarray(stacked, dtype=np.float32),
        closed,
        to_index,
        sampling.center,
        float(np.sqrt((points**2).sum(axis=1).mean())),
        (bins + 1, bins + 2 * parzen.MARGIN + 1),
        float(fixed.grid.spacing.max()),
        float(len(points) if closed else min(len(points), _fitting(moving.grid, fixed.grid))),
    )


def _fitting(view: Grid, samples: Grid) -> float:
    """Return how many samples of one grid the field of view of another holds."""
    return float(np.prod(view.size * view.spacing) / np.prod(samples.spacing))


def _jittered(index: NDArray[np.intp], grid: Grid) -> NDArray[np.float64]:
    """Move samples off the grid, each at random within its own voxel; always the same way.

    Samples on the grid are sharper than those that interpolation makes between samples, and of two
    images the sharper one is found too large (by 0.7 percent at 4 mm), or drawn to where the grids
    fall together. Between samples both images are equally blurred.
    """
    thick = np.array(grid.shape) > 1
    return np.asarray(index + np.random.default_rng(0).uniform(-0.5, 0.5, index.shape) * thick)


def _at(volume: NDArray[np.float32], index: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(map_coordinates(volume, index.T, np.float32, order=1, mode="nearest"))


def _extended(values: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """Carry intensities one sample beyond the mask, so that interpolation at its border sees no fall.

    Without it the border looks darker than it is.
    """
    weights = uniform_filter(inside, 3, mode="constant")
    carried = np.divide(
        uniform_filter(values * inside, 3, mode="constant"),
        weights,
        out=np.zeros_like(values),
        where=weights > 1e-3,
    )
    return np.where(inside >= 0.5, values, carried)


def _grown(mask: NDArray[np.bool_], grid: Grid, shell: float) -> NDArray[np.bool_]:
    """Dilate by the shell, at least one sample, along each axis."""
    for axis, length in enumerate(mask.shape):
        if length > 1:
            reach = max(1, round(shell / grid.spacing[2 - axis]))
            mask = maximum_filter1d(mask, 2 * reach + 1, axis=axis)
    return mask


def _information(joint: NDArray[np.float64], possible: float) -> tuple[float, NDArray[np.float64]]:
    """Return the mutual information in nats and its derivative by each sample added to a bin."""
    total = joint.sum()
    if total < MIN_OVERLAP * possible:
        return 0.0, np.zeros_like(joint)
    p = joint / total
    product = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    used = p > 1e-12
    logs = np.log(np.divide(p, product, out=np.ones_like(p), where=used))
    return float((p * logs).sum()), logs / total
