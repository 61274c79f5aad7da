"""Distinct points, their descriptors, and matches refined to a part of a sample."""

import numpy as np
import pytest
from large_motion import SHAPES, make_texture
from scipy.ndimage import shift

from regflow.methods.matching.interest_points import (
    describe_places,
    find_interest_points,
    measure_distinctness,
    refine_places,
)
from regflow.methods.matching.self_similarity import compute_self_similarity


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_corner_is_distinct_and_an_edge_is_not(ndim):
    corner, edge = np.zeros((2, *[24] * ndim), np.float32)
    corner[tuple([slice(12, None)] * ndim)] = 1
    edge[12:] = 1
    strongest = np.unravel_index(measure_distinctness(corner).argmax(), corner.shape)
    assert np.abs(np.array(strongest) - 12).max() <= 2
    assert measure_distinctness(edge).max() < 1e-3 * measure_distinctness(corner).max()


@pytest.mark.parametrize("ndim", [2, 3])
def test_points_lie_in_the_mask_and_at_a_distance(ndim):
    image = make_texture(SHAPES[ndim])
    mask = np.zeros(image.shape, bool)
    mask[8:] = True
    found = find_interest_points(image, compute_self_similarity(image), mask, 60)
    assert 30 < len(found.places) <= 60
    assert found.places[:, 0].min() >= 8
    distance = np.abs(found.places[:, None] - found.places[None]).max(axis=2)
    even = (mask.sum() / 60) ** (1 / ndim)
    assert distance[~np.eye(len(distance), dtype=bool)].min() >= int(0.5 * even)


@pytest.mark.parametrize("ndim", [2, 3])
def test_matches_are_refined_between_samples(ndim):
    image = make_texture(SHAPES[ndim])
    moved = shift(image, [1.4] + [0.0] * (ndim - 1), order=3, mode="nearest")
    features = compute_self_similarity(image)
    points = find_interest_points(image, features, np.ones(image.shape, bool), 60)
    places = points.places[np.all((points.places > 6) & (points.places < np.array(image.shape) - 6), axis=1)]
    wanted = describe_places(features, places)
    found, costs = refine_places(compute_self_similarity(moved), wanted, places, 2)
    assert np.median(np.abs(found[:, 0] - places[:, 0] - 1.4)) < 0.2
    assert np.median(np.abs(found[:, 1:] - places[:, 1:])) < 0.15
    assert (costs >= 0).all()
