"""An affine start from keypoints matched as a graph."""

import numpy as np
import pytest
from known_scenes import error_px, fixed, moving

from regflow.core.errors import RegistrationError
from regflow.core.transform import Affine
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS


def run(one, other):
    row = METHODS["keypoint-graph"]
    return row.load()(one, other, Affine.identity(2), row.complete({"count": 500}), RunContext())


@pytest.mark.slow
def test_a_scene_is_found_but_for_what_bends():
    assert np.median(error_px(run(fixed(), moving()))) < 4.0


def test_images_without_structure_are_one_sentence():
    flat = moving().with_data(np.ones_like(moving().data))
    with pytest.raises(RegistrationError, match=r"constant|only 0 keypoints"):
        run(fixed(), flat)
