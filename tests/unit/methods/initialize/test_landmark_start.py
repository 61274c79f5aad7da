"""Linear maps through landmarks of known places, and what is said where there are none of use."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine, Homography
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.landmarks import landmarks
from regflow.methods.table import list_methods_of_kind

RNG = np.random.default_rng(2)
TURN = Rotation.from_rotvec([0.4, -0.3, 0.5]).as_matrix()
SHEAR = np.eye(3) + RNG.normal(0, 0.1, (3, 3))
BEND = np.eye(3) + np.array([[0.1, -0.2, 3], [0.15, 0.05, -8], [1e-4, -2e-4, 0]])
FAR = np.array([500_000.0, 4_000_000.0])


def image(ndim: int) -> Image:
    grid = Grid((8,) * ndim, np.eye(ndim + 1))
    return Image(np.zeros((1, *grid.shape), np.float32), grid)


def fitted(fixed, moving, model, weights=None, **options):
    ndim = fixed.shape[1]
    names = tuple(f"p{number}" for number in range(len(fixed)))
    pairs = LandmarkPairs(Landmarks(names, fixed, weights), Landmarks(names, moving))
    row = list_methods_of_kind(METHODS, "rasters" if ndim == 2 else "volumes")["landmarks"]
    complete = row.complete({"model": model, **options})
    return landmarks(image(ndim), image(ndim), Affine.identity(ndim), complete, RunContext(landmarks=pairs))


@pytest.mark.parametrize(
    ("model", "linear"),
    [("translation", np.eye(3)), ("rigid", TURN), ("similarity", 1.3 * TURN), ("affine", SHEAR)],
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_known_map_is_found_and_each_landmark_foretold(model, linear, ndim):
    if ndim == 2 and model in ("rigid", "similarity"):
        linear = np.linalg.det(linear) ** (1 / 3) * Rotation.from_rotvec([0, 0, 0.7]).as_matrix()
    fixed = RNG.normal(0, 40, (8, ndim)) + 100
    truth = Affine.from_parts(linear[:ndim, :ndim], np.arange(1.0, ndim + 1), np.full(ndim, 90.0))
    found = fitted(fixed, truth.apply(fixed), model)
    assert np.allclose(found.transform.matrix, truth.matrix, atol=1e-8)
    assert max(found.landmarks.left_out.values()) < 1e-8
    assert found.landmarks.outliers == ()


def test_a_homography_is_found_in_coordinates_of_millions_of_meters():
    fixed = RNG.uniform(0, 900, (9, 2)) + FAR
    truth = Homography(BEND, tuple(FAR))
    found = fitted(fixed, truth.apply(fixed), "homography")
    assert np.abs(found.transform.apply(fixed) - truth.apply(fixed)).max() < 1e-4


def test_mirrored_landmarks_give_no_reflection():
    fixed = RNG.normal(0, 40, (8, 3))
    found = fitted(fixed, fixed * [-1, 1, 1], "similarity", outliers="keep")
    assert np.linalg.det(found.transform.linear) > 0
    assert found.landmarks.list_figures("mm")["left_out_rms_mm"] > 10


def test_weights_count():
    fixed = RNG.normal(0, 40, (10, 3))
    moving = fixed.copy()
    moving[5:] += 4.0
    light = np.r_[np.full(5, 100.0), np.full(5, 1.0)]
    shifts = [
        fitted(fixed, moving, "translation", weights, outliers="keep").transform.translation
        for weights in (None, light)
    ]
    assert np.allclose(shifts[0], 2.0)
    assert np.allclose(shifts[1], 4 * 5 / 505)


def test_a_landmark_that_contradicts_the_others_is_named_and_left_out():
    fixed = RNG.normal(0, 40, (9, 3))
    moving = fixed @ TURN.T
    moving[3] += 20
    found = fitted(fixed, moving, "rigid")
    assert found.landmarks.outliers == ("p3",)
    assert np.allclose(found.transform.linear, TURN)
    assert found.landmarks.left_out["p3"] == pytest.approx(20 * np.sqrt(3))
    assert found.landmarks.list_figures("mm")["landmarks_outliers_percent"] == pytest.approx(100 / 9)
    assert fitted(fixed, moving, "rigid", outliers="keep").landmarks.outliers == ()


@pytest.mark.parametrize(
    ("points", "model", "reason"),
    [
        (RNG.normal(0, 9, (3, 3)), "rigid", "3 pairs are too few; a rigid needs 3, and one more to check it"),
        (np.outer(np.arange(6.0), [1, 2, 3]), "rigid", "one line"),
        (RNG.normal(0, 9, (7, 3)) * [1, 1, 0], "affine", "one plane|determine no"),
        (np.ones((6, 2)), "similarity", "one spot"),
        (
            np.vstack([np.outer(np.arange(6.0), [1, 2]), [[3, 0]]]),
            "affine",
            "without 'p6', which nothing checks|one line",
        ),
    ],
)
def test_landmarks_of_no_use_are_told_in_one_sentence(points, model, reason):
    with pytest.raises(RegistrationError, match=reason) as caught:
        fitted(points, points, model)
    assert "\n" not in str(caught.value)


def test_without_landmarks_one_sentence_says_so():
    options = METHODS["landmarks"].complete({})
    with pytest.raises(RegistrationError, match="no pairs of landmarks are given"):
        landmarks(image(3), image(3), Affine.identity(3), options, RunContext())
