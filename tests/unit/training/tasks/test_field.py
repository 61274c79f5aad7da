"""Tasks of displacements: their examples are true, similarity lowers the error, threads change no byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs
from training_runs import run, tiny

from regflow.core.errors import InputError
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.training.images import AlignedImages
from regflow.training.pairs import collate_pairs
from regflow.training.tasks import TASKS
from regflow.training.tasks.field import find_seen, make_task
from regflow.training.tasks.momenta import keep_undeformed
from regflow.training.warped_images import WarpedImages


def settings(**given: Any) -> dict[str, Any]:
    weights = {"truth": 0.0, "dice": 0.0, "similarity": 1.0, "roughness": 0.1}
    return tiny(**{"task": "field", "channels": [8, 8], "weights": weights, **given})


@pytest.fixture(autouse=True)
def _few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
    monkeypatch.setattr(training_runs.sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])


@pytest.mark.parametrize(
    "given",
    [
        {"options": {"similarity": "mse"}},
        {"options": {"architecture": "control-points", "pools": 2}},
        {"options": {"similarity": "mind"}, "ndim": 3, "side": 16, "batch": 1},
        {"task": "momenta"},
        {"task": "modes", "options": {"modes": 4}, "batch": 9, "passes": [1]},
    ],
    ids=["u-net", "control points", "three dimensions", "momenta", "modes"],
)
def test_threads_change_no_byte(given: dict[str, Any], tmp_path: Path) -> None:
    one, two = (run(settings(**given), tmp_path / str(threads), threads=threads) for threads in (1, 2))
    assert one is not None
    assert two is not None
    for name, value in one.network.state_dict().items():
        assert value.equal(two.network.state_dict()[name])
    assert one.history == two.history
    assert {"epe", "epe_start"} <= one.history[-1].keys()


def warped_blobs() -> WarpedImages:
    """Pairs of one picture of smooth random blobs."""

    def draw(side: int, same: float, rng: np.random.Generator) -> tuple[Any, Any]:
        from scipy.ndimage import gaussian_filter

        picture = gaussian_filter(rng.standard_normal((side, side)), 2.5).astype(np.float32)
        picture = (picture - picture.min()) / np.ptp(picture)
        return picture, picture

    return WarpedImages(AlignedImages([draw], [1.0]), 1.0)


def test_similarity_alone_lowers_the_distance_to_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "regflow.training.tasks.field.read_aligned_images", lambda shares, seed: warped_blobs().images
    )
    given = settings(
        **{"shares": {"bands": 1.0}, "channels": [16, 16, 16], "side": 48, "steps": 60, "rate": 3e-3},
        **{"batch": 4, "average": 0.9, "validate_every": 60, "validation_pairs": 12},
    )
    trained = run(given, tmp_path)
    assert trained is not None
    assert trained.history[-1]["epe"] < 0.85 * trained.history[-1]["epe_start"]


def test_the_truth_of_warped_pictures_brings_them_together() -> None:
    batch = collate_pairs([warped_blobs()((64, 64), np.random.default_rng(seed)) for seed in range(3)])
    assert find_seen(batch).all()
    before = (batch.fixed - batch.moving)[..., 8:-8, 8:-8].square().mean()
    after = (batch.fixed - sample_channels(batch.moving, batch.truth))[..., 8:-8, 8:-8].square().mean()
    assert float(after) < 0.3 * float(before)


def test_a_momentum_moves_the_image_as_its_truth_says() -> None:
    batch = make_momenta(settings(task="momenta", side=64)).examples.batch(range(4))
    fixed, moving = batch["images"].split(1, dim=1)
    assert batch["momentum"].shape == (4, 2, 32, 32)
    assert float(batch["truth"].norm(dim=1).max()) > 0.5
    assert fixed.shape == moving.shape == (4, 1, 64, 64)


def make_momenta(given: dict[str, Any]) -> Any:
    row = TASKS["momenta"]
    return row.load()(row.complete(given), 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": {"truth": 0, "dice": 0, "similarity": 0, "roughness": 1}}, "weights: with 0 for simil"),
        ({"start_from": "scenes2d"}, "start_from: networks of the task field begin anew"),
        ({"passes": [2, 0.5]}, "passes: 0.5 is finer than the images"),
        ({"side": 18}, "side: 18 samples cannot be halved as often"),
        ({"channels": [2000, 2000]}, "channels: the weights would take"),
        ({"options": {"architecture": "control-points", "pools": 3}}, "channels: 2 numbers for 3 pools"),
        ({"task": "modes", "shares": {"subjects": 1}}, "shares: subjects: its pairs have no known displ"),
        ({"task": "modes", "side": 18, "channels": [4, 4]}, "side: 18 cannot be halved for each of the chan"),
        ({"task": "momenta", "channels": [4, 4, 4]}, "channels: 3 numbers; give two for the task momenta"),
    ],
)
def test_what_cannot_be_trained_is_refused(given: dict[str, Any], message: str) -> None:
    row = TASKS[given.get("task", "field")]
    with pytest.raises(InputError, match=f"train: {message}"):
        row.complete(settings(**given))


def test_pairs_of_two_subjects_teach_no_momenta() -> None:
    with pytest.raises(InputError, match="shares: subjects: its pairs differ by what is not known"):
        keep_undeformed("subjects", lambda shape, rng: None)  # type: ignore[arg-type,return-value]


def test_a_fresh_network_answers_next_to_nothing() -> None:
    torch.manual_seed(0)
    network = make_task(TASKS["field"].complete(settings()), 0).build()
    assert float(network(torch.rand(1, 2, 32, 32)).abs().max()) < 0.5
