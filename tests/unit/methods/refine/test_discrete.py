"""Dense displacement search: motion of several structures' width, whatever the contrast."""

from dataclasses import replace

import numpy as np
import pytest
from large_motion import LONGEST, make_pair, measure_error

from regflow.core.errors import RegistrationError, SettingError
from regflow.core.image import Image
from regflow.core.transform import Affine, list_displacement_fields
from regflow.methods.context import RunContext
from regflow.methods.matching.self_similarity import compute_self_similarity
from regflow.methods.refine import METHODS
from regflow.methods.refine.discrete_search import MOST_COSTS, SearchLevel, plan_levels
from regflow.methods.table import list_methods_of_kind, run_method

KINDS = {2: "rasters", 3: "volumes"}
SPACING = {2: {}, 3: {"spacing_mm": 2.0}}


def run(fixed, moving, threads=2, initial=None, **given):
    ndim = fixed.grid.ndim
    row = list_methods_of_kind(METHODS, KINDS[ndim])["discrete"]
    options = row.complete({"refinement": "none", **SPACING[ndim], **given})
    start = initial or Affine.identity(ndim)
    return run_method(row, fixed, moving, start, options, RunContext(threads)).transform


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("other_contrast", [False, True])
def test_motion_wider_than_structures_is_found(ndim, other_contrast):
    fixed, moving, truth = make_pair(ndim, other_contrast)
    found = run(fixed, moving)
    before = measure_error(Affine.identity(ndim), fixed, truth)
    assert before > 0.2 * LONGEST[ndim]
    assert measure_error(found, fixed, truth) < 0.45 * before
    assert len(list_displacement_fields(found)) == 1


def test_greedy_goes_on_from_the_search():
    fixed, moving, truth = make_pair(3)
    quick = {"iterations": [0, 10, 5]}
    found = run(fixed, moving, refinement="greedy", device="cpu", refinement_options=quick)
    assert measure_error(found, fixed, truth) < 0.15
    assert len(list_displacement_fields(found)) == 1


def test_the_initial_transform_is_gone_on_from():
    fixed, moving, _ = make_pair(3)
    pose = Affine.from_parts(np.eye(3), (30.0, 0.0, 0.0))
    elsewhere = replace(moving, grid=type(moving.grid)(moving.grid.shape, pose.matrix @ moving.grid.affine))
    found = run(fixed, elsewhere, initial=pose)
    points = fixed.grid.to_world(np.full((1, 3), 20.0))
    there = pose.apply(run(fixed, moving).apply(points))
    assert found.apply(points) == pytest.approx(there, abs=1e-3)


@pytest.mark.parametrize("ndim", [2, 3])
def test_threads_change_no_bit(ndim):
    fixed, moving, _ = make_pair(ndim)
    one, two = (list_displacement_fields(run(fixed, moving, threads))[0].vectors for threads in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_what_lies_outside_the_mask_does_not_steer():
    fixed, moving, truth = make_pair(3)
    mask = np.zeros(fixed.grid.shape, bool)
    mask[6:-6, 6:-6, 6:-6] = True
    misled = np.where(mask, fixed.channel, np.roll(fixed.channel, 7, axis=2))
    found = run(Image(misled[None], fixed.grid, mask), moving)
    assert measure_error(found, fixed, truth, margin=10) < 1.5


def test_a_wide_search_of_a_large_image_takes_larger_steps():
    levels = plan_levels((90, 110, 90), 30.0, [3, 2, 1], 2)
    assert levels[1:] == [SearchLevel(2, 2), SearchLevel(1, 2)]
    for shape, search in (((90, 110, 90), 15.0), ((200, 200, 200), 60.0), ((1024, 1, 1024), 400.0)):
        first = plan_levels(shape, search, [3], 2)[0]
        nodes = np.prod([-(-n // first.shrink) for n in shape])
        ndim = sum(n > 1 for n in shape)
        assert nodes * (2 * first.reach + 1.0) ** ndim <= MOST_COSTS
        assert first.shrink * first.reach >= search


@pytest.mark.parametrize("ndim", [2, 3])
def test_self_similarities_do_not_depend_on_gain_offset_and_sign(ndim):
    image = make_pair(ndim)[0].channel
    first, second = compute_self_similarity(image), compute_self_similarity(5 - 3 * image)
    assert first.shape == ({2: 4, 3: 12}[ndim], *image.shape)
    assert first.max() <= 1
    assert np.abs(first - second).max() < 1e-3


def test_images_that_do_not_meet_are_one_sentence():
    fixed, moving, _ = make_pair(3)
    with pytest.raises(RegistrationError, match="no sample in common"):
        run(fixed, moving, initial=Affine.from_parts(np.eye(3), (1e4, 0, 0)))


def test_an_option_that_the_next_method_lacks_is_named():
    fixed, moving, _ = make_pair(2)
    with pytest.raises(SettingError, match="discrete: refinement_options: dense has no option 'iterations'"):
        run(fixed, moving, refinement="dense", refinement_options={"iterations": [1]})
