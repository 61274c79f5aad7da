"""Starts across modalities: many hypotheses of several origins, one judge, and the best are climbed from.

No single representation finds keypoints that two sensors share: on some pairs it is the values themselves,
on others those after local equalization, inverted, or the strength of edges, and often none alone but all
matches together. Pictures without common corners (PET and MR) have none at all, but mutual information.
So all of them propose maps, and :mod:`regflow.methods.initialize.agreement` tells which one is right.

Sources: Zuiderveld, Graphics Gems IV, 474-485, 1994 (CLAHE); Potje et al., XFeat, CVPR 2024; Barath et al.,
MAGSAC++, CVPR 2020; Mattes et al., IEEE Trans. Medical Imaging 22(1):120-128, 2003.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.plain_areas import find_plain_surroundings
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.agreement import AgreementJudge, find_content
from regflow.methods.initialize.features.keypoints import Keypoints, scale_to_eight_bit
from regflow.methods.initialize.features.matching import pair_keypoints
from regflow.methods.initialize.features.xfeat import xfeat
from regflow.methods.initialize.information_search import find_information_poses
from regflow.methods.initialize.linear_refinement import refine_linear
from regflow.methods.initialize.mattes import maximize_information
from regflow.methods.initialize.planar import (
    Matrix,
    PixelPair,
    find_corners,
    find_matrix,
    lacks_georeference,
    linearize_at,
    make_pixel_pair,
    make_transform,
    map_points,
    masked_image,
    smooth_valid_gaussian,
)
from regflow.methods.initialize.projective import fit_needed_homography
from regflow.methods.initialize.robust import MODELS, estimate_map

log = logging.getLogger(__name__)

CLIP, TILES = 3.0, 8
"""Of the local equalization: the limit of its contrast, and the tiles along each side."""
STRENGTH_SIGMA = 8.0
"""Pixels over which the strength of edges is averaged, to divide by."""
REPRESENTATIONS = (
    ("equalized", "equalized"),
    ("plain", "plain"),
    ("equalized", "inverted"),
    ("edges", "edges"),
)
"""What of the fixed and of the moving picture is compared, one after another."""
FITTED = ("similarity", "affine")
SAMPLES = 2048
CERTAIN = 14.0
"""Standard deviations from which no further hypothesis is sought."""
POSES = 4
"""Most promising rotations and shifts by mutual information that are judged."""
INFORMATION_ACROSS = (192, 384)
"""Pixels along the longest side at which mutual information is climbed."""
SAME_SHARE = 0.01
"""Two maps are one hypothesis where no corner is farther apart than this part of the picture's diagonal."""
SANE = (0.25, 4.0)
"""Least and largest scale of a map that is judged."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A map from fixed to moving world points, who proposed it, and the judge's standard deviations."""

    matrix: Matrix
    origin: str
    sigmas: float


def hypotheses(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Return the map that the judge prefers among what features, mutual information and windows propose.

    The start is one of the hypotheses, so there is always an answer.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography; where the georeference says the moving image is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    judge = AgreementJudge(first, second)
    start = find_matrix(initial)
    found = [Hypothesis(start, "start", judge(start).sigmas)]
    for origin, matrix in _proposed(first, second, start, options, context.seed):
        found.append(Hypothesis(matrix, origin, judge(matrix).sigmas))
        if found[-1].sigmas > CERTAIN:
            break
    ranked = _distinct(found, first.grid, options["kept"])
    log.info("best hypotheses: %s", ", ".join(f"{each.origin} {each.sigmas:.1f}" for each in ranked))
    for each in ranked:
        for origin, matrix in _improved(first, second, each, options, context.seed):
            found.append(Hypothesis(matrix, origin, judge(matrix).sigmas))
    best = max(found, key=lambda each: each.sigmas)
    log.info("%s is taken, at %.1f standard deviations", best.origin, best.sigmas)
    matrix = _shifted(start, best.matrix, fixed.grid) if _is_still(options) else best.matrix
    return make_transform(matrix, fixed.grid.center)


def _is_still(options: Mapping[str, Any]) -> bool:
    """Tell whether nothing but a shift is sought."""
    return bool(options["model"] == "translation")


def _shifted(start: Matrix, found: Matrix, grid: Grid) -> Matrix:
    """Return the start, shifted as far as ``found`` is at the grid's center: free of rounding."""
    center = np.asarray(grid.center)[None]
    shift = map_points(found, center) - map_points(start, center)
    matrix = start.copy()
    matrix[:2, 2] += shift[0]
    return matrix


def _distinct(found: list[Hypothesis], grid: Grid, count: int) -> list[Hypothesis]:
    """Return the best hypotheses, of those that agree about the corners the best only."""
    ends = find_corners(grid)
    kept: list[Hypothesis] = []
    for each in sorted(found, key=lambda one: -one.sigmas):
        places = map_points(each.matrix, ends)
        near = SAME_SHARE * float(np.linalg.norm(np.ptp(places, axis=0)))
        if all(np.abs(map_points(other.matrix, ends) - places).max() > near for other in kept):
            kept.append(each)
        if len(kept) == count:
            break
    return kept


def _proposed(
    fixed: Image, moving: Image, start: Matrix, options: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, Matrix]]:
    """Yield maps and their origins: of keypoints in each representation, of all, of mutual information."""
    pair = make_pixel_pair(fixed, moving, start, options["across"])
    projective = options["model"] == "homography" or (
        options["model"] == "auto" and lacks_georeference(fixed)
    )
    for origin, matrix in _from_features(pair, options, projective, seed):
        if _sane(pair, matrix):
            yield origin, pair.to_world(matrix)
    poses = (pose.matrix for pose in find_information_poses(fixed, moving, start))
    if _is_still(options):
        poses = (matrix for matrix in poses if np.allclose(matrix[:2, :2], start[:2, :2]))
    for matrix in islice(poses, POSES):
        yield "information at all shifts", matrix


