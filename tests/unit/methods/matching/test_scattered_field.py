"""A smooth field through scattered points: exact where it is affine, and deaf to outliers."""

import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.methods.matching.scattered_field import fit_scattered_field

SHAPES = {2: (60, 70), 3: (30, 36, 40)}


def points(ndim, count=200):
    return np.random.default_rng(1).uniform(0, 1, (count, ndim)) * (np.array(SHAPES[ndim]) - 1)


def sampled(field, places):
    index = np.rint(places).astype(int)
    return np.stack([part[tuple(index.T)] for part in field], axis=1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_affine_motion_is_reproduced_and_outliers_are_left_out(ndim):
    places = np.rint(points(ndim))
    matrix = np.eye(ndim) * 0.1 + 0.03
    truth = places @ matrix.T + 2
    wrong = np.arange(0, len(places), 4)
    shifts = truth.copy()
    shifts[wrong] += np.random.default_rng(2).choice([-15.0, 15.0], (len(wrong), ndim))
    fit = fit_scattered_field(places, shifts, np.ones(len(places)), SHAPES[ndim], 0.3)
    assert fit.field.dtype == np.float32
    # Between the border and the nodes next to it the field is level.
    inside = ((places > 4) & (places < np.array(SHAPES[ndim]) - 5)).all(axis=1)
    assert np.abs(sampled(fit.field, places) - truth)[inside].max() < 1e-3
    left_out = set(np.flatnonzero(fit.weights == 0))
    assert left_out >= set(wrong)
    assert len(left_out) < 1.3 * len(wrong)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_curved_motion_is_followed(ndim):
    places = np.rint(points(ndim, 400))
    truth = 4 * np.sin(places / 12)
    field = fit_scattered_field(places, truth, np.ones(len(places)), SHAPES[ndim], 0.1).field
    assert np.abs(sampled(field, places) - truth).mean() < 0.25


def test_trust_tells_how_far_a_point_may_be_passed():
    places = np.rint(points(2))
    shifts = np.random.default_rng(4).normal(0, 1, places.shape)
    trust = np.ones(len(places))
    trust[:100] = 50.0
    field = fit_scattered_field(places, shifts, trust, SHAPES[2], 1.0).field
    left = np.linalg.norm(sampled(field, places) - shifts, axis=1)
    assert left[:100].mean() < 0.8 * left[100:].mean()


def test_too_few_points_and_points_that_contradict_each_other_are_one_sentence():
    with pytest.raises(RegistrationError, match="only 5 points could be matched"):
        fit_scattered_field(points(2, 5), np.zeros((5, 2)), np.ones(5), SHAPES[2], 0.3)
