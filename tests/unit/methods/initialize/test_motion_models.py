"""Motions are groups, and their derivatives those of their matrices."""

import numpy as np
import pytest

from regflow.methods.initialize.motion_models import (
    MOTIONS,
    compute_motion,
    linearize_motion,
    list_generators,
)

COUNTS = {"translation": (2, 3), "rigid": (3, 6), "similarity": (4, 7), "affine": (6, 12), "homography": (8,)}
CASES = [(model, ndim) for model in MOTIONS for ndim in (2, 3) if (model, ndim) != ("homography", 3)]


@pytest.mark.parametrize(("model", "ndim"), CASES)
def test_a_motion_has_its_parameters_and_its_kind(model, ndim):
    generators = list_generators(model, ndim)
    assert len(generators) == COUNTS[model][ndim - 2]
    parameters = np.random.default_rng(0).normal(0, 0.2, len(generators))
    matrix = compute_motion(generators, parameters)
    assert np.allclose(compute_motion(generators, 0 * parameters), np.eye(ndim + 1))
    linear = matrix[:ndim, :ndim]
    gram = linear.T @ linear
    if model in ("translation", "rigid", "similarity"):
        assert np.allclose(gram, gram[0, 0] * np.eye(ndim))
        assert np.linalg.det(linear) > 0
        assert (gram[0, 0] == pytest.approx(1)) == (model != "similarity")
    assert np.allclose(matrix[ndim], np.eye(ndim + 1)[ndim]) == (model != "homography")


@pytest.mark.parametrize(("model", "ndim"), CASES)
def test_the_derivative_is_that_of_the_matrix(model, ndim):
    generators = list_generators(model, ndim)
    parameters = np.random.default_rng(1).normal(0, 0.3, len(generators))
    slopes = linearize_motion(generators, parameters)
    for number, slope in enumerate(slopes):
        step = 1e-5 * np.eye(len(generators))[number]
        ends = [compute_motion(generators, parameters + sign * step) for sign in (1, -1)]
        assert np.allclose((ends[0] - ends[1]) / 2e-5, slope, atol=1e-8)


def test_there_is_no_homography_of_volumes():
    with pytest.raises(ValueError, match="planes"):
        list_generators("homography", 3)
