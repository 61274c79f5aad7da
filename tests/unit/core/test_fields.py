import numba
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from regflow.core import fields
from regflow.core.grid import Grid
from regflow.core.itk import to_sitk
from regflow.core.transform import DisplacementField

DIRECTION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, -1.0]])
OBLIQUE = Grid.from_geometry((20, 24, 28), (1.5, 1.0, 2.0), (-12.0, 30.0, 4.0), DIRECTION)


def smooth(shape: tuple[int, ...], amplitude: float, seed: int = 0, sigma: float = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    field = np.stack([gaussian_filter(rng.normal(size=shape), sigma, mode="nearest") for _ in shape])
    return (field * amplitude / np.abs(field).max()).astype(np.float32)


@pytest.mark.parametrize("shape", [(20, 24, 28), (40, 50)])
def test_warp_samples_linearly_as_scipy_does(shape):
    data = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    field = smooth(shape, 3.0)
    positions = np.indices(shape) + field
    expected = map_coordinates(data, positions, order=1, mode="nearest")
    assert np.allclose(fields.warp_channels(data, field), expected, atol=1e-4)


@pytest.mark.parametrize("grid", [OBLIQUE, Grid.from_geometry((9, 8, 7), (2, 3, 4), (0, 0, 0))])
def test_world_and_voxel_displacements_move_a_sample_to_the_same_place(grid):
    voxels = smooth(grid.shape, 2.0)
    world = fields.to_world(voxels, grid)
    assert np.allclose(fields.to_voxels(world, grid), voxels, atol=1e-5)
    index = np.array([3, 4, 5])
    start = index[::-1]
    by_voxels = grid.to_world(start + voxels[:, 3, 4, 5][::-1])
    assert np.allclose(by_voxels, grid.to_world(start) + world[:, 3, 4, 5], atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 28, 32), (48, 64)])
def test_inverse_undoes_and_is_undone(shape):
    field = smooth(shape, 3.0)
    inverse = fields.invert_displacement(field)
    inside = (..., *[slice(6, -6)] * len(shape))
    for first, second in ((field, inverse), (inverse, field)):
        assert fields.measure_inverse_residual(first, second)[inside].max() < 0.05
    assert np.abs(field).max() > 2.9


def test_a_stretch_that_its_fixed_point_would_leave_is_inverted_by_shorter_steps():
    shape = (4, 5, 41)
    stretch = np.zeros((3, *shape), np.float32)
    stretch[2] = 1.4 * (np.arange(41) - 20)
    inverse = fields.invert_displacement(stretch)
    assert np.allclose(inverse[2], -1.4 / 2.4 * (np.arange(41) - 20), atol=0.05)
    assert np.abs(inverse[:2]).max() < 1e-5


def test_inverse_of_nothing_is_nothing():
    still = np.zeros((3, 8, 8, 8), np.float32)
    assert not fields.invert_displacement(still).any()


def test_composition_follows_points():
    a, b = smooth((24, 28, 32), 2.0, 1), smooth((24, 28, 32), 2.0, 2)
    both = fields.compose_displacements(a, b)
    start = np.array([12, 14, 16])
    middle = start + b[:, 12, 14, 16]
    there = middle + [map_coordinates(c, middle[:, None], order=1)[0] for c in a]
    assert np.allclose(start + both[:, 12, 14, 16], there, atol=1e-4)


def test_determinant_of_a_linear_stretch_is_its_volume_change():
    z, y, x = np.indices((10, 12, 14)).astype(np.float32)
    field = np.stack([0.1 * z, -0.2 * y + 0.05 * x, 0.3 * x])
    assert np.allclose(fields.compute_jacobian_determinant(field), 1.1 * 0.8 * 1.3, atol=1e-4)
    assert np.allclose(fields.compute_jacobian_determinant(field[1:, 0]), 0.8 * 1.3, atol=1e-4)


def test_determinant_agrees_with_simpleitk_and_sees_folding():
    grid = Grid.from_geometry((20, 22, 24), (1, 1, 1), (0, 0, 0))
    voxels = smooth(grid.shape, 4.0, sigma=2)
    image = to_sitk(DisplacementField(fields.to_world(voxels, grid), grid)).GetDisplacementField()
    reference = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    ours = fields.compute_jacobian_determinant(voxels)
    inside = (slice(1, -1),) * 3
    assert np.allclose(ours[inside], reference[inside], atol=1e-3)
    assert (ours < 0).any()


def test_resizing_keeps_the_movement_in_the_world():
    grid = Grid.from_geometry((16, 20, 24), (2, 2, 2), (0, 0, 0))
    fine = grid.with_spacing(1.0)
    coarse = smooth(grid.shape, 2.0)
    resized = fields.resize_displacement(coarse, fine.shape)
    points = grid.to_world([[8.0, 9.0, 7.0], [12.3, 10.1, 8.8]])
    a = DisplacementField(fields.to_world(coarse, grid), grid).apply(points)
    b = DisplacementField(fields.to_world(resized, fine), fine).apply(points)
    assert np.allclose(a, b, atol=0.05)
    assert np.allclose(fields.resize_displacement(coarse, grid.shape), coarse, atol=1e-6)


@pytest.mark.parametrize("fine", [(16, 5, 18), (4, 20, 6)])
def test_resized_samples_lie_in_the_middles_of_their_cells(fine):
    shape = (8, 10, 12)
    ramps = np.indices(shape).astype(np.float32)
    resized = fields.resize_displacement(ramps, fine)
    for axis, (coarse, count) in enumerate(zip(shape, fine, strict=True)):
        places = np.clip((np.arange(count) + 0.5) * coarse / count - 0.5, 0, coarse - 1)
        along = np.moveaxis(resized[axis], axis, -1)
        assert np.allclose(along, places * count / coarse, atol=1e-4)


def test_threads_change_no_bit():
    field = smooth((24, 28, 32), 3.0)
    results = []
    for threads in (1, 2):
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        results.append(
            [
                fields.invert_displacement(field),
                fields.compute_jacobian_determinant(field),
                fields.compose_displacements(field, field),
            ]
        )
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
