"""The agent brings turned images nearer, and says in a sentence what it cannot use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, Transform
from regflow.datasets.known_pairs import move_image
from regflow.datasets.modalities import make_linear_truth, move_linearly, read_bands
from regflow.datasets.packaged import require_source
from regflow.datasets.subjects import draw_affine
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.agent_rigid import agent_rigid
from regflow.methods.learned_models import ModelDescription, build_model, save_model


def align(fixed: Image, moving: Image, **given: Any) -> Transform:
    options = METHODS["agent-rigid"].complete(given)
    return agent_rigid(fixed, moving, Affine.identity(fixed.grid.ndim), options, RunContext())


def distances(fixed: Image, truth: Transform, found: Transform) -> tuple[float, float]:
    """Return the mean distance to the truth over the object, before and after."""
    inside = np.argwhere(fixed.mask if fixed.mask is not None else np.ones(fixed.grid.shape, bool))
    points = fixed.grid.to_world(inside[::97, ::-1])
    wanted = truth.apply(points)
    return tuple(float(np.linalg.norm(wanted - p, axis=1).mean()) for p in (points, found.apply(points)))  # type: ignore[return-value]


def test_turned_brains_come_nearer(mni_4mm: Image) -> None:
    ratios = []
    for seed in range(3):
        back = draw_affine(mni_4mm.grid.center, seed, 30.0, 20.0, scale=0.0, shear=0.0)
        moving = move_image(mni_4mm, Composite((back,)), None, 0.0, seed)
        before, after = distances(mni_4mm, back.inverse(), align(mni_4mm, moving))
        assert before > 8
        ratios.append(after / before)
    assert max(ratios) < 0.85
    assert np.mean(ratios) < 0.65


def test_turned_scenes_come_nearer() -> None:
    plane = read_bands({"B04": require_source("sentinel2-b04")})[0]["B04"]
    grid = Grid((256, 256), np.eye(3))
    ratios = []
    for column in (0, 300, 600):
        fixed = Image(plane[-256:, column : column + 256].astype(np.float32)[None], grid)
        truth = make_linear_truth(grid, (12.0, -9.0), 12.0, 1.0)
        before, after = distances(fixed, truth, align(fixed, move_linearly(fixed, truth)))
        ratios.append(after / before)
    assert np.mean(ratios) < 0.8


def test_networks_of_other_dimensions_and_constant_images_are_refused(tmp_path: Path) -> None:
    description = ModelDescription("move-values", {"ndim": 3, "side": 16, "channels": [8, 8]})
    path = tmp_path / "mine.safetensors"
    save_model(path, build_model(description), description)
    picture = Image(np.random.default_rng(0).random((1, 40, 40), np.float32), Grid((40, 40), np.eye(3)))
    with pytest.raises(RegistrationError, match="network is for images of 3 dimensions, not 2; correct"):
        align(picture, picture, weights=str(path))
    volume = Image(np.zeros((1, 20, 20, 20), np.float32), Grid((20, 20, 20), np.eye(4)))
    with pytest.raises(RegistrationError, match="an image is constant where it is seen"):
        align(volume, volume, weights=str(path))
    with pytest.raises(RegistrationError, match="no valid sample"):
        align(volume.with_mask(np.zeros((20, 20, 20), bool)), volume, weights=str(path))
