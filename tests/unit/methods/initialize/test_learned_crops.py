"""The networks that come along find views of ground they have not seen; other networks are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Homography, Transform
from regflow.datasets.modalities import read_bands
from regflow.datasets.packaged import require_source
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.aligning_features import PARAMETERS, take_steps
from regflow.methods.initialize.plane_maps_torch import fit_affine_shifts, list_corners, solve_corners
from regflow.methods.learned_models import ModelDescription, build_model, save_model
from regflow.methods.table import run_method
from regflow.training.images import count_learned_rows

SIDE = 128
LEFT = {"homography-net": 0.7, "homography-net-unsupervised": 0.95, "goturn": 0.8, "deep-lk": 0.2}
"""Part of the corners' distances that a network's own answer may leave."""
NAMES = tuple(LEFT)
CORNERS = np.array([[0, 0], [SIDE - 1, 0], [0, SIDE - 1], [SIDE - 1, SIDE - 1]], float)
TILT = np.array([[1.06, 0.05, 4.0], [-0.04, 0.95, -5.0], [2e-4, -1e-4, 1.0]])


@pytest.fixture(scope="module")
def views() -> tuple[Image, Image, Homography]:
    """A crop of the lower rows of a band, the same seen from elsewhere in another light, and the truth."""
    planes, _ = read_bands({"red": require_source("sentinel2-b04")})
    plane = planes["red"][count_learned_rows(len(planes["red"])) :]
    truth, grid = Homography(TILT), Grid((SIDE, SIDE), np.eye(3))
    rows, columns = np.indices((SIDE, SIDE))
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(float)
    crops = []
    for places in (pixels, truth.inverse().apply(pixels)):
        where = (places + np.array([300, 50]))[:, ::-1].T
        crops.append(map_coordinates(plane, where, order=3).reshape(1, SIDE, SIDE).astype(np.float32))
    return Image(crops[0], grid), Image(np.sqrt(crops[1]) * (1 + columns / SIDE), grid), truth


def measure_error(found: Transform, truth: Transform) -> float:
    return float(np.linalg.norm(found.apply(CORNERS) - truth.apply(CORNERS), axis=1).mean())


def ask(name: str, fixed: Image, moving: Image, threads: int = 1, **given: Any) -> Transform:
    row = METHODS[name]
    context = RunContext(threads=threads)
    return run_method(row, fixed, moving, Affine.identity(2), row.complete(given), context).transform


@pytest.mark.parametrize("name", NAMES)
def test_corners_of_unseen_ground_are_found_and_refined(name, views):
    fixed, moving, truth = views
    before = measure_error(Affine.identity(2), truth)
    found = ask(name, fixed, moving, refine="none")
    assert measure_error(found, truth) < LEFT[name] * before
    assert np.array_equal(found.apply(CORNERS), ask(name, fixed, moving, 2, refine="none").apply(CORNERS))


def test_windows_refine_what_learned_features_find(views):
    fixed, moving, truth = views
    assert measure_error(ask("deep-lk", fixed, moving), truth) < 0.3


def test_the_world_and_the_size_of_pixels_do_not_matter(views):
    fixed, moving = views[:2]
    grid = Grid((SIDE, SIDE), np.array([[10.0, 0, 5e5], [0, -10.0, 5e6], [0, 0, 1]]))
    there = ask("deep-lk", *(Image(1000 + 50 * part.data, grid) for part in (fixed, moving)), refine="none")
    here = ask("deep-lk", fixed, moving, refine="none")
    shown = grid.to_index(there.apply(grid.to_world(CORNERS)))
    assert np.abs(shown - here.apply(CORNERS)).max() < 0.05


def test_an_affine_map_is_what_is_sought_where_it_is_asked_for(views):
    assert isinstance(ask("deep-lk", *views[:2], model="affine", refine="none"), Affine)


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_another_architecture_or_none_are_refused(name, views, tmp_path):
    with pytest.raises(RegistrationError, match="neither a file nor in resources/weights"):
        ask(name, *views[:2], weights="no such network")
    other = "goturn" if name == "deep-lk" else "deep-lk"
    with pytest.raises(RegistrationError, match=r"is of the architecture .*correct the option 'weights'"):
        ask(name, *views[:2], weights=other)


def test_a_picture_of_one_value_is_refused(views):
    flat = Image(np.ones((1, SIDE, SIDE), np.float32), views[0].grid)
    with pytest.raises(RegistrationError, match="the moving image is constant"):
        ask("deep-lk", views[0], flat)


def test_corners_determine_the_map_and_affine_ones_do_not_bend():
    shifts = torch.from_numpy(np.random.default_rng(0).uniform(-0.4, 0.4, (3, 4, 2)).astype(np.float32))
    for given in (shifts, fit_affine_shifts(shifts)):
        maps = solve_corners(given)
        corners = list_corners(shifts)
        moved = torch.cat([corners, torch.ones(4, 1)], dim=1) @ maps.transpose(1, 2)
        assert torch.allclose(moved[..., :2] / moved[..., 2:], corners + given, atol=1e-5)
    assert maps[:, 2, :2].abs().max() < 1e-5


@pytest.mark.parametrize("parameters", PARAMETERS.values())
def test_steps_follow_a_shift_exactly(parameters):
    rows, columns = np.indices((64, 64)) / 64
    across, down = 0.04, -0.06
    images = []
    for x, y in ((columns, rows), (columns - across / 2, rows - down / 2)):
        waves = (np.sin(9 * y) * np.cos(7 * x), np.cos(5 * y) * np.sin(6 * x), np.full_like(x, 20.0))
        images.append(torch.from_numpy(np.stack(waves)[None].astype(np.float32)))
    everywhere, start = torch.ones(1, 1, 64, 64), torch.eye(3)[None]
    damping = torch.full((8,), 1e-4)
    *_, last = take_steps((images[0], images[1]), (everywhere,) * 2, start, damping, parameters, 4)
    found = last[0]
    assert found[:2, 2].numpy() == pytest.approx([across, down], abs=1e-3)
    assert found[:2, :2].numpy() == pytest.approx(np.eye(2), abs=5e-3)


def test_a_saved_network_answers_alike(tmp_path, views):
    description = ModelDescription(
        "twin-corners", {"side": 32, "widths": [4, 4, 4, 4], "hidden": 4, "answer": "box"}
    )
    torch.manual_seed(0)
    save_model(tmp_path / "small.safetensors", build_model(description), description)
    found = ask("goturn", *views[:2], weights=str(tmp_path / "small.safetensors"), refine="none")
    assert isinstance(found, Affine)