def _from_features(
    pair: PixelPair, options: Mapping[str, Any], projective: bool, seed: int
) -> Iterator[tuple[str, Matrix]]:
    known: dict[tuple[str, str], Keypoints] = {}
    everything: list[NDArray[np.float64]] = []
    images = [_without_outline(image) for image in (pair.fixed, pair.moving)]
    for names in REPRESENTATIONS:
        for role, name, image in zip(("fixed", "moving"), names, images, strict=True):
            if (role, name) not in known:
                known[role, name] = xfeat(represent_image(image, name), options["count"], False)
        one, other = known["fixed", names[0]], known["moving", names[1]]
        found = pair_keypoints(one, other, 1.0)
        matches = np.concatenate([one.points[found[:, 0]], other.points[found[:, 1]]], axis=1)
        everything.append(matches)
        yield from _fits(" to ".join(names), matches, options, projective, seed)
    yield from _fits("all features", np.concatenate(everything), options, projective, seed)


def _without_outline(image: Image) -> Image:
    """Return a picture whose outline in plain surroundings, where it has one, gives no keypoints."""
    assert image.mask is not None
    inner = image.mask & ~find_plain_surroundings(image)
    return image.with_mask(inner) if inner.any() else image


def _fits(
    origin: str, matches: NDArray[np.float64], options: Mapping[str, Any], projective: bool, seed: int
) -> Iterator[tuple[str, Matrix]]:
    source, target = matches[:, :2], matches[:, 2:]
    if projective:
        bent = fit_needed_homography(source, target, options["threshold_px"], seed)
        if bent is not None:
            yield f"{origin}, homography", bent.matrix
    for model in _fitted(options["model"]):
        if len(matches) < 2 * MODELS[model]:
            continue
        chosen = {"threshold": options["threshold_px"], "samples": SAMPLES, "seed": seed}
        try:
            fit = estimate_map(source, target, model, **chosen)
        except RegistrationError as error:
            log.info("%s: %s", origin, error)
            continue
        yield f"{origin}, {model}", fit.matrix


def _fitted(model: str) -> tuple[str, ...]:
    """Return which maps are fitted to matches where one kind is sought."""
    return (model,) if model in ("translation", "similarity") else FITTED


def represent_image(image: Image, name: str) -> Image:
    """Return a picture in a representation: ``plain``, ``equalized``, ``inverted`` or ``edges``."""
    import cv2

    assert image.mask is not None
    if name == "plain":
        return image
    if name == "edges":
        flat = smooth_valid_gaussian(image.channel, image.mask, 1.0)
        size = np.hypot(*(cv2.Sobel(flat, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))))
        around = smooth_valid_gaussian(size, image.mask, STRENGTH_SIGMA)
        values = size / (around + 0.1 * float(size.mean()) + 1e-12)
    else:
        plane = scale_to_eight_bit(image, inverted=name == "inverted")
        values = cv2.createCLAHE(CLIP, (TILES, TILES)).apply(plane)
    return image.with_data(np.asarray(values, np.float32)[None])


def _improved(
    fixed: Image, moving: Image, found: Hypothesis, options: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, Matrix]]:
    """Yield what windows, and mutual information within the pictures' content, make of a hypothesis."""
    for origin, matrix in ((found.origin, found.matrix), *_climbed(fixed, moving, found, options, seed)):
        if origin != found.origin:
            yield origin, matrix
        try:
            finer = refine_linear(fixed, moving, matrix, options["model"], seed=seed).matrix
        except RegistrationError as error:
            log.info("%s: not refined: %s", origin, error)
            continue
        yield f"{origin}, windows", finer


def _climbed(
    fixed: Image, moving: Image, found: Hypothesis, options: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, Matrix]]:
    # Outlines lead from afar, and content alone tells where they end. More freedom than a size is left to
    # windows: information alone slips along it.
    model = "translation" if _is_still(options) else "rigid"
    steps = (_whole, _shown)
    matrix = found.matrix
    with limit_itk_threads(1):
        for across, masked in zip(INFORMATION_ACROSS, steps, strict=True):
            pair = masked(make_pixel_pair(fixed, moving, matrix, across))
            climbed = maximize_information(pair, pair.start, model, options["bins"], seed)
            if climbed is None or not _sane(pair, climbed[1]):
                return
            matrix = pair.to_world(climbed[1])
            yield f"{found.origin}, information of a {model} map", matrix


def _whole(pair: PixelPair) -> PixelPair:
    return pair


def _shown(pair: PixelPair) -> PixelPair:
    """Return a pair whose pictures are valid where they show something."""
    parts = []
    for image in (pair.fixed, pair.moving):
        shown = find_content(image)
        parts.append(image.with_mask(shown) if shown.any() else image)
    return PixelPair(parts[0], parts[1], pair.before, pair.after, pair.start)


def _sane(pair: PixelPair, pixels: Matrix) -> bool:
    """Tell whether a map of pixels neither mirrors nor blows anything up, beyond what the start does."""
    linear = linearize_at(pixels @ np.linalg.inv(pair.start), pair.moving.grid.center)
    scales = np.linalg.svd(linear, compute_uv=False)
    return bool(np.linalg.det(linear) > 0 and scales.min() > SANE[0] and scales.max() < SANE[1])
