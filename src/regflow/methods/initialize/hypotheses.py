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
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.plain_areas import find_plain_surroundings
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.agreement import AgreementJudge
from regflow.methods.initialize.features.keypoints import Keypoints, scale_to_eight_bit
from regflow.methods.initialize.features.matching import pair_keypoints
from regflow.methods.initialize.features.xfeat import xfeat
from regflow.methods.initialize.information_climb import InformationClimber
from regflow.methods.initialize.information_search import find_information_poses
from regflow.methods.initialize.linear_refinement import refine_linear
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
    ("edges", "edges"),
    ("plain", "plain"),
    ("equalized", "equalized"),
    ("equalized", "inverted"),
)
"""What of the fixed and of the moving picture is compared, one after another."""
FITTED = ("affine", "similarity")
SAMPLES = 2048
CERTAIN = 9.0
"""Standard deviations from which no further hypothesis is sought."""
POSES = 4
"""Most promising rotations and shifts by mutual information that are judged."""
CLIMBED_ACROSS = 256
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
    start = find_matrix(initial)
    search = HypothesisSearch(first, second, AgreementJudge(first, second), options, context.seed)
    search.add_map("start", start)
    for proposed in _propose(first, second, start, options, context.seed):
        for origin, matrix in proposed:
            search.add_map(origin, matrix)
        if search.is_certain:
            break
    else:
        ranked = _distinct(search.found, first.grid, options["kept"])
        log.info("best hypotheses: %s", ", ".join(f"{each.origin} {each.sigmas:.1f}" for each in ranked))
        for each in ranked:
            search.optimize_map(each)
    search.refine_map(search.best)
    best = search.best
    log.info("%s is taken, at %.1f standard deviations", best.origin, best.sigmas)
    matrix = _shifted(start, best.matrix, fixed.grid) if _is_still(options) else best.matrix
    return make_transform(matrix, fixed.grid.center)


@dataclass(frozen=True, eq=False)
class HypothesisSearch:
    """Maps between two pictures, each judged once.

    Attributes:
        fixed: a picture.
        moving: a picture.
        judge: of all maps.
        options: of the method.
        seed: of the random choices.
        found: the maps so far.
    """

    fixed: Image
    moving: Image
    judge: AgreementJudge
    options: Mapping[str, Any]
    seed: int
    found: list[Hypothesis] = field(default_factory=list)

    @property
    def best(self) -> Hypothesis:
        """The map that the judge prefers."""
        return max(self.found, key=lambda each: each.sigmas)

    @property
    def is_certain(self) -> bool:
        """Whether no further hypothesis need be sought."""
        return self.best.sigmas > CERTAIN

    def add_map(self, origin: str, matrix: Matrix) -> Hypothesis:
        """Judge a map, and keep it."""
        self.found.append(Hypothesis(matrix, origin, self.judge(matrix).sigmas))
        return self.found[-1]

    def optimize_map(self, found: Hypothesis) -> None:
        """Consider where mutual information leads from a map."""
        pair, pixels = self._climber.pair, self._climber.pair.to_pixels(found.matrix)
        if _is_still(self.options) or not np.allclose(pixels[2, :2], 0):
            return
        # More freedom than a turn and a shift is left to windows: information alone slips along it.
        climbed = self._climber(pixels / pixels[2, 2], "rigid")
        if climbed is not None and _sane(pair, climbed):
            self.add_map(f"{found.origin}, information of a rigid map", pair.to_world(climbed))

    def refine_map(self, found: Hypothesis) -> None:
        """Consider what windows ask for."""
        try:
            finer = refine_linear(
                self.fixed, self.moving, found.matrix, self.options["model"], seed=self.seed
            )
        except RegistrationError as error:
            log.info("%s: not refined: %s", found.origin, error)
            return
        self.add_map(f"{found.origin}, windows", finer.matrix)

    @cached_property
    def _climber(self) -> InformationClimber:
        pair = make_pixel_pair(self.fixed, self.moving, self.found[0].matrix, CLIMBED_ACROSS)
        return InformationClimber(pair, self.options["bins"])


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


def _propose(
    fixed: Image, moving: Image, start: Matrix, options: Mapping[str, Any], seed: int
) -> Iterator[list[tuple[str, Matrix]]]:
    """Yield maps and their origins, what needs least time and finds most first."""
    pair = make_pixel_pair(fixed, moving, start, options["across"])
    everything: list[NDArray[np.float64]] = []
    for name, matches in _match_representations(pair, options["count"]):
        everything.append(matches)
        yield _fit_maps(name, matches, pair, options, seed)
    together = np.concatenate(everything)
    found = _fit_maps("all features", together, pair, options, seed)
    if options["model"] == "homography" or (options["model"] == "auto" and lacks_georeference(fixed)):
        bent = fit_needed_homography(together[:, :2], together[:, 2:], options["threshold_px"], seed)
        if bent is not None and _sane(pair, bent.matrix):
            found.append(("all features, homography", pair.to_world(bent.matrix)))
    yield found
    poses = (pose.matrix for pose in find_information_poses(fixed, moving, start))
    if _is_still(options):
        poses = (matrix for matrix in poses if np.allclose(matrix[:2, :2], start[:2, :2]))
    yield [("information at all shifts", matrix) for matrix in islice(poses, POSES)]


def _match_representations(pair: PixelPair, count: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield names of representations and matches ``(N, 4)`` of keypoints in them, fixed ``(x, y)`` first."""
    known: dict[tuple[str, str], Keypoints] = {}
    images = [_without_outline(image) for image in (pair.fixed, pair.moving)]
    for names in REPRESENTATIONS:
        for role, name, image in zip(("fixed", "moving"), names, images, strict=True):
            if (role, name) not in known:
                known[role, name] = xfeat(represent_image(image, name), count, False)
        one, other = known["fixed", names[0]], known["moving", names[1]]
        found = pair_keypoints(one, other, 1.0)
        matches = np.concatenate([one.points[found[:, 0]], other.points[found[:, 1]]], axis=1)
        yield " to ".join(names), matches


def _without_outline(image: Image) -> Image:
    """Return a picture whose outline in plain surroundings, where it has one, gives no keypoints."""
    assert image.mask is not None
    inner = image.mask & ~find_plain_surroundings(image)
    return image.with_mask(inner) if inner.any() else image


def _fit_maps(
    origin: str, matches: NDArray[np.float64], pair: PixelPair, options: Mapping[str, Any], seed: int
) -> list[tuple[str, Matrix]]:
    """Return the maps of world points that matches give, by what was fitted."""
    found = []
    for model in _fitted(options["model"]):
        if len(matches) < 2 * MODELS[model]:
            continue
        chosen = {"threshold": options["threshold_px"], "samples": SAMPLES, "seed": seed}
        try:
            fit = estimate_map(matches[:, :2], matches[:, 2:], model, **chosen)
        except RegistrationError as error:
            log.info("%s: %s", origin, error)
            continue
        if _sane(pair, fit.matrix):
            found.append((f"{origin}, {model}", pair.to_world(fit.matrix)))
    return found


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


def _sane(pair: PixelPair, pixels: Matrix) -> bool:
    """Tell whether a map of pixels neither mirrors nor blows anything up, beyond what the start does."""
    linear = linearize_at(pixels @ np.linalg.inv(pair.start), pair.moving.grid.center)
    scales = np.linalg.svd(linear, compute_uv=False)
    return bool(np.linalg.det(linear) > 0 and scales.min() > SANE[0] and scales.max() < SANE[1])
