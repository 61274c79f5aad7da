import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from regflow.core.errors import RegistrationError
from regflow.core.transform import Affine
from regflow.methods.groupwise.linear_average import average_linear_maps, compute_logarithm, find_stretch


def draw_map(rng: np.random.Generator, size: float, ndim: int = 3) -> Affine:
    step = np.zeros((ndim + 1, ndim + 1))
    step[:-1, :-1] = size * rng.normal(size=(ndim, ndim))
    step[:-1, -1] = 20 * size * rng.normal(size=ndim)
    return Affine(expm(step))


def draw_turn(rng: np.random.Generator, degrees: float) -> Affine:
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    return Affine.from_parts(turn, rng.normal(size=3) * 10, (50.0, 60.0, 70.0))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_map_and_its_inverse_have_the_identity_for_their_mean(ndim):
    one = draw_map(np.random.default_rng(0), 0.2, ndim)
    mean = average_linear_maps([one, one.inverse()])
    assert np.allclose(mean.matrix, np.eye(ndim + 1), atol=1e-10)


def test_logarithms_about_the_mean_sum_to_zero_and_inverses_have_the_inverse():
    rng = np.random.default_rng(1)
    maps, weights = [draw_map(rng, 0.15) for _ in range(6)], [1, 2, 1, 0.5, 1, 3]
    mean = average_linear_maps(maps, weights)
    left = sum(
        weight * compute_logarithm(mean.inverse().matrix @ one.matrix)
        for weight, one in zip(weights, maps, strict=True)
    )
    assert np.abs(left).max() < 1e-9
    back = average_linear_maps([one.inverse() for one in maps], weights)
    assert np.allclose(back.matrix @ mean.matrix, np.eye(4), atol=1e-9)


def test_what_is_done_to_all_is_done_to_the_mean():
    rng = np.random.default_rng(2)
    maps, moved = [draw_map(rng, 0.15) for _ in range(4)], draw_map(rng, 0.3)
    mean = average_linear_maps(maps)
    before = average_linear_maps([Affine(moved.matrix @ one.matrix) for one in maps])
    assert np.allclose(before.matrix, moved.matrix @ mean.matrix, atol=1e-8)


def test_rigid_maps_have_a_rigid_mean():
    rng = np.random.default_rng(3)
    mean = average_linear_maps([draw_turn(rng, 25.0) for _ in range(5)])
    assert np.allclose(mean.linear @ mean.linear.T, np.eye(3), atol=1e-10)
    assert np.linalg.det(mean.linear) == pytest.approx(1.0)


def test_the_weightiest_draws_the_mean():
    one, other = Affine.from_parts(np.eye(3), (4.0, 0.0, 0.0)), Affine.identity(3)
    assert average_linear_maps([one, other], [3, 1]).translation == pytest.approx([3.0, 0.0, 0.0])


@pytest.mark.parametrize("linear", [np.diag([-1.0, 1.0, 1.0]), np.diag([-1.0, -1.0, 1.0])])
def test_maps_that_mirror_or_turn_by_half_a_circle_have_no_mean(linear):
    maps = [Affine.identity(3), Affine.from_parts(linear, np.zeros(3))]
    with pytest.raises(RegistrationError, match="no mean"):
        average_linear_maps(maps)


def test_the_stretch_of_a_map_is_what_its_turn_leaves():
    turn, stretch = draw_turn(np.random.default_rng(4), 30.0), np.diag([1.2, 0.9, 1.0])
    center = np.array([10.0, 20.0, 30.0])
    found = find_stretch(Affine(turn.matrix @ Affine.from_parts(stretch, (5, 5, 5)).matrix), center)
    assert np.allclose(found.linear, stretch)
    assert found.apply(center[None])[0] == pytest.approx(center)
