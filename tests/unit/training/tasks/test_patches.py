"""Views of a corner are of one corner, and descriptors of them are learned alike on any number of threads."""

from typing import Any

import numpy as np
import pytest
import torch

from regflow.core.errors import InputError
from regflow.training import patch_views
from regflow.training.images import read_learned_bands
from regflow.training.loop import run_training
from regflow.training.options import complete_training_options
from regflow.training.patch_views import PatchViews
from regflow.training.tasks import TASKS
from regflow.training.tasks.patches import compute_triplet_loss, measure_distinction

ROW = TASKS["patch-descriptor"]


def small_settings(**changes: Any) -> dict[str, Any]:
    given = complete_training_options("rasters", task="patch-descriptor", shares={"bands": 1}, side=16)
    given |= {"options": {"widths": [4, 4, 4], "numbers": 8, "points": 2}, "steps": 3, "batch": 10}
    given |= {"warmup": 1, "validate_every": 3, "validation_pairs": 2, "precision": "float32"}
    return ROW.complete({**given, **changes})


def test_views_of_one_band_from_one_place_are_equal(monkeypatch):
    monkeypatch.setattr(patch_views, "MISSED", 0.0)
    monkeypatch.setattr(patch_views, "NOISES", (0.0, 0.0))
    kinds = {"visible": [2], "again": [2], "infrared": [3]}
    drawn = PatchViews(read_learned_bands(), kinds, 16, 3, 1.0, 0.0).draw(np.random.default_rng(0))
    assert drawn["visible"].shape == (3, 16, 16)
    assert torch.equal(drawn["visible"], drawn["again"])
    assert not torch.equal(drawn["visible"], drawn["infrared"])


def test_partners_that_are_nearest_by_the_margin_miss_nothing():
    apart = torch.eye(4)
    assert float(compute_triplet_loss(apart, apart, 1.0)) == 0
    assert float(compute_triplet_loss(apart, apart.roll(1, dims=0), 1.0)) > 2


def test_same_is_told_from_different_by_one_threshold():
    assert measure_distinction(torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.9])) == 1
    assert measure_distinction(torch.tensor([0.1, 0.6]), torch.tensor([0.3, 0.9])) == 0.75


@pytest.mark.parametrize(
    ("key", "value"), [("ndim", 3), ("side", 20), ("shares", {"shapes": 1}), ("start_from", "scenes2d")]
)
def test_what_cannot_be_trained_is_refused_by_its_key(key, value):
    with pytest.raises(InputError, match=f"train: {key}: "):
        small_settings(**{key: value})


def test_some_steps_change_the_networks_in_the_same_way_whatever_the_threads(tmp_path):
    settings = small_settings()
    found = [
        run_training(ROW.load(), settings, tmp_path / str(threads), seed=5, threads=threads, workers=0)
        for threads in (1, 2)
    ]
    first, second = (each.network.state_dict() for each in found if each is not None)
    fresh = ROW.load()(settings, 5).build().state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert name.endswith("bias") or not torch.equal(value, fresh[name])
