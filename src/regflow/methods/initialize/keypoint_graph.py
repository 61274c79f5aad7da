"""An affine map from keypoints matched as a graph: for repetitive images, where single matches mislead."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.planar import find_matrix, make_pixel_pair, make_transform, masked_image
from regflow.methods.matching.graph_matching import (
    SOLVERS,
    find_candidates,
    find_edges,
    measure_disagreement,
)
from regflow.methods.matching.interest_points import InterestPoints, find_interest_points
from regflow.methods.matching.scattered_field import LEAST_POINTS, apply_affine, fit_affine
from regflow.methods.matching.self_similarity import compute_self_similarity

log = logging.getLogger(__name__)

Array = NDArray[Any]

MORE = 2
"""Moving keypoints per fixed one."""
INLIER = 3.0
"""Pixels within which a match supports the map."""


def keypoint_graph(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Find an affine map; partners may lie anywhere.

    First channels are compared. Descriptors are not turned: beyond some 20 degrees and a scale of 1.2 they
    find few partners.

    Raises:
        RegistrationError: the images have too few keypoints, or too few matches support one map.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    pair = make_pixel_pair(first, second, find_matrix(initial), options["across"])
    found = _match(pair.fixed, pair.moving, Affine(pair.start), options)
    return make_transform(pair.to_world(found.matrix), fixed.grid.center)


def _match(fixed: Image, moving: Image, initial: Affine, options: Mapping[str, Any]) -> Affine:
    """Return the map of pixels that most matches support."""
    one = _find_points(fixed, options["count"], "fixed")
    other = _find_points(moving, MORE * options["count"], "moving")
    places = fixed.grid.to_world(one.places[:, ::-1])
    others = moving.grid.to_world(other.places[:, ::-1])
    begun = initial.apply(places)
    candidates = find_candidates(
        begun, one.descriptors, others, other.descriptors, math.inf, options["candidates"]
    )
    edges = find_edges(begun, options["neighbors"])
    disagreement = measure_disagreement(begun, candidates, edges, options["strain"])
    chosen = SOLVERS[options["solver"]](candidates, edges, disagreement)
    numbers = np.flatnonzero(chosen >= 0)
    if len(numbers) < LEAST_POINTS:
        raise RegistrationError(f"only {len(numbers)} keypoints could be matched; {LEAST_POINTS} are needed")
    centered = places[numbers] - fixed.grid.center
    targets = others[candidates.numbers[numbers, chosen[numbers]]]
    affine = fit_affine(centered, targets, np.ones(len(numbers)))
    left = np.linalg.norm(targets - apply_affine(affine, centered), axis=1)
    agreeing = int((left < INLIER).sum())
    log.info("keypoint-graph: %d matches, %d within %g pixels of the map", len(numbers), agreeing, INLIER)
    if agreeing < LEAST_POINTS:
        raise RegistrationError(f"only {agreeing} of {len(numbers)} matched keypoints support one affine map")
    linear = affine[1:].T
    return Affine.from_parts(linear, affine[0] - fixed.grid.center, fixed.grid.center)


def _find_points(image: Image, count: int, name: str) -> InterestPoints:
    values = np.asarray(image.channel, np.float32)
    mask = np.ones(image.grid.shape, bool) if image.mask is None else image.mask
    found = find_interest_points(values, compute_self_similarity(values), mask, count)
    if len(found.places) < LEAST_POINTS:
        raise RegistrationError(f"the {name} image has only {len(found.places)} keypoints")
    return found
