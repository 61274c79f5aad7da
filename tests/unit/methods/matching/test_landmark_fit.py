"""Landmarks that contradict the others are found, and errors are those of landmarks left out."""

from functools import partial

import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.landmarks import Landmarks
from regflow.methods.initialize.landmarks import NEED, _fit_map
from regflow.methods.matching.landmark_fit import find_consistent_landmarks, fit_landmarks, require_landmarks
from regflow.methods.matching.landmark_spline import fit_landmark_spline

RNG = np.random.default_rng(5)


def pairs_of(fixed: np.ndarray, moving: np.ndarray) -> LandmarkPairs:
    names = tuple(f"p{number}" for number in range(len(fixed)))
    return LandmarkPairs(Landmarks(names, fixed), Landmarks(names, moving))


def test_errors_are_those_of_a_fit_without_the_landmark():
    fixed = RNG.normal(0, 40, (9, 3))
    moving = fixed + RNG.normal(0, 2, (9, 3))
    fit, used = partial(_fit_map, "rigid"), np.ones(9, bool)
    found = fit_landmarks(pairs_of(fixed, moving), fit, used)
    for place in range(9):
        others = np.arange(9) != place
        alone = fit(fixed[others], moving[others], np.ones(8))
        expected = np.linalg.norm(alone(fixed[place][None]) - moving[place])
        assert found.left_out[place] == pytest.approx(expected)
    residuals = np.linalg.norm(found.map_points(fixed) - moving, axis=1)
    assert found.error > np.sqrt((residuals**2).mean())


@pytest.mark.parametrize(("model", "ndim"), [("rigid", 3), ("affine", 3), ("affine", 2), ("homography", 2)])
def test_a_quarter_of_wrong_landmarks_is_found(model, ndim):
    fixed = RNG.normal(0, 40, (16, ndim))
    moving = fixed + 30 + RNG.normal(0, 0.5, fixed.shape)
    wrong = np.isin(np.arange(16), [2, 7, 8, 13])
    moving[wrong] += RNG.normal(0, 1, (4, ndim)) + 25 * np.sign(RNG.normal(0, 1, (4, ndim)))
    need = NEED[model](ndim)
    fit = partial(_fit_map, model)
    used = find_consistent_landmarks(pairs_of(fixed, moving), fit, need, tolerance=1.0, seed=0)
    assert np.array_equal(used, ~wrong)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_spline_goes_through_its_points_and_keeps_a_plane(ndim):
    points = RNG.normal(0, 50, (12, ndim))
    steps = RNG.normal(0, 5, (12, ndim))
    through = fit_landmark_spline(points, steps, np.ones(12), 0.0)
    assert np.allclose(through.displace(points), steps, atol=1e-8)
    plane = points @ RNG.normal(0, 0.1, (ndim, ndim)) + 3
    for smoothing in (0.0, 0.5):
        found = fit_landmark_spline(points, plane, np.ones(12), smoothing)
        away = RNG.normal(0, 80, (5, ndim))
        expected = np.linalg.lstsq(np.c_[points, np.ones(12)], plane, rcond=None)[0]
        assert np.allclose(found.displace(away), np.c_[away, np.ones(5)] @ expected)
        assert found.error == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_what_a_spline_says_of_points_left_out_is_true(smoothing):
    points, steps = RNG.normal(0, 50, (10, 3)), RNG.normal(0, 5, (10, 3))
    found = fit_landmark_spline(points, steps, np.ones(10), smoothing)
    # The unit of length is that of all points.
    others = np.arange(10) != 4
    spread = [np.sqrt(((part - part.mean(axis=0)) ** 2).sum(1).mean()) for part in (points, points[others])]
    alone = fit_landmark_spline(points[others], steps[others], np.ones(9), smoothing * spread[0] / spread[1])
    assert np.allclose(steps[4] - alone.displace(points[4][None])[0], found.left_out[4])


def test_noise_is_smoothed_as_points_left_out_ask():
    points = RNG.uniform(-50, 50, (40, 2))
    smooth = 4 * np.sin(points / 40)
    noisy = smooth + RNG.normal(0, 2, points.shape)
    chosen, through = (fit_landmark_spline(points, noisy, np.ones(40), each) for each in (None, 0.0))
    away = RNG.uniform(-40, 40, (200, 2))
    errors = [np.abs(spline.displace(away) - 4 * np.sin(away / 40)).mean() for spline in (chosen, through)]
    assert chosen.smoothing > 0
    assert errors[0] < 0.6 * errors[1]


def test_too_few_landmarks_and_those_on_one_line_are_refused():
    with pytest.raises(RegistrationError, match="no pairs of landmarks"):
        require_landmarks(None, 3, "rigid")
    with pytest.raises(RegistrationError, match="3 pairs are too few; a rigid needs 3, and one more"):
        require_landmarks(pairs_of(np.eye(3), np.eye(3)), 3, "rigid")
    line = np.outer(np.arange(6.0), [1, 2, 3])
    with pytest.raises(RegistrationError, match="one line"):
        find_consistent_landmarks(pairs_of(line, line), partial(_fit_map, "rigid"), 3, 1.0, 0)
    with pytest.raises(RegistrationError, match="one line"):
        fit_landmark_spline(line, line, np.ones(6))
