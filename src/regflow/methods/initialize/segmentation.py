"""A linear map between two label maps: by the centers of the structures, and then by all their borders."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.devices import limit_numba_threads
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image, resample_array
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.landmarks import solve_map
from regflow.methods.initialize.least_squares import (
    AlignmentProblem,
    align_inverse_compositional,
    make_spline_image,
)
from regflow.methods.initialize.lucas_kanade import list_lattice, normalize_world
from regflow.methods.initialize.motion_models import Array
from regflow.methods.matching.label_channels import (
    encode_labels,
    list_shared_labels,
    measure_labeled_extent,
)
from regflow.methods.result import MethodResult

log = logging.getLogger(__name__)

REACHES = (0.12, 0.04)
"""Where ramps at borders of structures end, as parts of the labeled object's longest side: far, then near."""
POINTS = 60_000
"""Samples of the fixed labels and around them that are compared, about."""
ITERATIONS, STILL = 40, 0.02
"""Most steps, and samples by which the last one moves a corner at most."""
MOST_AT_BORDER = 0.02
"""Of a structure's samples, on the border of the field of view, beyond which its center is not known."""


def segmentation(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Lay the structures of two label maps on each other; intensities are not looked at, nor is ``initial``.

    Their centers, weighted by size, say where to begin. Then the distances from their borders are made equal
    by least squares, at first far from them and then near. The best overlap of these tells which is taken.
    Sources: Umeyama, IEEE Trans. Pattern Analysis and Machine Intelligence 13(4):376-380, 1991; Baker and
    Matthews, Int. J. Computer Vision 56(3):221-255, 2004.

    Args:
        fixed: with its label map.
        moving: likewise.
        initial: not used.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run; results do not depend on its threads.

    Raises:
        RegistrationError: an image has no label map, or they have no structure in common.
    """
    values = list_shared_labels(fixed, moving)
    one, other = (_coarsen_labels(image, options["across"]) for image in (fixed, moving))
    tries = [align_centers(one, other, values, options["model"])]
    try:
        with limit_numba_threads(context.threads):
            for reach in REACHES:
                tries.append(_align_borders(one, other, values, tries[-1], reach, options["model"]))
    except RegistrationError as error:
        log.info("segmentation: the borders were left aside: %s", error)
    overlaps = [measure_overlap(one, other, values, each) for each in tries]
    log.info("mean Dice of %d structures: %s", len(values), ", ".join(f"{each:.3f}" for each in overlaps))
    return MethodResult(tries[int(np.argmax(overlaps))], labels_used=True)


def _coarsen_labels(image: Image, across: int) -> Image:
    """Return a label map, and nothing else, with at most so many samples along its longest side."""
    longest = float((np.array(image.grid.size) * image.grid.spacing).max())
    blank = np.zeros((1, *image.grid.shape), np.float32)
    return coarsen_image(Image(blank, image.grid, labels=image.labels), longest / across)


def align_centers(fixed: Image, moving: Image, values: NDArray[np.int64], model: str) -> Affine:
    """Return the map between the centers of structures, weighted by the sizes of these.

    Where too few structures determine the model, or its centers lie on one line or plane, simpler ones do.

    Args:
        fixed: with its label map.
        moving: likewise.
        values: the structures.
        model: ``rigid``, ``similarity`` or ``affine``.
    """
    (one, size, cut), (other, extent, also_cut) = (
        _measure_centers(image.labels, image.grid, values) for image in (fixed, moving)
    )
    seen = (size > 0) & (extent > 0)
    whole = seen & ~cut & ~also_cut
    kept = whole if whole.any() else seen
    weights = np.sqrt(np.minimum(size, extent))
    for each in dict.fromkeys((model, "rigid", "translation")):
        try:
            return Affine(solve_map(each, one[kept], other[kept], weights[kept]))
        except RegistrationError as error:
            log.info("segmentation: centers determine no %s: %s", each, error)
    raise RegistrationError("segmentation: no structure is left at the working resolution")


def _measure_centers(
    labels: Any, grid: Grid, values: NDArray[np.int64]
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return world centers ``(K, d)``, numbers of samples ``(K,)``, and which structures the border cuts."""
    place = np.searchsorted(values, labels)
    place = np.where(values[np.minimum(place, len(values) - 1)] == labels, place, len(values)).ravel()
    counts = np.bincount(place, minlength=len(values) + 1)[:-1].astype(np.float64)
    axes = np.indices(grid.shape).reshape(grid.ndim, -1)[::-1]
    sums = [np.bincount(place, axis, minlength=len(values) + 1)[:-1] for axis in axes]
    border = np.zeros(grid.shape, bool)
    for axis in range(grid.ndim):
        np.moveaxis(border, axis, 0)[[0, -1]] = True
    at_border = np.bincount(place[border.ravel()], minlength=len(values) + 1)[:-1]
    centers = grid.to_world(np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None])
    return centers, counts, at_border > MOST_AT_BORDER * counts


def _align_borders(
    fixed: Image, moving: Image, values: NDArray[np.int64], start: Affine, reach: float, model: str
) -> Affine:
    """Make the distances from the structures' borders equal.

    Args:
        fixed: with its label map.
        moving: likewise.
        values: the structures.
        start: from fixed to moving world points.
        reach: where the ramps at borders end, as a part of the labeled object's longest side.
        model: what is sought.

    Raises:
        RegistrationError: the structures do not meet, or do not determine the motion.
    """
    reach_mm = reach * measure_labeled_extent(fixed)
    still, other = (
        encode_labels(np.asarray(image.labels), image.grid, values, reach_mm) for image in (fixed, moving)
    )
    everywhere = np.ones(fixed.grid.shape, bool), np.ones(moving.grid.shape, bool)
    channels = [
        (
            make_spline_image(one, everywhere[0], fixed.grid),
            make_spline_image(two, everywhere[1], moving.grid),
        )
        for one, two in zip(still, other, strict=True)
    ]
    near = (still != 0).any(axis=0).reshape((1, *fixed.grid.shape)[-3:])
    unit = normalize_world(fixed.grid)
    indices = list_lattice(near, POINTS, fixed.grid.ndim)
    problem = AlignmentProblem(channels, indices, start.matrix @ unit, unit, "huber", still=STILL)
    found = align_inverse_compositional(problem, np.eye(fixed.grid.ndim + 1), model, ITERATIONS)
    return Affine(start.matrix @ unit @ found @ np.linalg.inv(unit))


def measure_overlap(fixed: Image, moving: Image, values: NDArray[np.int64], transform: Transform) -> float:
    """Return the mean Dice of structures under a transform, nearest samples taken."""
    labels = resample_array(np.asarray(moving.labels), moving.grid, fixed.grid, transform, "nearest")
    dice = []
    for value in values:
        one, other = fixed.labels == value, labels == value
        total = int(one.sum()) + int(other.sum())
        dice.append(2 * int((one & other).sum()) / total if total else 0.0)
    return float(np.mean(dice))
