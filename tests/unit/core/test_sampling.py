"""Sampling of working volumes agrees with SimpleITK's, which products are sampled by."""

import numpy as np
import pytest
from moved_brain import known_affine
from scipy.ndimage import spline_filter

from regflow.core.devices import limit_numba_threads
from regflow.core.grid import Grid
from regflow.core.resample import resample_array
from regflow.core.sampling import sample_channel
from regflow.core.sampling_kernels import compute_spline_coefficients
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.training.deformations import draw_smooth_noise

TURN = Affine.from_parts(
    np.array([[0.98, -0.17, 0.02], [0.17, 0.97, -0.05], [0.01, 0.06, 1.04]]),
    [3.0, -2.0, 1.0],
    [0.0, 0.0, 0.0],
)


def field(grid: Grid) -> DisplacementField:
    vectors = [draw_smooth_noise(grid.shape, 4.0, np.random.default_rng(seed)) - 0.5 for seed in range(3)]
    return DisplacementField(np.stack(vectors).astype(np.float32) * 20, grid)


def transforms(grid: Grid) -> dict[str, object]:
    coarse = grid.with_spacing(2.5)
    return {
        "identity": Affine.identity(3),
        "affine": TURN,
        "field": field(grid),
        "field, affine": Composite((field(grid), TURN)),
        "affine, coarse field, affine": Composite((TURN, field(coarse), TURN)),
        "two fields": Composite((field(grid), field(coarse))),
    }


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize(
    "name", ["identity", "affine", "field", "field, affine", "affine, coarse field, affine", "two fields"]
)
def test_samples_are_those_of_simpleitk(mni_4mm, name, interpolation):
    affine = np.array([[-3.5, 0.4, 0, 90], [0.3, 3.8, 0.2, -90], [0, 0.1, 4.5, -60], [0, 0, 0, 1]])
    target = Grid((31, 47, 35), affine)
    transform = transforms(target)[name]
    given = mni_4mm.channel, mni_4mm.grid, target, transform, interpolation, -5.0
    found, expected = sample_channel(*given), resample_array(*given)
    assert found.dtype == np.float32
    apart = np.abs(found - expected)
    # A position on the very border of the image may round to either side.
    assert np.mean(apart > 1e-4 * np.ptp(mni_4mm.channel)) < 1e-4
    assert 0.02 < np.mean(found == -5.0) < 0.9


@pytest.mark.parametrize("shape", [(1, 9, 8), (9, 2, 8), (3, 9, 1), (5, 4, 3)])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_thin_volumes_are_sampled_too(shape, interpolation):
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    grid = Grid.from_geometry(shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    moved = Affine.from_parts(np.eye(3), [0.3, -0.2, 0.4], [0.0, 0.0, 0.0])
    given = data, grid, grid, moved, interpolation
    np.testing.assert_allclose(sample_channel(*given), resample_array(*given), atol=1e-4)


def test_planes_go_another_way():
    grid = Grid((20, 30), np.eye(3))
    data = draw_smooth_noise(grid.shape, 3.0, np.random.default_rng(0)).astype(np.float32)
    shift = Affine.from_parts(np.eye(2), [1.0, 2.0], [0.0, 0.0])
    assert np.array_equal(sample_channel(data, grid, grid, shift), resample_array(data, grid, grid, shift))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_no_bit_depends_on_the_number_of_threads(mni_4mm, interpolation):
    transform = Composite((field(mni_4mm.grid), known_affine(mni_4mm, 10.0, 5.0)))
    found = []
    for count in (1, 2):
        with limit_numba_threads(count):
            found.append(
                sample_channel(
                    mni_4mm.channel, mni_4mm.grid, mni_4mm.grid, transform, interpolation
                ).tobytes()
            )
    assert found[0] == found[1]


def test_coefficients_are_those_of_scipy_and_never_subnormal():
    # Beside an empty background they fade; SimpleITK's take seven times as long there.
    data = np.zeros((60, 50, 40), np.float32)
    data[20:30, 20:30, 15:25] = np.random.default_rng(0).random((10, 10, 10))
    found = data.copy()
    compute_spline_coefficients(found)
    np.testing.assert_allclose(found, spline_filter(data, 3, np.float64, mode="mirror"), atol=1e-5)
    assert not np.any((found != 0) & (np.abs(found) < np.finfo(np.float32).tiny))
