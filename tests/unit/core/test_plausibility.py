"""Implausible samples, grids and landmarks are told apart from sound ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regflow.core.grid import Grid
from regflow.core.landmarks import Landmarks
from regflow.core.plausibility import (
    check_comparable_scale,
    check_extents,
    check_labels,
    check_landmark_mirroring,
    check_landmark_places,
    check_mask,
    check_samples,
    fov_disjoint,
    grid_mismatch,
)

HEAD = Grid.from_geometry((170, 240, 180), (1.0, 1.0, 1.2), (-90.0, -140.0, -40.0))
"""A head as scanners give it, not centered on the origin."""

BRAIN = np.array([[-35.0, -60, 20], [40, 55, 90], [10, -110, 60], [-50, 30, 110], [5, 0, -20], [25, 80, 40]])
NAMES = tuple("abcdef")


def test_sound_data_pass():
    ramp = np.arange(24.0).reshape(2, 3, 4)
    assert check_samples(ramp) is None
    assert check_mask(ramp > 3) is None
    assert check_labels(ramp.astype(int)) is None
    assert check_labels(ramp) is None
    assert check_landmark_places(Landmarks(NAMES, BRAIN), HEAD) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_counted(bad):
    data = np.ones((2, 3, 4), np.float32)
    data[0, 0, :2] = bad
    assert "2 NaN or infinite samples" in check_samples(data)
    assert "NaN" in check_mask(data)
    assert "NaN" in check_labels(data)


def test_constant_and_empty_data_are_told():
    assert "every sample is 7" in check_samples(np.full((2, 3, 4), 7, np.int16))
    assert "empty" in check_mask(np.zeros((2, 3, 4)))
    assert "empty" in check_labels(np.zeros((2, 3, 4), np.int16))
    assert "not whole numbers" in check_labels(np.full((2, 3, 4), 0.5))


def test_another_grid_is_described():
    assert grid_mismatch(HEAD, Grid(HEAD.shape, HEAD.affine + 1e-7)) is None
    told = grid_mismatch(HEAD.with_spacing(2.0), HEAD)
    assert "90x120x102 of 2x2x2 mm" in told
    assert "180x240x170 of 1x1x1.2 mm" in told


def test_fields_of_view_apart_or_not():
    moved = np.array(HEAD.affine)
    moved[0, 3] += 181
    assert fov_disjoint(HEAD, Grid(HEAD.shape, moved))
    moved[0, 3] -= 10
    assert not fov_disjoint(HEAD, Grid(HEAD.shape, moved))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p / 1000, "all 6 landmarks lie within 0.96 mm; they look like meters"),
        (lambda p: p * 1000, "they look like micrometers"),
        (lambda p: p * (-1, -1, 1), "they look like RAS"),
        (lambda p: p[:, [2, 1, 0]], "columns look swapped: the first three seem to hold z, y, x"),
        (lambda p: HEAD.to_index(p), "they look like voxel indices"),
        (lambda p: p + 500, "give LPS millimeters of this image"),
    ],
)
def test_what_happened_to_landmarks_is_guessed(change, told):
    assert told in check_landmark_places(Landmarks(NAMES, change(BRAIN)), HEAD)


def test_one_landmark_outside_is_named_with_its_place():
    points = BRAIN.copy()
    points[2, 2] = 400
    told = check_landmark_places(Landmarks(NAMES, points), HEAD)
    assert told.startswith("1 of 6 landmarks lie outside the image ('c' at 10.0, -110.0, 400.0 mm LPS)")


def test_a_landmark_on_the_rim_passes():
    assert check_landmark_places(Landmarks(("a",), HEAD.to_world([[-2.0, 100, 100]])), HEAD) is None


@pytest.mark.parametrize("columns", [[1, 0, 2], [0, 2, 1], [2, 1, 0]])
def test_two_swapped_columns_are_found_by_their_partners(columns):
    noise = np.random.default_rng(0).normal(0, 2, BRAIN.shape)
    fixed, moving = Landmarks(NAMES, BRAIN), Landmarks(NAMES, (BRAIN + noise)[:, columns])
    assert "mirror image" in check_landmark_mirroring(fixed, moving)


@given(
    seed=st.integers(0, 10_000),
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    scale=st.floats(0.7, 1.4),
)
@settings(max_examples=100, deadline=None)
def test_turned_scaled_and_deformed_partners_are_never_called_mirrored(seed, angles, scale):
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", angles).as_matrix()
    noise = np.random.default_rng(seed).normal(0, 4, BRAIN.shape)
    moving = scale * BRAIN @ turn.T + noise + 30
    assert check_landmark_mirroring(Landmarks(NAMES, BRAIN), Landmarks(NAMES, moving)) is None


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_spacing_in_another_unit_is_told(factor):
    other = Grid(HEAD.shape, np.diag([factor] * 3 + [1.0]) @ HEAD.affine)
    told = check_comparable_scale(HEAD, other)
    assert f"1,000 times as {'large' if factor > 1 else 'small'} as its partner's" in told
    assert "0.19 of the coarser samples across" in told
    assert check_comparable_scale(HEAD, HEAD) is None


def test_thick_slices_and_small_volumes_are_of_one_scale():
    slab = Grid.from_geometry((3, 24, 24), (8.0, 8.0, 12.0), (0, 0, 0))
    assert check_comparable_scale(HEAD, slab) is None
    assert check_extents(HEAD, slab) is None
    # A few samples, but as large as those of the head: hard to register, and no wrong unit.
    assert check_comparable_scale(HEAD, Grid.from_geometry((3, 3, 3), (2.0, 2.0, 2.0), (0, 0, 0))) is None


@pytest.mark.parametrize(("factor", "told"), [(0.1, "10 times as short"), (10.0, "10 times as long")])
def test_a_field_of_view_of_another_length_is_told(factor, told):
    other = Grid(HEAD.shape, np.diag([factor] * 3 + [1.0]) @ HEAD.affine)
    assert told in check_extents(HEAD, other)
    assert check_comparable_scale(HEAD, other) is None
