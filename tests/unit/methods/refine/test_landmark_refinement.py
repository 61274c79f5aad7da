"""Thin-plate splines through landmarks as displacement fields."""

import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.landmarks import landmarks

RNG = np.random.default_rng(8)
INITIAL = Affine.from_parts(1.1 * np.eye(3), [3.0, -2.0, 1.0])


def bent(points):
    """Return where a smooth deformation of some millimeters, and then the initial map, take points."""
    return INITIAL.apply(points + 4 * np.sin(points[:, ::-1] / 30))


def fitted(fixed, moving, ndim=3, initial=INITIAL, **options):
    grid = Grid.from_geometry((20,) * ndim, (5.0,) * ndim, (0.0,) * ndim)
    image = Image(np.zeros((1, *grid.shape), np.float32), grid)
    names = tuple(f"p{number}" for number in range(len(fixed)))
    context = RunContext(landmarks=LandmarkPairs(Landmarks(names, fixed), Landmarks(names, moving)))
    return landmarks(image, image, initial, METHODS["landmarks"].complete(options), context)


def test_landmarks_meet_and_places_between_them_follow():
    fixed = RNG.uniform(5, 90, (60, 3))
    found = fitted(fixed, bent(fixed), smoothing=0.0)
    assert np.abs(found.transform.apply(fixed) - bent(fixed)).max() < 0.7
    between = RNG.uniform(20, 75, (100, 3))
    before, after = (
        np.linalg.norm(each.apply(between) - bent(between), axis=1).mean()
        for each in (INITIAL, found.transform)
    )
    assert after < 0.25 * before
    assert found.transform.parts[0].grid.shape == (20, 20, 20)


def test_the_error_told_is_that_between_landmarks():
    fixed = RNG.uniform(5, 90, (40, 3))
    found = fitted(fixed, bent(fixed), smoothing=0.0)
    told = found.landmarks.list_figures("mm")["left_out_rms_mm"]
    between = RNG.uniform(5, 90, (400, 3))
    true = np.sqrt(((found.transform.apply(between) - bent(between)) ** 2).sum(1).mean())
    assert 0.5 * told < true < 1.5 * told


def test_a_wrong_landmark_is_left_out():
    fixed = RNG.uniform(5, 90, (40, 3))
    moving = bent(fixed)
    moving[7] += 40
    found = fitted(fixed, moving)
    assert found.landmarks.outliers == ("p7",)
    kept = fitted(fixed, moving, outliers="keep", smoothing=0.0)
    assert kept.landmarks.outliers == ()
    assert np.abs(kept.transform.apply(fixed[7:8]) - moving[7]).max() < 15


def test_a_plane_is_bent_as_well():
    fixed = RNG.uniform(5, 90, (30, 2))
    moving = fixed + 3 * np.sin(fixed[:, ::-1] / 25)
    found = fitted(fixed, moving, 2, Affine.identity(2), smoothing=0.0)
    assert np.abs(found.transform.apply(fixed) - moving).max() < 0.3


def test_too_few_landmarks_are_told_in_one_sentence():
    few = RNG.uniform(5, 90, (4, 3))
    with pytest.raises(RegistrationError, match="4 pairs are too few; a thin-plate spline needs 4"):
        fitted(few, few)
    flat = RNG.uniform(5, 90, (9, 3)) * [1, 1, 0]
    with pytest.raises(RegistrationError, match="one line or plane"):
        fitted(flat, flat)
