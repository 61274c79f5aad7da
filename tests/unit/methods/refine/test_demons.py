"""Demons find a small known displacement of volumes and scenes, whatever the number of threads."""

import numpy as np
import pytest
from large_motion import make_bump, make_pair, measure_error

from regflow.core import fields
from regflow.core.errors import RegistrationError, SettingError
from regflow.core.transform import Affine, list_displacement_fields
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.loaded_pair import match_intensities

LONGEST = 3.0


def small_pair(ndim, gain=1.0, offset=0.0):
    fixed, moving, _ = make_pair(ndim)
    truth = make_bump(moving.grid.shape, LONGEST)
    still = fields.warp_channels(moving.channel, truth)
    return fixed.with_data(still), moving.with_data(gain * moving.data + offset), truth


def run(fixed, moving, threads=2, **given):
    row = METHODS["demons"]
    start = Affine.identity(fixed.grid.ndim)
    return row.load()(fixed, moving, start, row.complete(given), RunContext(threads))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("forces", ["diffeomorphic", "symmetric"])
def test_a_known_displacement_is_found_without_folding(ndim, forces):
    fixed, moving, truth = small_pair(ndim, gain=3.0, offset=20.0)
    found = run(fixed, moving, forces=forces)
    before = measure_error(Affine.identity(ndim), fixed, truth)
    assert measure_error(found, fixed, truth) < 0.2 * before
    field = list_displacement_fields(found)[0]
    assert fields.compute_jacobian_determinant(fields.to_voxels(field.vectors, field.grid)).min() > 0


def test_threads_change_no_bit():
    fixed, moving, _ = small_pair(3)
    one, two = (list_displacement_fields(run(fixed, moving, threads))[0].vectors for threads in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_levels_without_iterations_leave_the_start():
    fixed, moving, _ = small_pair(2)
    found = run(fixed, moving, shrink=[2, 1], iterations=[0, 0])
    assert not list_displacement_fields(found)[0].vectors.any()


def test_histograms_are_matched_where_contrast_bends():
    fixed, moving, _ = make_pair(2)
    still = fixed.with_data(moving.data)
    bent = moving.with_data(np.square(moving.data))
    straight, matched = (np.abs(np.subtract(*match_intensities(still, bent, how))) for how in (False, True))
    assert matched.mean() < 0.1 * straight.mean()


def test_unequal_lengths_and_constant_images_are_one_sentence():
    fixed, moving, _ = make_pair(2)
    with pytest.raises(SettingError, match="demons: option 'iterations' has 1 values for the 3 levels"):
        run(fixed, moving, iterations=[5])
    with pytest.raises(RegistrationError, match="the moving image is constant"):
        run(fixed, moving.with_data(0 * moving.data))
