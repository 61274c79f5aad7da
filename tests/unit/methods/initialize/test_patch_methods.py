"""Networks for patches match ground they have not seen across bands; other networks are refused."""

from typing import Any

import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.datasets.modalities import make_linear_truth, move_linearly, read_bands
from regflow.datasets.packaged import require_source
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.features.learned_patches import cut_patches
from regflow.methods.initialize.features.patch_methods import BRANCHES
from regflow.methods.learned_models import ModelDescription, build_model, save_model
from regflow.methods.table import run_method
from regflow.training.images import count_learned_rows

ROW = METHODS["spectral-descriptor"]
SIDE = 160
CORNERS = np.array([[0, 0], [SIDE - 1, 0], [0, SIDE - 1], [SIDE - 1, SIDE - 1]], float)


@pytest.fixture(scope="module")
def views() -> tuple[Image, Image, Transform]:
    """Red of the lower rows, near infrared of them shifted and enlarged, and the truth."""
    planes, _ = read_bands({name: require_source(f"sentinel2-{name}") for name in ("b04", "b08")})
    grid = Grid((SIDE, SIDE), np.eye(3))
    first = count_learned_rows(len(planes["b04"])) + 20
    red, infrared = (
        Image(plane[first : first + SIDE, 300 : 300 + SIDE].astype(np.float32)[None], grid)
        for plane in (planes["b04"], planes["b08"])
    )
    truth = make_linear_truth(grid, np.array([11.0, -7.0]), 0.0, 1.04)
    return red, move_linearly(infrared, truth), truth


def ask(fixed: Image, moving: Image, **given: Any) -> Transform:
    options = ROW.complete({"model": "similarity", **given})
    return run_method(ROW, fixed, moving, Affine.identity(2), options, RunContext()).transform


def measure_error(found: Transform, truth: Transform) -> float:
    return float(np.linalg.norm(found.apply(CORNERS) - truth.apply(CORNERS), axis=1).mean())


def test_near_infrared_of_unseen_ground_is_matched_to_red(views):
    fixed, moving, truth = views
    assert measure_error(ask(fixed, moving), truth) < 0.5
    back = ask(moving, fixed, near_infrared="fixed")
    assert measure_error(back, truth.inverse()) < 0.5


def test_networks_of_another_architecture_or_none_are_refused(views, tmp_path):
    with pytest.raises(RegistrationError, match="neither a file nor in resources/weights"):
        ask(*views[:2], weights="no such network")
    other = ModelDescription("siamese-corners", {"side": 32, "widths": [4] * 4, "hidden": 4, "answer": "box"})
    save_model(tmp_path / "other.safetensors", build_model(other), other)
    with pytest.raises(RegistrationError, match=r"is of the architecture .*correct the option 'weights'"):
        ask(*views[:2], weights=str(tmp_path / "other.safetensors"))


def test_a_picture_of_one_value_is_refused(views):
    flat = Image(np.ones((1, SIDE, SIDE), np.float32), views[0].grid)
    with pytest.raises(RegistrationError, match="the moving image is constant"):
        ask(views[0], flat)


def test_a_patch_has_its_corner_in_its_middle():
    plane = np.zeros((20, 30), np.float32)
    points = np.array([[7, 3], [29, 19]])
    plane[points[:, 1], points[:, 0]] = 1
    patches = cut_patches(plane, points, 8)
    assert patches.shape == (2, 8, 8)
    assert (patches[:, 4, 4] == 1).all()


def test_every_answer_to_which_image_is_infrared_has_its_branches():
    assert set(BRANCHES) == set(ROW.options["near_infrared"]["enum"])
