"""Robust estimation: known maps among wrong matches."""

import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.methods.initialize.planar import map_points
from regflow.methods.initialize.robust import (
    ESTIMATORS,
    MODELS,
    _magsac_tables,
    _settled,
    estimate_map,
    solve_least_squares,
)

TRUTHS = {
    "translation": [[1, 0, 20], [0, 1, -30], [0, 0, 1]],
    "similarity": [[0.9, -0.3, 20], [0.3, 0.9, -30], [0, 0, 1]],
    "affine": [[0.95, -0.3, 20], [0.25, 0.9, -30], [0, 0, 1]],
    "homography": [[0.95, -0.3, 20], [0.25, 0.9, -30], [1e-4, -5e-5, 1]],
}
CORNERS = np.array([[0, 0], [1000, 0], [0, 1000], [1000, 1000.0]])


def matches(model, wrong, noise=0.5, count=600, seed=1):
    rng = np.random.default_rng(seed)
    source = rng.uniform(0, 1000, (count, 2))
    target = map_points(np.array(TRUTHS[model], float), source) + rng.normal(0, noise, (count, 2))
    bad = np.arange(count) < wrong * count
    target[bad] = rng.uniform(-200, 1200, (bad.sum(), 2))
    return source, target, bad


def error(matrix, model):
    truth = np.array(TRUTHS[model], float)
    return np.linalg.norm(map_points(matrix, CORNERS) - map_points(truth, CORNERS), axis=1).max()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("estimator", "wrong"), [("magsac++", 0.7), ("ransac", 0.7), ("lmeds", 0.4)])
def test_finds_the_map_among_wrong_matches(model, estimator, wrong):
    source, target, bad = matches(model, wrong)
    found = estimate_map(source, target, model, estimator=estimator)
    assert error(found.matrix, model) < 0.5
    assert found.inliers[~bad].mean() > 0.97
    assert found.inliers[bad].mean() < 0.02
    assert found.rms == pytest.approx(0.5 * np.sqrt(2), rel=0.15)


@pytest.mark.parametrize("model", MODELS)
def test_exact_matches_give_the_exact_map(model):
    source, target, _ = matches(model, 0.0, noise=0.0)
    assert error(estimate_map(source, target, model).matrix, model) < 1e-6
    assert error(solve_least_squares(source, target, model), model) < 1e-6


def test_a_homography_keeps_its_perspective():
    source, target, _ = matches("homography", 0.3)
    affine = estimate_map(source, target, "affine", threshold=20.0).matrix
    assert error(affine, "homography") > 10


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_same_seed_gives_the_same_bits(estimator):
    source, target, _ = matches("affine", 0.3)
    first, second = (
        estimate_map(source, target, "affine", estimator=estimator, seed=4).matrix for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_world_coordinates_of_millions_do_not_matter():
    source, target, _ = matches("affine", 0.3, noise=0.0)
    far = np.array([5.8e6, 4.2e6])
    found = estimate_map(source + far, target + far, "affine")
    expected = target[-1] + far
    assert np.abs(map_points(found.matrix, (source + far)[-1:])[0] - expected).max() < 1e-5


def test_too_few_matches_are_refused():
    with pytest.raises(RegistrationError, match="3 matches are too few"):
        estimate_map(np.eye(3, 2), np.eye(3, 2), "affine")


def test_matches_on_one_line_determine_no_affine():
    line = np.stack([np.arange(20.0), 2 * np.arange(20.0)], axis=1)
    with pytest.raises(RegistrationError, match="line"):
        estimate_map(line, line, "affine")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("model", ["affine", "homography"])
def test_a_mirror_image_is_never_proposed(model, estimator):
    source = np.random.default_rng(3).uniform(0, 1000, (60, 2))
    mirrored = source * [-1, 1] + [1000, 0]
    with pytest.raises(RegistrationError, match="mirrored"):
        estimate_map(source, mirrored, model, estimator=estimator)
    # Among matches that keep orientation those of a mirror image count as wrong.
    right, partners, _ = matches(model, 0.0, count=40)
    fit = estimate_map(np.concatenate([source, right]), np.concatenate([mirrored, partners]), model)
    assert np.linalg.det(fit.matrix) > 0
    assert fit.inliers[60:].mean() > 0.9


def test_magsac_weighs_a_match_the_less_the_farther_it_is_and_not_at_all_beyond_the_limit():
    loss, weight = _magsac_tables()
    assert (np.diff(weight) < 0).all()
    assert (weight[0], weight[-1]) == (1.0, 0.0)
    assert (np.diff(loss) > 0).all()
    assert (loss[0], loss[-1]) == (0.0, 1.0)


def test_too_few_matches_change_no_map():
    rng = np.random.default_rng(0)
    source = rng.uniform(0, 100, (20, 2))
    target = source + rng.uniform(20, 40, source.shape)
    shift = np.array([0.1, -0.1])
    target[:3] = source[:3] + shift
    assert np.array_equal(_settled(source, target, np.eye(3), "affine", 1.0), np.eye(3))
    target[:9] = source[:9] + shift
    settled = _settled(source, target, np.eye(3), "affine", 1.0)
    assert map_points(settled, source) == pytest.approx(source + shift)
