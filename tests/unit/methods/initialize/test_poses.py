"""Linear poses: derivatives against finite differences, the climb on a known valley, sets of rotations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from regflow.methods.initialize.poses import (
    _PARAMETRIZED,
    _free,
    _line_search,
    _minimize,
    find_nearest_rotation,
    list_rotations,
    measure_angles,
    to_2d,
    to_3d,
)

RADIUS = 40.0


def pose() -> np.ndarray:
    start = np.eye(4)
    start[:3, :3] = Rotation.from_rotvec([0.2, -0.1, 0.4]).as_matrix() * 1.1
    start[:3, 3] = [3.0, -5.0, 2.0]
    return start


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("length", [0.0, 1.0, 25.0])
@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine"])
def test_gradients_are_those_of_finite_differences(transform, length, ndim):
    rng = np.random.default_rng(4)
    place, pull = _PARAMETRIZED[transform](pose(), RADIUS, ndim)
    size = int(_free(ndim, transform).sum())
    here = rng.normal(size=size)
    here *= length / np.linalg.norm(here)
    weights = rng.normal(size=(3, 4))
    found = pull(here, weights)
    step = 1e-5
    for number in range(size):
        aside = step * np.eye(size)[number]
        rise = ((place(here + aside) - place(here - aside))[:3] * weights).sum() / (2 * step)
        assert found[number] == pytest.approx(rise, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    ("transform", "flat", "full"), [("rigid", 3, 6), ("similarity", 4, 7), ("affine", 6, 12)]
)
def test_poses_have_as_many_parameters_as_freedoms_and_begin_where_they_start(transform, flat, full):
    for ndim, count in ((2, flat), (3, full)):
        assert _free(ndim, transform).sum() == count
        place, _ = _PARAMETRIZED[transform](pose(), RADIUS, ndim)
        assert place(np.zeros(count)) == pytest.approx(pose())
        moved = place(np.arange(1.0, count + 1)) - pose()
        assert np.abs(moved[:ndim]).max() > 0.5
        if ndim == 2 and transform != "affine":
            assert moved[2, 3] == 0


def test_the_climb_ends_in_the_valley_and_counts_in_the_spacing():
    steep = np.diag([1.0, 8.0, 30.0])
    bottom = np.array([4.0, -3.0, 1.5])
    asked = []

    def cost(x):
        asked.append(x.copy())
        return float((x - bottom) @ steep @ (x - bottom)) / 2, steep @ (x - bottom)

    found, value = _minimize(cost, 3, 2.0, 60)
    assert found == pytest.approx(bottom, abs=1e-3)
    assert value == pytest.approx(0, abs=1e-5)
    assert np.linalg.norm(asked[1] - asked[0]) == pytest.approx(1.0)
    assert len(asked) < 60
    few, _ = _minimize(cost, 3, 2.0, 1)
    assert np.linalg.norm(few - bottom) > 1


def test_a_step_is_shortened_until_it_gains():
    def cost(x):
        return float(x[0] ** 2), 2 * x

    start = np.array([1.0])
    step, value, gradient = _line_search(cost, start, 1.0, -16.0, np.array([-8.0]))
    assert step == pytest.approx([-1.0])
    assert (value, gradient.tolist()) == (0.0, [0.0])
    whole, _, _ = _line_search(cost, start, 1.0, -1.0, np.array([-0.5]))
    assert whole.tolist() == [-0.5]
    assert _line_search(lambda x: (5.0, x), start, 1.0, -1.0, np.array([1.0])) is None


def test_rotations_leave_no_orientation_far():
    flat = list_rotations(2, 25.0)
    assert flat[:, :2, :2] == pytest.approx(
        np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in 2 * np.pi * np.arange(15) / 15])
    )
    turns = list_rotations(3, 45.0)
    assert turns[0] == pytest.approx(np.eye(3))
    asked = Rotation.random(200, random_state=0).as_matrix()
    assert max(measure_angles(turns, turn).min() for turn in asked) < 0.9 * 45
    assert len(turns) < 400
    assert len(list_rotations(3, 90.0)) < len(turns) / 3


def test_angles_and_nearest_rotations_of_known_maps():
    turn = Rotation.from_rotvec([0, 0.5, 0]).as_matrix()
    assert measure_angles(np.stack([turn, np.eye(3)]), np.eye(3)) == pytest.approx([np.degrees(0.5), 0.0])
    assert find_nearest_rotation(turn @ np.diag([1.2, 0.8, 1.0])) == pytest.approx(
        find_nearest_rotation(1.7 * turn @ np.diag([1.2, 0.8, 1.0]))
    )
    assert find_nearest_rotation(2 * turn) == pytest.approx(turn)
    assert np.linalg.det(find_nearest_rotation(turn @ np.diag([1, 1, -0.5]))) == pytest.approx(1)


def test_maps_of_the_plane_are_lifted_and_flattened():
    plane = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [0, 0, 1]])
    space = to_3d(plane)
    assert space @ [1, 1, 7, 1] == pytest.approx([6, 15, 7, 1])
    assert np.array_equal(to_2d(space, 2), plane)
    assert np.array_equal(to_3d(pose()), pose())
    assert np.array_equal(to_2d(pose(), 3), pose())
