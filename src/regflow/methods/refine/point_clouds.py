"""Interest points of both images of a working pair, and the field that their matches mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core import fields
from regflow.core.errors import RegistrationError
from regflow.methods.matching.interest_points import InterestPoints, find_interest_points, refine_places
from regflow.methods.matching.scattered_field import LEAST_POINTS, fit_scattered_field
from regflow.methods.matching.self_similarity import compute_self_similarity
from regflow.methods.refine.greedy_pyramid import grow_mask
from regflow.methods.refine.loaded_pair import MARGIN, WorkingPair

Array = NDArray[Any]

MORE = 2
"""Moving points per fixed one: a fixed point's partner must be among them."""
REACH = 2
"""Samples within which matches are refined."""


@dataclass(frozen=True, eq=False)
class PointClouds:
    """Interest points of both images of a working pair.

    Attributes:
        fixed: those of the fixed image.
        moving: those of the moving image.
        features: self-similarities of the moving image, ``(C, *shape)``.
        shape: of the working grid.
    """

    fixed: InterestPoints
    moving: InterestPoints
    features: Array
    shape: tuple[int, ...]


def find_point_clouds(pair: WorkingPair, count: int) -> PointClouds:
    """Find interest points in both images, described by their self-similarities.

    Raises:
        RegistrationError: an image has fewer than twelve.
    """
    shape = pair.fixed.grid.shape
    valid = np.ones(shape, bool) if pair.moving.mask is None else pair.moving.mask
    masks = pair.mask, grow_mask(valid, MARGIN, np.ones(len(shape)))
    images = pair.fixed.channel, pair.moving.channel
    features = [compute_self_similarity(np.asarray(image, np.float32)) for image in images]
    found = [
        find_interest_points(image, each, mask, number)
        for image, each, mask, number in zip(images, features, masks, (count, MORE * count), strict=True)
    ]
    for name, points in zip(("fixed", "moving"), found, strict=True):
        if len(points.places) < LEAST_POINTS:
            raise RegistrationError(f"the {name} image has only {len(points.places)} keypoints")
    return PointClouds(found[0], found[1], features[1], shape)


def fit_matches(
    clouds: PointClouds, numbers: Array, shifts: Array, trust: Array, options: Mapping[str, Any]
) -> tuple[fields.VoxelField, int]:
    """Refine matches by their surroundings and fit a smooth field.

    Args:
        clouds: the points.
        numbers: ``(N,)`` of fixed points.
        shifts: ``(N, d)`` their displacements.
        trust: ``(N,)`` relative weights above 0.
        options: ``smoothing``.

    Returns:
        The voxel field, and how many points it goes through.

    Raises:
        RegistrationError: too few points agree on a field.
    """
    places, wanted = clouds.fixed.places[numbers], clouds.fixed.descriptors[numbers]
    there, _ = refine_places(clouds.features, wanted, np.rint(places + shifts), REACH)
    fit = fit_scattered_field(places, there - places, trust, clouds.shape, options["smoothing"])
    return fit.field, int((fit.weights > 0).sum())
