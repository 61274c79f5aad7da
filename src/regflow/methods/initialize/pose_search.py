"""Rotation, scale and shift by trying them: edges compared at all shifts for each turned copy."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.linear_refinement import (
    COARSE_ACROSS,
    LinearRefinement,
    WindowMatcher,
    refine_linear,
)
from regflow.methods.initialize.planar import (
    Matrix,
    coarsen_to,
    find_common_spacing,
    find_extent,
    resample_to,
)
from regflow.methods.initialize.structure import EdgeStructure, compute_structure

log = logging.getLogger(__name__)

ACROSS = 112
"""Pixels along the fixed image's longest side at which poses are tried."""
TURN_STEP = 4.0
SCALE_STEP = 0.06
"""Neighboring poses differ by so many degrees, and by this part in scale: at a hundred pixels edges
still meet halfway between."""
MIN_OVERLAP = 0.25
"""Part of the smaller image that must overlap: small overlaps fit by chance."""
KEPT = 8
REACH = 14
"""Most promising poses that the windows are asked about, and how far they look."""


@dataclass(frozen=True)
class Pose:
    """A similarity map and how well the edges fit by it."""

    matrix: Matrix
    score: float


def list_similarities(turn_degrees: float, scale: float) -> list[NDArray[np.float64]]:
    """Return ``(2, 2)`` rotations times scales that cover a range evenly, the smallest changes first.

    Args:
        turn_degrees: largest rotation either way, 180 for all.
        scale: largest factor either way, at least 1.
    """
    turns = (
        np.arange(-math.floor(turn_degrees / TURN_STEP), math.floor(turn_degrees / TURN_STEP) + 1) * TURN_STEP
    )
    if turn_degrees >= 180:
        turns = turns[1:]
    steps = math.floor(math.log(scale) / SCALE_STEP + 1e-9)
    factors = np.exp(np.arange(-steps, steps + 1) * SCALE_STEP)
    pairs = sorted((abs(t) + abs(math.log(f)), t, f) for t in turns for f in factors)
    return [f * make_rotation(math.radians(t)) for _, t, f in pairs]


def search_similarities(
    fixed: Image, moving: Image, matrix: Matrix, linears: list[NDArray[np.float64]], detector: str
) -> list[Pose]:
    """Return the most promising maps among many linear parts and all shifts.

    Args:
        fixed: a picture.
        moving: a picture.
        matrix: from fixed to moving world points, to which the linear parts are added.
        linears: ``(2, 2)`` maps of fixed points around the fixed center.
        detector: of edges: ``sobel`` or ``canny``.
    """
    plane = make_coarse_image(fixed, moving, matrix, ACROSS)
    compare = _Comparison(compute_structure(plane, detector))
    return search_poses(
        plane, moving, matrix, linears, lambda image: compare(compute_structure(image, detector))
    )


def search_poses(
    plane: Image,
    moving: Image,
    matrix: Matrix,
    linears: list[NDArray[np.float64]],
    compare: Callable[[Image], tuple[float, NDArray[np.float64]]],
) -> list[Pose]:
    """Return the most promising of the maps that add linear parts to a map.

    Args:
        plane: the fixed picture, coarse.
        moving: a picture.
        matrix: from fixed to moving world points.
        linears: ``(2, 2)`` maps of fixed points around the fixed center.
        compare: returns, for the moving picture on axes of the plane, the highest similarity and its shift
            ``(x, y)`` in pixels from the plane.
    """
    poses: list[Pose] = []
    for linear in linears:
        turned = np.asarray(matrix @ _about(plane.grid.center, linear))
        place, low = _canvas(plane.grid, turned, moving)
        if place is None or not (place.mask is not None and place.mask.any()):
            continue
        score, shift = compare(place)
        step = np.eye(3)
        step[:2, 2] = plane.grid.affine[:2, :2] @ (shift + low)
        poses.append(Pose(turned @ step, score))
    return list(_distinct(sorted(poses, key=lambda pose: -pose.score), plane.grid))


def make_coarse_image(fixed: Image, moving: Image, matrix: Matrix, across: int) -> Image:
    """Return a fixed picture of so many pixels at most, and none smaller than the moving one's."""
    longest = float((np.array(fixed.grid.size) * fixed.grid.spacing).max())
    return coarsen_to(fixed, max(find_common_spacing(fixed.grid, moving.grid, matrix), longest / across))


