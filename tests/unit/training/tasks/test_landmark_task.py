"""Landmarks learned from a few painted wings are found in others, and bring them together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from training_runs import run, tiny

from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine
from regflow.io.landmarks import write_landmarks
from regflow.io.raster_files import write_raster
from regflow.io.volumes import write_volume
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.landmark_net import landmark_net
from regflow.methods.initialize.landmark_network import find_peaks
from regflow.methods.learned_models import save_model
from regflow.methods.table import list_methods_of_kind
from regflow.training.tasks import TASKS
from regflow.training.tasks.landmarks import make_task, read_annotated

TIPS = {"root": (20.0, 48.0), "tip": (84.0, 40.0), "notch": (60.0, 62.0), "cell": (50.0, 34.0)}
SIZES = {"root": 7.0, "tip": 3.0, "notch": 5.0, "cell": 2.0}
SIDE = 96


def paint_wing(seed: int, turn: Affine | None = None) -> tuple[Image, np.ndarray]:
    """Return a wing whose landmarks are blobs of their own sizes on lines, and where they are."""
    rng = np.random.default_rng(seed)
    points = np.array(list(TIPS.values())) + rng.uniform(-3, 3, (len(TIPS), 2))
    if turn is not None:
        points = turn.apply(points)
    rows, columns = np.indices((SIDE, SIDE))
    values = np.zeros((SIDE, SIDE))
    for (x, y), size in zip(points, SIZES.values(), strict=True):
        values += np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * size**2))
    for one, other in zip(points, points[[1, 2, 3, 0]], strict=True):
        for share in np.linspace(0, 1, 200):
            x, y = np.rint(one + share * (other - one)).astype(int)
            values[np.clip(y, 0, SIDE - 1), np.clip(x, 0, SIDE - 1)] += 0.02
    values = gaussian_filter(values, 0.7) + 0.01 * rng.standard_normal(values.shape)
    return Image(values.astype(np.float32)[None], Grid((SIDE, SIDE), np.eye(3))), points


def write_wings(folder: Path, seeds: Sequence[int]) -> Path:
    for seed in seeds:
        image, points = paint_wing(seed)
        write_raster(folder / f"wing{seed}.tif", image.data, image.grid)
        rows = [f"{name},{x},{y}" for name, (x, y) in zip(TIPS, points, strict=True)]
        (folder / f"wing{seed}.csv").write_text("\n".join(["name,x,y", *rows]), encoding="utf-8")
    return folder


def settings(folder: Path, **given: Any) -> dict[str, Any]:
    small = {"channels": [8, 16, 32], "side": 48, "steps": 120, "batch": 4, "rate": 5e-3, "warmup": 5}
    options = {"annotated": str(folder)}
    own = {"task": "landmarks", "options": options, "average": 0.9, "validate_every": 60}
    return tiny(**{**small, **own, **given})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_wings(tmp_path_factory.mktemp("wings"), range(6))
    result = run(settings(folder), folder / "training", threads=2)
    assert result is not None
    assert result.history[-1]["landmark_error"] < 2
    save_model(folder / "wings.safetensors", result.network, result.description)
    return folder / "wings.safetensors"


def align(fixed: Image, moving: Image, weights: Path | None, **given: Any) -> Any:
    row = list_methods_of_kind(METHODS, "rasters")["landmark-net"]
    options = row.complete({"weights": None if weights is None else str(weights), **given})
    return landmark_net(fixed, moving, Affine.identity(2), options, RunContext())


def test_a_turned_wing_that_was_never_seen_comes_onto_another(trained: Path) -> None:
    turn = np.deg2rad(15)
    pose = Affine.from_parts(
        np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]), (4.0, -3.0), (47.5, 47.5)
    )
    (fixed, here), (moving, there) = paint_wing(100), paint_wing(100, pose)
    found = align(fixed, moving, trained, model="rigid")
    before = np.linalg.norm(here - there, axis=1).mean()
    after = np.linalg.norm(found.transform.apply(here) - there, axis=1).mean()
    assert before > 6
    assert after < 1.5
    assert found.landmarks is not None


def test_threads_change_no_byte(tmp_path: Path) -> None:
    write_wings(tmp_path, range(3))
    short = settings(tmp_path, steps=2, validate_every=2)
    one, two = (run(short, tmp_path / str(threads), threads=threads) for threads in (1, 2))
    assert one is not None
    assert two is not None
    assert all(v.equal(two.network.state_dict()[k]) for k, v in one.network.state_dict().items())


def test_examples_show_landmarks_where_they_are(tmp_path: Path) -> None:
    complete = TASKS["landmarks"].complete(settings(write_wings(tmp_path, range(2))))
    batch = make_task(complete, 0).examples.batch(range(4))
    for maps, places in zip(batch["maps"], batch["places"], strict=True):
        inside = ((places > 4) & (places < 43)).all(dim=1)
        found, sure = find_peaks(torch.log(maps + 1e-9))
        assert inside.sum() >= 2
        assert (found - places)[inside].abs().max() < 0.1
        assert sure[inside].min() > 0.9


def test_what_lacks_landmarks_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annotated: name the folder of images and their landmarks"):
        read_annotated(None, 48, 2)
    with pytest.raises(InputError, match="annotated: no images"):
        read_annotated(str(tmp_path), 48, 2)
    write_wings(tmp_path, [1, 2])
    (tmp_path / "wing2.csv").write_text("name,x,y\nroot,1,2\nother,3,4\n", encoding="utf-8")
    with pytest.raises(InputError, match="share 1 landmarks by name; at least 3 are needed"):
        read_annotated(str(tmp_path), 48, 2)
    (tmp_path / "wing2.csv").unlink()
    with pytest.raises(InputError, match=r"no landmarks stand beside it; add wing2\.csv"):
        read_annotated(str(tmp_path), 48, 2)


def test_a_network_has_to_be_named_and_sure(trained: Path) -> None:
    fixed, _ = paint_wing(7)
    with pytest.raises(RegistrationError, match="no network is named; train one on images of yours"):
        align(fixed, fixed, None)
    noise = Image(np.random.default_rng(0).random((1, SIDE, SIDE), np.float32), fixed.grid)
    with pytest.raises(RegistrationError, match="landmark"):
        align(fixed, noise, trained, model="homography")
    volume = Image(np.zeros((1, 8, 8, 8), np.float32), Grid((8, 8, 8), np.eye(4)))
    with pytest.raises(RegistrationError, match="for images of 2 dimensions, not 3; correct the option"):
        align(volume, volume, trained)


def test_volumes_are_read_with_their_landmarks(tmp_path: Path) -> None:
    grid = Grid.from_geometry((24, 28, 26), (2.0, 2.0, 2.0), (-20.0, 5.0, 7.0))
    points = grid.to_world(np.array([[6.0, 7.0, 8.0], [20.0, 9.0, 12.0], [11.0, 22.0, 15.0]]))
    values = np.zeros(grid.shape, np.float32)
    for x, y, z in np.rint(grid.to_index(points)).astype(int):
        values[z, y, x] = 1
    write_volume(tmp_path / "head.nii.gz", gaussian_filter(values, 1.5), grid)
    write_landmarks(tmp_path / "head.mrk.json", Landmarks(("ear", "nose", "chin"), points))
    complete = TASKS["landmarks"].complete(settings(tmp_path, ndim=3, side=16))
    drawn = make_task(complete, 0).examples.batch([0])
    assert drawn["image"].shape == (1, 1, 16, 16, 16)
    at = np.rint(drawn["places"][0].numpy()).astype(int)
    heat, bright = drawn["maps"][0].numpy(), drawn["image"][0, 0].numpy()
    for number, place in enumerate(at):
        assert heat[number][tuple(place)] == pytest.approx(heat[number].max(), rel=0.2)
        assert bright[tuple(place)] > np.percentile(bright, 90)
