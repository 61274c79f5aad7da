import numpy as np
import pytest

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import (
    filter_antialias,
    read_sitk_grid,
    resample_aligned,
    resample_array,
    resample_image,
    respace_image,
    to_sitk_image,
)
from regflow.core.transform import Affine

FINE = Grid.from_geometry((24, 28, 32), (1.0, 1.0, 1.0), (-5.0, 3.0, 8.0))


def ramp(grid: Grid) -> np.ndarray:
    z, y, x = np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij")
    points = grid.to_world(np.stack([x, y, z], axis=-1))
    return (points @ np.array([1.0, 2.0, -3.0])).astype(np.float32)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_linear_ramp_is_sampled_exactly_through_an_affine(interpolation):
    target = Grid.from_geometry((8, 9, 10), (1.3, 0.7, 1.1), (0.0, 8.0, 14.0))
    shift = Affine.from_parts(np.eye(3), [1.25, -0.5, 2.0])
    result = resample_array(ramp(FINE), FINE, target, shift, interpolation)
    expected = ramp(target) + np.dot([1.0, 2.0, -3.0], [1.25, -0.5, 2.0])
    assert np.allclose(result, expected, atol=2e-3 if interpolation == "linear" else 5e-1)


def test_types_survive_and_outside_is_filled():
    labels = (ramp(FINE) > 0).astype(np.int16) * 7
    far = Affine.from_parts(np.eye(3), [1000.0, 0, 0])
    moved = resample_array(labels, FINE, FINE, far, "nearest", outside=-1)
    assert moved.dtype == np.int16
    assert set(np.unique(moved)) == {-1}
    assert resample_array(labels > 0, FINE, FINE).dtype == bool


def test_an_image_moves_with_mask_and_labels():
    data = ramp(FINE)
    image = Image(np.stack([data, -data]), FINE, data > 0, (data > 0).astype(np.uint8), "T1w")
    half = FINE.with_spacing(2.0)
    moved = resample_image(image, half)
    assert moved.data.shape == (2, *half.shape)
    assert moved.mask.dtype == bool
    assert np.array_equal(moved.labels > 0, moved.mask)
    assert moved.modality == "T1w"


def test_sitk_geometry_round_trip():
    assert read_sitk_grid(to_sitk_image(ramp(FINE), FINE)) == FINE


def test_antialiasing_removes_what_the_coarse_grid_cannot_carry():
    checkerboard = (np.indices(FINE.shape).sum(axis=0) % 2).astype(np.float32)
    coarse = FINE.with_spacing(4.0)
    naive = resample_array(checkerboard, FINE, coarse)
    clean = resample_array(filter_antialias(checkerboard, FINE, 4.0), FINE, coarse)
    assert clean.std() < 0.02
    assert np.allclose(clean.mean(), 0.5, atol=0.02)
    assert np.array_equal(filter_antialias(checkerboard, FINE, 0.5), checkerboard)
    assert naive.shape == clean.shape


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (2.5, 1.0, 7.0), (0.6, 3.0, 1.0)])
def test_thinning_is_the_filter_and_linear_samples_in_one(spacing):
    noise = np.random.default_rng(0).normal(size=FINE.shape).astype(np.float32)
    coarse = FINE.with_spacing(spacing)
    expected = resample_array(filter_antialias(noise, FINE, spacing), FINE, coarse, outside=np.nan)
    thin = resample_aligned(noise, FINE, coarse)
    assert thin.shape == coarse.shape
    assert thin.dtype == np.float32
    assert np.allclose(thin, expected, atol=1e-5)
    assert np.array_equal(resample_aligned(noise, FINE, FINE), noise)


def test_antialiasing_blurs_along_the_axes_that_get_coarser():
    noise = np.random.default_rng(0).normal(size=FINE.shape).astype(np.float32)
    for axis in range(3):
        spacing = np.ones(3)
        spacing[axis] = 4.0
        blurred = filter_antialias(noise, FINE, spacing)
        steps = [np.abs(np.diff(blurred, axis=2 - along)).mean() for along in range(3)]
        assert int(np.argmin(steps)) == axis


def test_a_coarser_mask_keeps_the_samples_that_are_inside_by_half():
    places = np.moveaxis(np.indices(FINE.shape)[::-1], 0, -1)
    inside = np.linalg.norm(FINE.to_world(places) - FINE.center, axis=-1) < 9
    small = respace_image(Image(np.zeros((1, *FINE.shape), np.float32), FINE, inside), 3.0)
    assert small.mask.sum() * 27 == pytest.approx(inside.sum(), rel=0.06)


def test_an_image_refuses_parts_of_another_shape():
    with pytest.raises(ValueError, match="mask"):
        Image(np.zeros((1, *FINE.shape)), FINE, np.zeros((2, 2, 2), bool))
    with pytest.raises(ValueError, match="data"):
        Image(np.zeros(FINE.shape), FINE)
