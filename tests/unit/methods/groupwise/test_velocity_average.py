import numpy as np
import pytest

from regflow.core import fields
from regflow.core.grid import Grid
from regflow.datasets.subjects import draw_warp
from regflow.methods.groupwise.velocity_average import (
    VelocityMean,
    compute_velocity,
    integrate_velocity,
    measure_mean_length,
)

GRID = Grid.from_geometry((28, 30, 32), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))


def draw_pair(seed: int, amplitude_mm: float = 10.0) -> tuple[fields.VoxelField, fields.VoxelField]:
    """Return a smooth warp and its inverse as voxel fields."""
    warp, back = draw_warp(GRID, amplitude_mm, 24.0, seed)
    return fields.to_voxels(warp.vectors, GRID), fields.to_voxels(back.vectors, GRID)


def test_the_exponential_of_the_logarithm_is_the_map():
    warp, back = draw_pair(0)
    fit = compute_velocity(warp)
    assert fit.residual < 0.01
    assert measure_mean_length(integrate_velocity(fit.velocity) - warp) < 0.02
    assert measure_mean_length(integrate_velocity(-fit.velocity) - back) < 0.02


def test_a_constant_velocity_moves_by_itself_in_two_dimensions():
    velocity = np.zeros((2, 12, 14), np.float32)
    velocity[1] = 1.5
    assert integrate_velocity(velocity) == pytest.approx(velocity, abs=1e-5)
    assert compute_velocity(velocity).velocity == pytest.approx(velocity, abs=1e-4)


def test_maps_and_their_inverses_have_no_mean_motion():
    mean = VelocityMean(GRID.shape)
    for seed in (1, 2):
        for part in draw_pair(seed):
            mean.add(part)
    moved = measure_mean_length(integrate_velocity(mean.average()))
    assert moved < 0.02
    assert float(mean.measure_spread().mean()) > 20 * moved


def test_weights_count_and_do_not_depend_on_their_unit():
    (one, other), means = draw_pair(3), []
    for unit in (1.0, 8.0):
        mean = VelocityMean(GRID.shape)
        mean.add(one, 3 * unit)
        mean.add(other, unit)
        means.append(mean.average())
    assert means[0] == pytest.approx(means[1], abs=1e-6)
    # Half of the warp is left: three parts there and one back.
    twice = fields.compose_displacements(integrate_velocity(means[0]), integrate_velocity(means[0]))
    assert measure_mean_length(twice - one) < 0.03


def test_the_mean_of_warps_does_not_fold():
    mean = VelocityMean(GRID.shape)
    for seed in range(4):
        mean.add(draw_pair(seed, 16.0)[0])
    assert fields.compute_jacobian_determinant(integrate_velocity(mean.average())).min() > 0.3


def test_nothing_added_is_no_motion():
    mean = VelocityMean((4, 5))
    assert not mean.average().any()
    assert not mean.measure_spread().any()
