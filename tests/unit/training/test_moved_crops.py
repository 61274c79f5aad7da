"""Examples of moved crops: their truth is true, and they come from the upper rows alone."""

from typing import Any

import numpy as np
import pytest
import torch

from regflow.core.errors import InputError
from regflow.methods.initialize.plane_maps_torch import (
    list_pixels,
    look_up,
    measure_corner_distances,
    move_points,
    solve_corners,
)
from regflow.training import images, moved_crops
from regflow.training.images import AlignedImages, count_learned_rows, read_aligned_images, read_learned_bands
from regflow.training.loop import run_training
from regflow.training.moved_crops import MovedCrops
from regflow.training.options import complete_training_options
from regflow.training.tasks import TASKS

SIDE = 32
SMALL: dict[str, dict[str, Any]] = {
    "corners": {"widths": [4, 4, 4, 4], "hidden": 8},
    "alignment-features": {"widths": [4, 4, 4], "features": 4, "iterations": [2, 2]},
}


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SHAPE_MAPS", 2)


def small_settings(task: str, **options: Any) -> dict[str, Any]:
    given = complete_training_options("rasters", task=task, shares={"shapes": 1}, side=SIDE)
    given |= {"options": {**SMALL[task], **options}, "steps": 3, "batch": 10, "warmup": 1}
    given |= {"validate_every": 3, "validation_pairs": 2, "precision": "float32"}
    return TASKS[task].complete(given)


def draw_waves(side: int, same: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices((side, side)) * (2 * np.pi / side)
    image = (np.sin(3 * rows + 1) + np.cos(2 * columns + rows)).astype(np.float32)
    return image, image


def test_the_moving_crop_shows_at_the_mapped_places_what_the_fixed_one_does(monkeypatch):
    monkeypatch.setattr(moved_crops, "_change_looks", lambda crops, rng: crops)
    drawn = MovedCrops(AlignedImages([draw_waves], [1.0]), 64, 1.0, 0.2).draw(np.random.default_rng(1))
    crops, maps = drawn["crops"][None], solve_corners(drawn["shifts"][None])
    moved = look_up(crops[:, 1:], move_points(maps, list_pixels((64, 64), crops)))
    inside = (move_points(maps, list_pixels((64, 64), crops)).abs() < 0.95).all(dim=-1)[0]
    assert 0.3 < inside.float().mean() < 1
    assert (moved[0, 0] - crops[0, 0].flatten())[inside].abs().max() < 0.03
    assert measure_corner_distances(maps, drawn["shifts"][None]).max() < 1e-5


def test_bands_end_where_the_rows_begin_that_judge():
    bands = read_learned_bands().bands
    assert bands.shape == (10, count_learned_rows(768), images.CLEAR_COLUMNS)
    first, second = read_aligned_images({"bands": 1}, 0).draw(48, 0.0, np.random.default_rng(0))
    assert first.shape == second.shape == (48, 48)
    assert (first.min(), first.max()) == (0, 1)


@pytest.mark.parametrize("shares", [{"scans": 1}, {"bands": 0}])
def test_shares_of_what_makes_no_pictures_are_refused(shares):
    with pytest.raises(InputError, match=r"train: shares: .*bands or shapes"):
        read_aligned_images(shares, 0)


@pytest.mark.parametrize("change", [{"ndim": 3}, {"side": 40}, {"start_from": "scenes2d"}])
def test_what_cannot_be_trained_is_refused_by_its_key(change):
    with pytest.raises(InputError, match=f"train: {next(iter(change))}: "):
        TASKS["corners"].complete({**small_settings("corners"), **change})


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("corners", {}),
        ("corners", {"sees": "twin", "answer": "box"}),
        ("corners", {"taught_by": "brightness"}),
        ("alignment-features", {}),
    ],
)
def test_some_steps_change_a_network_in_the_same_way_whatever_the_threads(task, options, tmp_path):
    settings, row = small_settings(task, **options), TASKS[task]
    found = [
        run_training(row.load(), settings, tmp_path / str(threads), seed=5, threads=threads, workers=0)
        for threads in (1, 2)
    ]
    first, second = (each.network.state_dict() for each in found if each is not None)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(np.isfinite(list(found[0].history[-1].values())))
    fresh = row.load()(settings, 5).build().state_dict()
    assert any(not torch.equal(first[name], fresh[name]) for name in first)
