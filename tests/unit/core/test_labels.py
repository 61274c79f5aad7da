"""Label resampling: SimpleITK's linear label vote is the reference, and borders beat the nearest sample's."""

import numpy as np
import pytest
import SimpleITK as sitk

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.itk import to_sitk
from regflow.core.labels import has_fractions, resample_labels, round_labels, select_mask_samples
from regflow.core.resample import resample_array, to_sitk_image
from regflow.core.transform import Affine

SOURCE = Grid.from_geometry((40, 44, 48), (1.0, 1.2, 0.9), (-20.0, -25.0, 10.0))
CENTER = SOURCE.center


def turn(degrees=25.0):
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]])
    return Affine.from_parts(linear @ tilt, [0.3, -0.4, 0.2], CENTER)


def distance(grid, center):
    indices = np.moveaxis(np.indices(grid.shape), 0, -1)[..., ::-1]
    return np.linalg.norm(grid.to_world(indices) - center, axis=-1)


def dice(a, b):
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


@pytest.mark.parametrize("spacing", [0.7, 1.1, 2.0])
def test_equals_the_linear_label_interpolation_of_simpleitk(spacing):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(0, 6, (10, 11, 48)), 4, axis=0), 4, axis=1).astype(np.int16)
    labels[labels == 5] = 300
    target = SOURCE.with_spacing(spacing)
    ours = resample_labels(labels, SOURCE, target, turn())
    theirs = sitk.Resample(
        to_sitk_image(labels, SOURCE),
        to_sitk_image(np.zeros(target.shape, np.uint8), target),
        to_sitk(turn()),
        sitk.sitkLabelLinear,
        0.0,
        sitk.sitkInt16,
    )
    assert (ours > 0).mean() > 0.4
    # Ties, of which there are few, may go either way.
    assert np.mean(ours != sitk.GetArrayFromImage(theirs)) < 1e-4
    assert ours.dtype == labels.dtype


@pytest.mark.parametrize("radius", [4.0, 8.0, 14.0])
@pytest.mark.parametrize("spacing", [0.6, 1.0])
def test_a_turned_ball_is_rounder_than_by_the_nearest_sample(radius, spacing):
    ball = (distance(SOURCE, CENTER + 0.4) < radius).astype(np.uint8)
    target = SOURCE.with_spacing(spacing)
    truth = distance(target, turn().inverse().apply([CENTER + 0.4])[0]) < radius
    smooth = resample_labels(ball, SOURCE, target, turn()) > 0
    nearest = resample_array(ball, SOURCE, target, turn(), "nearest") > 0
    assert dice(smooth, truth) > 0.93
    # A third of the nearest sample's error is gone.
    assert 1 - dice(smooth, truth) < 0.75 * (1 - dice(nearest, truth))


def test_identity_changes_nothing_and_beyond_the_source_is_background():
    labels = np.random.default_rng(0).integers(0, 4, SOURCE.shape).astype(np.uint8)
    assert np.array_equal(resample_labels(labels, SOURCE, SOURCE), labels)
    full = np.full(SOURCE.shape, 9, np.uint8)
    away = Affine.from_parts(np.eye(3), [1000, 0, 0])
    assert not resample_labels(full, SOURCE, SOURCE, away).any()
    assert resample_labels(full, SOURCE, SOURCE).min() == 9


@pytest.mark.parametrize(
    ("drawn", "winner"), [([[9, 4], [9, 4]], 4), ([[4, 9], [4, 9]], 4), ([[7, 5], [3, 9]], 3)]
)
def test_of_labels_with_equal_weight_the_lower_wins(drawn, winner):
    grid = Grid.from_geometry((2, 2), (1.0, 1.0), (0.0, 0.0))
    middle = Grid.from_geometry((1, 1), (1.0, 1.0), (0.5, 0.5))
    assert resample_labels(np.array(drawn, np.uint8), grid, middle).tolist() == [[winner]]


def test_two_dimensions():
    grid = Grid.from_geometry((30, 40), (1.0, 1.0), (0.0, 0.0))
    disc = (distance(grid, [20, 15]) < 9).astype(np.uint8) * 4
    finer = grid.with_spacing(0.25)
    drawn = resample_labels(disc, grid, finer)
    assert set(np.unique(drawn)) == {0, 4}
    assert dice(drawn > 0, distance(finer, [20, 15]) < 9) > 0.97


def test_whole_numbers_stored_as_floats_are_taken_and_others_refused():
    assert round_labels(np.array([0.0, 3.0])).dtype == np.int32
    assert round_labels(np.array([0.0, 3e9])).tolist() == [0, 3_000_000_000]
    with pytest.raises(InputError, match="not whole numbers"):
        round_labels(np.array([0.0, 0.5]))


def test_labels_are_rounded_within_the_step_of_their_scaling():
    stored = np.array([0.0, 0.96337833, 2.0337987, 7014.99989], np.float32)
    assert round_labels(stored, 0.10704).tolist() == [0, 1, 2, 7015]
    assert round_labels(stored[[0, 3]]).tolist() == [0, 7015]
    for step in (0.0, 0.01, 2.0):
        with pytest.raises(InputError, match="not whole numbers"):
            round_labels(stored, step)


def test_a_scaled_mask_is_no_soft_mask():
    assert not has_fractions(np.array([0.0, 1.00000006]))
    assert select_mask_samples(np.array([0.0, 1e-6, 0.99999, 1.0])).tolist() == [False, False, True, True]
    assert has_fractions(np.array([0.0, 0.4]))
