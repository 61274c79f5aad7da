"""Alignment of two images by the method of Lucas and Kanade, from coarse to fine.

The sum of squared differences is made least (:mod:`least_squares`), along with a gain and a bias of the
intensities, and with weights that take from what does not fit.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from regflow.core.devices import limit_numba_threads
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.least_squares import (
    ALIGN_BY,
    STILL,
    AlignmentProblem,
    Mask,
    SplineImage,
    make_spline_image,
)
from regflow.methods.initialize.motion_models import Array
from regflow.methods.initialize.planar import (
    blur_image,
    coarsen_to,
    find_matrix,
    make_transform,
    masked_image,
)
from regflow.methods.initialize.structure import erode_mask

log = logging.getLogger(__name__)

LEAST_ACROSS = {2: 64, 3: 24}
"""Samples along the longest side, by dimensions, below which no coarser level is made: a few thousand are
easily led astray by what does not fit."""
FEW, NEARLY_STILL = 20_000, 0.01
"""Samples that are compared, about, until a step moves no corner by so many samples: all of them are asked
last, at the finest level, where a part would leave some hundredths of a sample of what interpolation errs."""
ERODED = 2
"""Pixels around invalid ones of a picture that are left out, and two standard deviations of its blur more:
values there depend on them."""


def lucas_kanade(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Make the squared differences of two images least, coarse to fine, from ``initial``.

    It finds what is near, as far as some samples of the coarsest level, between images of one contrast up
    to a gain, of either sign, and a bias.
    Sources: Lucas and Kanade, IJCAI 1981; Baker and Matthews, Int. J. Computer Vision 56(3), 2004.

    Args:
        fixed: of two or three dimensions; its first channel and mask are used.
        moving: likewise.
        initial: linear; where to start.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run; results do not depend on its threads.

    Raises:
        RegistrationError: an image is empty or constant, they do not overlap, do not determine the motion,
            or the steps lead away.
    """
    ndim = fixed.grid.ndim
    start, unit = find_linear_start(initial, ndim), normalize_world(fixed.grid)
    found, align = np.eye(ndim + 1), ALIGN_BY[options["scheme"]]
    try:
        if ndim == 2:
            fixed, moving = masked_image(fixed, "fixed"), masked_image(moving, "moving")
        with limit_numba_threads(context.threads):
            # From far away a shift is found first: what else may move would follow errors.
            models = ["translation", options["model"]]
            for spacings in _list_spacings(fixed.grid, moving.grid, start, options):
                problem = _pose_problem(fixed, moving, spacings, (start @ unit, unit), options)
                for model in dict.fromkeys(models):
                    found = align(problem, found, model, options["iterations"])
                models = [options["model"]]
            problem = _refine_problem(problem, options["samples"])
            found = align(problem, found, options["model"], options["iterations"])
    except RegistrationError as error:
        raise RegistrationError(f"lucas-kanade: {error}") from error
    return make_linear_transform(start @ unit @ found @ np.linalg.inv(unit), fixed.grid)


def find_linear_start(initial: Transform, ndim: int) -> Array:
    """Return the homogeneous matrix ``(d + 1, d + 1)`` of a transform.

    Raises:
        RegistrationError: it is not linear.
    """
    if ndim == 2:
        return find_matrix(initial)
    if not isinstance(initial, Affine):
        raise RegistrationError("the transform to start from is not affine")
    return np.array(initial.matrix)


def normalize_world(grid: Grid) -> Array:
    """Return the map to world points from those about a grid's center, in units of half its longest side."""
    matrix = np.eye(grid.ndim + 1)
    matrix[:-1, :-1] *= float((np.array(grid.size) * grid.spacing).max()) / 2
    matrix[:-1, -1] = grid.center
    return matrix


def make_linear_transform(matrix: Array, grid: Grid) -> Transform:
    """Return the transform of a homogeneous matrix; of a plane perhaps a homography about a grid's center."""
    return make_transform(matrix, grid.center) if grid.ndim == 2 else Affine(matrix / matrix[-1, -1])


