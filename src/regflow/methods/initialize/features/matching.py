"""Maps from keypoints: nearest neighbors both ways, the ratio test, and a robust fit."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.features import detectors
from regflow.methods.initialize.features.keypoints import Keypoints
from regflow.methods.initialize.features.xfeat import xfeat as detect_xfeat
from regflow.methods.initialize.linear_refinement import refine_linear
from regflow.methods.initialize.planar import (
    Matrix,
    find_corners,
    find_matrix,
    lacks_georeference,
    make_pixel_pair,
    make_transform,
    masked_image,
)
from regflow.methods.initialize.projective import fit_needed_homography
from regflow.methods.initialize.robust import RobustFit, estimate_map

log = logging.getLogger(__name__)

FEWEST = 6
"""Inliers below which a fit is not even looked at."""


Describe = Callable[[Image, int], Keypoints]
"""Of an image and the most keypoints, its keypoints."""
Attempt = tuple[Describe, Describe]
"""What describes the fixed and the moving image, so that keypoints of both can be compared."""


def match_features(
    detect: detectors.Detect,
    fixed: Image,
    moving: Image,
    initial: Transform,
    options: Mapping[str, Any],
    context: RunContext,
) -> Transform:
    """Match keypoints of one kind, see :func:`match_attempts`.

    Where keypoints of equal contrast do not agree, those of the inverted moving image are tried.

    Args:
        detect: finds and describes keypoints.
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography; where the georeference says the moving image is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, or too few matches agree.
    """
    as_it_is = partial(_detect, detect, False)
    attempts: list[Attempt] = [(as_it_is, as_it_is), (as_it_is, partial(_detect, detect, True))]
    return match_attempts(attempts, fixed, moving, initial, options, context)


def match_attempts(
    attempts: Sequence[Attempt],
    fixed: Image,
    moving: Image,
    initial: Transform,
    options: Mapping[str, Any],
    context: RunContext,
) -> Transform:
    """Match keypoints, fit the map robustly, and let windows refine it.

    Args:
        attempts: ways to describe both images, of which a further one is tried where those before find
            fewer than ``sure_inliers`` matches that fit.
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography; where the georeference says the moving image is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, or too few matches agree.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    pair = make_pixel_pair(first, second, find_matrix(initial), options["across"])
    free = options["model"] == "auto" and lacks_georeference(first)
    frame = find_corners(pair.fixed.grid) if free else None
    best: RobustFit | None = None
    known: dict[Describe, Keypoints] = {}
    for describe, describe_moving in attempts:
        if describe not in known:
            known[describe] = describe(pair.fixed, options["count"])
        others = describe_moving(pair.moving, options["count"])
        fit = _fit(known[describe], others, options, context.seed, frame)
        if fit is not None and (best is None or fit.inliers.sum() > best.inliers.sum()):
            best = fit
        if best is not None and best.inliers.sum() >= options["sure_inliers"]:
            break
    if best is None or best.inliers.sum() < FEWEST:
        count = max(len(keypoints.points) for keypoints in known.values())
        raise RegistrationError(f"too few of the {count} keypoints have a partner that fits")
    matrix = _refined(first, second, pair.to_world(best.matrix), options, context.seed)
    return make_transform(matrix, fixed.grid.center)


def _detect(detect: detectors.Detect, inverted: bool, image: Image, count: int) -> Keypoints:
    return detect(image, count, inverted)


def is_mirrored(fixed: Image, moving: Image, seed: int) -> bool:
    """Tell whether the mirror image of the moving picture shows surely what the fixed one does.

    Args:
        fixed: 2-D, without a georeference.
        moving: likewise; a section that was turned over on its slide, say.
        seed: of the random choices.
    """
    from regflow.methods.initialize import METHODS

    options = {**METHODS["sift"].complete({}), "model": "similarity"}
    mask = None if moving.mask is None else moving.mask[:, ::-1]
    flipped = Image(moving.data[..., ::-1], moving.grid, mask)
    try:
        first, second = masked_image(fixed, "fixed"), masked_image(flipped, "moving")
        pair = make_pixel_pair(first, second, np.eye(3), options["across"])
        sides = (pair.fixed, pair.moving)
        known, others = (detectors.sift(image, options["count"], False) for image in sides)
    except RegistrationError:
        # Without keypoints nothing can be said.
        return False
    fit = _fit(known, others, options, seed, None)
    return fit is not None and bool(fit.inliers.sum() >= options["sure_inliers"])


