"""Keypoints matched as a graph or by transport: large motion, whatever the contrast."""

import numpy as np
import pytest
from large_motion import LONGEST, make_pair, measure_error

from regflow.core.errors import RegistrationError
from regflow.core.transform import Affine, list_displacement_fields
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.table import list_methods_of_kind, run_method

KINDS = {2: "rasters", 3: "volumes"}
SPACING = {2: {}, 3: {"spacing_mm": 2.0}}
WAYS = [("keypoint-graph", {"solver": "belief-propagation"}), ("keypoint-graph", {"solver": "spectral"})]
WAYS += [("optimal-transport", {})]


def run(name, fixed, moving, threads=2, **given):
    ndim = fixed.grid.ndim
    row = list_methods_of_kind(METHODS, KINDS[ndim])[name]
    options = row.complete({"refinement": "none", "count": 400, **SPACING[ndim], **given})
    return run_method(row, fixed, moving, Affine.identity(ndim), options, RunContext(threads)).transform


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("other_contrast", [False, True])
@pytest.mark.parametrize(("name", "given"), WAYS)
def test_large_motion_is_found(ndim, other_contrast, name, given):
    fixed, moving, truth = make_pair(ndim, other_contrast)
    before = measure_error(Affine.identity(ndim), fixed, truth)
    assert before > 0.2 * LONGEST[ndim]
    assert measure_error(run(name, fixed, moving, **given), fixed, truth) < 0.5 * before


@pytest.mark.parametrize(("name", "given"), WAYS)
def test_threads_change_no_bit(name, given):
    fixed, moving, _ = make_pair(2)
    found = [run(name, fixed, moving, threads, **given) for threads in (1, 2)]
    one, two = (list_displacement_fields(each)[0].vectors for each in found)
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize(("name", "given"), WAYS)
def test_images_without_structure_are_one_sentence(name, given):
    fixed, moving, _ = make_pair(2)
    with pytest.raises(RegistrationError, match="the moving image has only 0 keypoints"):
        run(name, fixed, moving.with_data(np.ones_like(moving.data)), **given)
