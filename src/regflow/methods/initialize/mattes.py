"""Similarity, then affine alignment of rasters by SimpleITK's Mattes mutual information."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.resample import to_sitk_image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.linear_refinement import refine_linear
from regflow.methods.initialize.planar import (
    Matrix,
    PixelPair,
    find_matrix,
    make_pixel_pair,
    make_transform,
    masked_image,
)

if TYPE_CHECKING:
    import SimpleITK as sitk

log = logging.getLogger(__name__)

COARSE_ACROSS = 96
"""Pixels along the longest side at which every start is climbed from."""
SAMPLES = 20_000
ITERATIONS = 100


def mutual_information(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Climb mutual information from several rotations at a coarse spacing; follow the best to finer ones.

    It runs on one thread: sums, and with them the last bits, depend on the number of threads.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography to start from.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, the images never overlap, or their
            windows do not confirm what was found.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    start, best = find_matrix(initial), None
    still = options["model"] == "translation"
    with limit_itk_threads(1):
        pair = make_pixel_pair(first, second, start, COARSE_ACROSS)
        for degrees in [0] if still else options["starts_degrees"]:
            coarse = "translation" if still else "similarity"
            found = maximize_information(pair, _turned(pair, degrees), coarse, options["bins"], context.seed)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        if best is None:
            raise RegistrationError("mutual-information: the images overlap from none of the starts")
        matrix = pair.to_world(best[1])
        bent = options["model"] == "homography"
        for across in (2 * COARSE_ACROSS, options["across"]):
            pair = make_pixel_pair(first, second, matrix, across)
            freedom = "affine" if bent else options["model"]
            finer = maximize_information(pair, pair.start, freedom, options["bins"], context.seed)
            if finer is None:
                raise RegistrationError("mutual-information: the images lost each other")
            log.info("mutual information %.4f at %d pixels across", -finer[0], across)
            matrix = pair.to_world(finer[1])
    if options["refine"]:
        freedom = "auto" if options["model"] == "affine" else options["model"]
        matrix = refine_linear(first, second, matrix, freedom, seed=context.seed).matrix
    return make_transform(matrix, fixed.grid.center)


def maximize_information(
    pair: PixelPair, start: Matrix, model: str, bins: int, seed: int
) -> tuple[float, Matrix] | None:
    """Climb Mattes mutual information from a map of pixels.

    Args:
        pair: both pictures at the spacing of the climb, within their masks.
        start: ``(3, 3)`` from fixed to moving pixels.
        model: ``translation``, ``rigid``, ``similarity`` or ``affine``.
        bins: of the joint histogram.
        seed: of its samples.

    Returns:
        The metric, smaller is better, and the map of pixels; None without overlap.
    """
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(bins)
    share = min(1.0, SAMPLES / float(np.prod(pair.fixed.grid.shape)))
    method.SetMetricSamplingStrategy(method.RANDOM if share < 1 else method.NONE)
    method.SetMetricSamplingPercentage(share, seed + 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, ITERATIONS, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    if model == "rigid":
        # A similarity's size, angle and shifts, the size held.
        method.SetOptimizerWeights([0.0, 1.0, 1.0, 1.0])
    for image, give in (
        (pair.fixed, method.SetMetricFixedMask),
        (pair.moving, method.SetMetricMovingMask),
    ):
        assert image.mask is not None
        give(to_sitk_image(image.mask, image.grid))
    method.SetInitialTransform(_parametrized(start, pair, model), inPlace=False)
    planes = [to_sitk_image(np.asarray(part.channel), part.grid) for part in (pair.fixed, pair.moving)]
    try:
        found = method.Execute(*planes)
    except RuntimeError as error:
        log.info("mutual-information: %s", str(error).strip().splitlines()[-1])
        return None
    return float(method.GetMetricValue()), _matrix(found)


def _parametrized(start: Matrix, pair: PixelPair, model: str) -> "sitk.Transform":
    import SimpleITK as sitk

    center = pair.fixed.grid.center
    linear = start[:2, :2] / start[2, 2]
    offset = (start @ np.append(center, 1.0))[:2] / start[2, 2] - center
    if model == "translation":
        return sitk.TranslationTransform(2, offset.tolist())
    if model == "affine":
        affine = sitk.AffineTransform(2)
        affine.SetCenter(center.tolist())
        affine.SetMatrix(linear.ravel().tolist())
        affine.SetTranslation(offset.tolist())
        return affine
    similarity = sitk.Similarity2DTransform()
    similarity.SetCenter(center.tolist())
    similarity.SetScale(float(np.sqrt(abs(np.linalg.det(linear)))))
    similarity.SetAngle(float(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])))
    similarity.SetTranslation(offset.tolist())
    return similarity


def _matrix(found: "sitk.Transform") -> Matrix:
    """Read a linear transform by where it sends three points."""
    origin, right, down = (
        np.array(found.TransformPoint(point)) for point in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    matrix = np.eye(3)
    matrix[:2] = np.stack([right - origin, down - origin, origin], axis=1)
    return matrix


def _turned(pair: PixelPair, degrees: float) -> Matrix:
    """Return the start after a rotation about the fixed picture's middle."""
    angle, center = np.deg2rad(degrees), pair.fixed.grid.center
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:2, 2] = center - turn[:2, :2] @ center
    return np.asarray(pair.start @ turn)