def refine_best(
    fixed: Image, moving: Image, poses: list[Pose], model: str, seed: int, name: str
) -> LinearRefinement:
    """Refine the pose about which the windows are surest.

    Raises:
        RegistrationError: the windows agree on none.
    """
    if not poses:
        raise RegistrationError(f"{name}: the images overlap at no pose")
    grid = fixed.grid
    longest = float((np.array(grid.size) * grid.spacing).max())
    ranked = []
    for number, pose in enumerate(poses):
        spacing = max(find_common_spacing(grid, moving.grid, pose.matrix), longest / COARSE_ACROSS)
        matches = WindowMatcher(coarsen_to(fixed, spacing), moving).match_edges(pose.matrix, REACH)
        ranked.append((-matches.neg_log10_p, number))
    ranked.sort()
    log.info(
        "%s: evidence of the best poses: %s", name, ", ".join(f"{-value:.1f}" for value, _ in ranked[:3])
    )
    for value, number in ranked[:2]:
        try:
            if value < 0:
                return refine_linear(fixed, moving, poses[number].matrix, model, reach=REACH, seed=seed)
        except RegistrationError as error:
            log.info("%s: %s", name, error)
    raise RegistrationError(f"{name}: the windows of the images agree at no pose")


class _Comparison:
    """Similarity of one picture's edges with another's at all shifts, as fast as can be."""

    def __init__(self, fixed: EdgeStructure) -> None:
        self._fixed = fixed
        self._spectra: dict[tuple[int, int], list[NDArray[np.complex64]]] = {}

    def __call__(self, moving: EdgeStructure) -> tuple[float, NDArray[np.float64]]:
        """Return the highest similarity and its shift ``(x, y)`` from fixed to moving pixels."""
        from scipy import fft

        fixed = self._fixed
        shape = choose_transform_shape(fixed.valid.shape, moving.valid.shape)
        if shape not in self._spectra:
            self._spectra[shape] = [np.conj(part) for part in _spectra(fixed, shape)]
        own = self._spectra[shape]
        other = _spectra(moving, shape)
        top = fft.irfft2(own[0] * other[0] + own[1] * other[1], shape)
        overlap = fft.irfft2(own[2] * other[2], shape)
        least = MIN_OVERLAP * min(int(fixed.valid.sum()), int(moving.valid.sum()))
        score = np.where(overlap > least, top / np.sqrt(np.maximum(overlap, 1)), 0)
        return find_highest_shift(score, fixed.valid.shape)


def choose_transform_shape(fixed: tuple[int, ...], moving: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns that hold all shifts of two planes, fast to transform."""
    from scipy import fft

    rows, columns = (fft.next_fast_len(a + b, real=True) for a, b in zip(fixed, moving, strict=True))
    return rows, columns


def find_highest_shift(
    scores: NDArray[np.floating[Any]], fixed: tuple[int, ...]
) -> tuple[float, NDArray[np.float64]]:
    """Return the highest score over a circle of shifts, and its shift ``(x, y)`` from fixed to moving pixels.

    Args:
        scores: of each shift, as an inverse transform has them.
        fixed: rows and columns of the fixed plane.
    """
    row, column = np.unravel_index(int(np.argmax(scores)), scores.shape)
    shift = [
        at - length if at >= length - size else at
        for at, length, size in zip((column, row), scores.shape[::-1], fixed[::-1], strict=True)
    ]
    return float(scores[row, column]), np.array(shift, dtype=np.float64)


def _spectra(part: EdgeStructure, shape: tuple[int, int]) -> list[NDArray[np.complex64]]:
    from scipy import fft

    planes = (part.edges.real, part.edges.imag, part.valid.astype(np.float32))
    return [np.asarray(fft.rfft2(np.ascontiguousarray(plane), shape)) for plane in planes]


def _canvas(fixed: Grid, matrix: Matrix, moving: Image) -> tuple[Image | None, NDArray[np.float64]]:
    """Return the moving picture in full, on axes of the fixed grid, and where its pixels begin there."""
    low, high = find_extent(fixed, matrix, moving.grid)
    low = np.floor(low)
    size = np.ceil(high - low).astype(int) + 1
    if size.max() > 8 * ACROSS:
        return None, low
    affine = fixed.affine.copy()
    affine[:2, 2] = fixed.to_world(low)
    return resample_to(moving, Grid((int(size[1]), int(size[0])), affine), matrix), low


def _about(center: NDArray[np.float64], linear: NDArray[np.float64]) -> Matrix:
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = center - linear @ center
    return matrix


def _distinct(poses: list[Pose], grid: Grid) -> Iterator[Pose]:
    """Yield the best poses, of neighbors in rotation and scale at one place the best only."""
    kept: list[Matrix] = []
    for pose in poses:
        near = any(
            np.abs(pose.matrix[:2, :2] - other[:2, :2]).max() < 1.5 * max(math.radians(TURN_STEP), SCALE_STEP)
            for other in kept
        )
        if not near:
            kept.append(pose.matrix)
            yield pose
        if len(kept) == KEPT:
            return


def make_rotation(angle: float) -> NDArray[np.float64]:
    """Return the ``(2, 2)`` rotation by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])
