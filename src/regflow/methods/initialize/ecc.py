"""Alignment by the enhanced correlation coefficient, from coarse to fine."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.opencv_threads import limit_opencv_to_one_thread
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.planar import (
    Matrix,
    PixelPair,
    Plane,
    find_matrix,
    make_pixel_pair,
    make_transform,
    masked_image,
    smooth_valid_gaussian,
)

LEAST_ACROSS = 64
"""Pixels along the longest side below which no coarser step is made."""
EPSILON = 1e-6
NORMALIZE_SIGMA = 16.0
"""Means and contrasts over so many pixels are taken away: clouds and slopes are no misalignment."""


def ecc(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Climb the enhanced correlation coefficient, coarse to fine.

    It climbs from ``initial`` and finds what is near: shifts of some pixels of the coarsest step.
    Source: Evangelidis and Psarakis, IEEE Trans. Pattern Analysis and Machine Intelligence
    30(10):1858-1865, 2008.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography to start from.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, or the climb diverged.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    matrix = find_matrix(initial)
    across = min(options["across"], max(first.grid.shape))
    steps = [across]
    while steps[-1] // 2 >= LEAST_ACROSS:
        steps.append(steps[-1] // 2)
    with limit_opencv_to_one_thread():
        for step in reversed(steps):
            pair = make_pixel_pair(first, second, matrix, step)
            matrix = pair.to_world(_climbed(pair, options["model"], options["iterations"]))
    return make_transform(matrix, fixed.grid.center)


def _climbed(pair: PixelPair, model: str, iterations: int) -> Matrix:
    import cv2

    motions = {
        "translation": cv2.MOTION_TRANSLATION,
        "rigid": cv2.MOTION_EUCLIDEAN,
        "affine": cv2.MOTION_AFFINE,
        "homography": cv2.MOTION_HOMOGRAPHY,
    }
    rows = 3 if model == "homography" else 2
    planes = [_normalized(image) for image in (pair.fixed, pair.moving)]
    masks = [np.asarray(image.mask, np.uint8) for image in (pair.fixed, pair.moving)]
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, EPSILON)
    start = np.array(pair.start[:rows], dtype=np.float32)
    try:
        _, found = cv2.findTransformECCWithMask(*planes, *masks, start, motions[model], stop, 3)
    except cv2.error as error:
        raise RegistrationError("ecc: the correlation did not converge; start nearer or coarser") from error
    matrix = np.eye(3)
    matrix[:rows] = found
    if not np.isfinite(matrix).all():
        raise RegistrationError("ecc: the correlation did not converge; start nearer or coarser")
    return matrix


def _normalized(image: Image) -> Plane:
    """Return local differences from the mean in units of the local spread."""
    assert image.mask is not None
    sigma = min(NORMALIZE_SIGMA, min(image.grid.shape) / 4)
    centered = image.channel - smooth_valid_gaussian(image.channel, image.mask, sigma)
    power = smooth_valid_gaussian(centered * centered, image.mask, sigma)
    floor = 1e-6 * float(power.mean()) + 1e-20
    return np.asarray(np.where(image.mask, centered / np.sqrt(power + floor), 0), np.float32)