def pair_keypoints(fixed: Keypoints, moving: Keypoints, ratio: float) -> NDArray[np.intp]:
    """Return matches ``(M, 2)`` of keypoints that are each other's nearest.

    Args:
        fixed: keypoints.
        moving: keypoints described alike.
        ratio: a partner must be nearer than this part of the second nearest's distance (Lowe).
    """
    if min(len(fixed.points), len(moving.points)) < 2:
        return np.zeros((0, 2), np.intp)
    measure = _measure_bits if fixed.is_binary else _measure_vectors
    distances = measure(fixed.descriptors, moving.descriptors)
    rows = np.arange(len(distances))
    nearest = distances.argmin(axis=1)
    mutual = distances.argmin(axis=0)[nearest] == rows
    best = distances[rows, nearest]
    distances[rows, nearest] = np.inf
    kept = mutual & (best < ratio * distances.min(axis=1))
    return np.stack([rows[kept], nearest[kept]], axis=-1)


def _measure_vectors(fixed: NDArray[Any], moving: NDArray[Any]) -> NDArray[np.float32]:
    """Return the distances of all vectors, ``(N, M)``."""
    one, other = (np.asarray(part, np.float32) for part in (fixed, moving))
    squared = (one * one).sum(axis=1)[:, None] + (other * other).sum(axis=1) - 2 * (one @ other.T)
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)


def _measure_bits(fixed: NDArray[Any], moving: NDArray[Any]) -> NDArray[np.float32]:
    """Return how many bits differ, ``(N, M)``."""
    one, other = (np.unpackbits(part, axis=1).astype(np.float32) for part in (fixed, moving))
    return np.asarray(one.sum(axis=1)[:, None] + other.sum(axis=1) - 2 * (one @ other.T))


def _fit(
    fixed: Keypoints,
    moving: Keypoints,
    options: Mapping[str, Any],
    seed: int,
    frame: NDArray[np.float64] | None,
) -> RobustFit | None:
    """Fit the map of the matches; a homography as well where a frame is given, which it must not fold."""
    found = pair_keypoints(fixed, moving, options["ratio"])
    source, target = fixed.points[found[:, 0]], moving.points[found[:, 1]]
    # Three parameters fewer need far fewer matches; windows find the rest of an affine afterwards.
    model = "similarity" if options["model"] == "auto" else options["model"]
    chosen = {"estimator": options["estimator"], "threshold": options["threshold_px"]}
    try:
        fit = estimate_map(source, target, model, **chosen, seed=seed)
    except RegistrationError as error:
        log.info("%d matches: %s", len(found), error)
        return None
    if frame is not None:
        bent = fit_needed_homography(source, target, options["threshold_px"], seed, frame)
        fit = fit if bent is None else bent
    log.info("%d of %d matches fit to %.2f pixels", int(fit.inliers.sum()), len(found), fit.rms)
    return fit


def _refined(fixed: Image, moving: Image, matrix: Matrix, options: Mapping[str, Any], seed: int) -> Matrix:
    try:
        return refine_linear(fixed, moving, matrix, options["model"], seed=seed).matrix
    except RegistrationError as error:
        log.info("not refined: %s", error)
        return matrix


sift = partial(match_features, detectors.sift)
surf = partial(match_features, detectors.surf)
orb = partial(match_features, detectors.orb)
akaze = partial(match_features, detectors.akaze)
brisk = partial(match_features, detectors.brisk)
fast_brief = partial(match_features, detectors.fast_brief)
harris = partial(match_features, detectors.harris)
xfeat = partial(match_features, detect_xfeat)