def _list_spacings(
    fixed: Grid, moving: Grid, start: Array, options: Mapping[str, Any]
) -> Iterator[tuple[float, float]]:
    """Yield the spacings of both images at each level, the coarsest first, each twice the next one's."""
    longest = float((np.array(fixed.size) * fixed.spacing).max())
    stretch = _measure_stretch(start, fixed)
    finest = max(
        float(fixed.spacing.min()), float(moving.spacing.min()) / stretch, longest / options["across"]
    )
    count = 1
    while count < options["levels"] and longest / finest / 2**count >= LEAST_ACROSS[fixed.ndim]:
        count += 1
    for level in reversed(range(count)):
        yield finest * 2**level, finest * 2**level * stretch


def _measure_stretch(start: Array, grid: Grid) -> float:
    """Return the factor of lengths by a map at the center of a grid."""
    depth = float(start[-1, :-1] @ grid.center + start[-1, -1])
    return float((abs(np.linalg.det(start)) / abs(depth) ** (grid.ndim + 1)) ** (1 / grid.ndim))


def _pose_problem(
    fixed: Image,
    moving: Image,
    spacings: tuple[float, float],
    maps: tuple[Array, Array],
    options: Mapping[str, Any],
) -> AlignmentProblem:
    sides = zip((fixed, moving), spacings, ("fixed", "moving"), strict=True)
    still, other = (_prepare_image(image, spacing, options["sigma"], role) for image, spacing, role in sides)
    indices = list_lattice(still.valid, FEW, fixed.grid.ndim)
    return AlignmentProblem(
        [(still, other)], indices, *maps, options["weights"], toned=True, still=NEARLY_STILL
    )


def _refine_problem(problem: AlignmentProblem, most: int) -> AlignmentProblem:
    """Return a problem of more samples, to be solved exactly."""
    fixed, _ = problem.channels[0]
    return replace(problem, indices=list_lattice(fixed.valid, most, fixed.grid.ndim), still=STILL)


def _prepare_image(image: Image, spacing: float, sigma: float, role: str) -> SplineImage:
    """Return an image at a spacing, blurred, as a spline.

    Raises:
        RegistrationError: it is constant, or nothing of it is valid.
    """
    level = (_prepare_picture if image.grid.ndim == 2 else _prepare_volume)(image, spacing, sigma)
    assert level.mask is not None
    if not level.mask.any() or not float(np.ptp(level.channel[level.mask])) > 0:
        raise RegistrationError(f"the {role} image is empty or constant where it is valid")
    return make_spline_image(level.channel, level.mask, level.grid)


def _prepare_picture(image: Image, spacing: float, sigma: float) -> Image:
    level = coarsen_to(image, spacing)
    assert level.mask is not None
    mask = level.mask if level.mask.all() else erode_mask(level.mask, ERODED + math.ceil(2 * sigma))
    return (blur_image(level, sigma) if sigma > 0 else level).with_mask(mask)


def _prepare_volume(image: Image, spacing: float, sigma: float) -> Image:
    from scipy.ndimage import gaussian_filter

    from regflow.core.resample import coarsen_image

    level = coarsen_image(image.with_data(np.asarray(image.channel, np.float32)), spacing)
    values = level.channel if sigma == 0 else gaussian_filter(level.channel, sigma, mode="nearest")
    mask = np.ones(level.grid.shape, bool) if level.mask is None else level.mask
    return level.with_data(values).with_mask(mask)


def list_lattice(valid: Mask, most: int, ndim: int) -> Array:
    """Return the valid samples on a lattice of which no more than about ``most`` are.

    Args:
        valid: ``(Z, Y, X)``, one plane in two dimensions.
        most: of them.
        ndim: 2 or 3.

    Returns:
        ``(N, ndim)`` indices ``(x, y, z)``.
    """
    count, step = int(np.count_nonzero(valid)), 1
    while count > most * step**ndim:
        step += 1
    lattice = tuple(slice((length - 1) % step // 2, None, step) for length in valid.shape)
    found = np.argwhere(valid[lattice]) * step + [part.start for part in lattice]
    return np.ascontiguousarray(found[:, ::-1][:, :ndim], np.float64)
