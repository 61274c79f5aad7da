"""An agent's examples are true, and its training is alike on any number of threads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_runs
from training_runs import run, tiny

from regflow.core.errors import InputError, SettingError
from regflow.methods.initialize.rigid_moves import list_moves, measure_misfit
from regflow.training.deformations import find_places_seen
from regflow.training.tasks import TASKS, moves
from regflow.training.tasks.moves import draw_rigid_deformations, make_task


def settings(**given: Any) -> dict[str, Any]:
    return tiny(**{"task": "moves", "channels": [8, 8], "batch": 5, **given})


@pytest.fixture(autouse=True)
def _few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
    monkeypatch.setattr(training_runs.sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])


@pytest.mark.parametrize("shape", [(24, 24), (16, 16, 16)])
def test_poses_undo_each_other(shape: tuple[int, ...]) -> None:
    for seed in range(5):
        drawn = draw_rigid_deformations(shape, 1.0, np.random.default_rng(seed))
        there, back = (moves._find_pose(field[0].numpy()) for field in (drawn.moving, drawn.truth))
        assert there @ back == pytest.approx(np.eye(len(shape) + 1), abs=1e-4)
        assert moves.LEAST * 0.7 < measure_misfit(there) < moves.MOST * 1.3
        assert not drawn.fixed.any()


def test_the_moving_patch_looks_where_the_pose_says() -> None:
    drawn = draw_rigid_deformations((20, 20), 1.0, np.random.default_rng(3))
    places = find_places_seen(drawn.moving, np.eye(2), np.zeros(2)).reshape(2, -1) / 10
    own = (np.indices((20, 20)).reshape(2, -1) - 9.5) / 10
    pose = moves._find_pose(drawn.moving[0].numpy())
    assert places == pytest.approx(pose[:2, :2] @ own + pose[:2, 2:], abs=1e-4)


def test_the_best_value_is_of_a_move_that_comes_nearer() -> None:
    batch = make_task(settings(), 3).examples.batch(range(6))
    assert batch["images"].shape == (6, 2, 32, 32)
    assert batch["values"].shape == (6, len(list_moves(2)[1]))
    assert float(batch["values"].max()) <= 1.3
    assert (batch["values"].max(dim=1).values > 0).sum() >= 4


def test_threads_change_no_byte(tmp_path: Path) -> None:
    one, two = (run(settings(), tmp_path / str(threads), threads=threads) for threads in (1, 2))
    assert one is not None
    assert two is not None
    for name, value in one.network.state_dict().items():
        assert value.equal(two.network.state_dict()[name])
    assert one.history == two.history
    assert {"gain", "best", "nearer"} <= one.history[-1].keys()


def test_pairs_that_differ_by_more_than_a_pose_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = moves.build_mixture(settings(), 0)
    strange = moves.replace(other, sources={"shapes": lambda shape, rng: None})
    monkeypatch.setattr(moves, "build_mixture", lambda settings, seed: strange)
    with pytest.raises(
        InputError, match="shares: shapes: its pairs differ by more than a pose; set the share"
    ):
        make_task(settings(), 0)


def test_options_that_a_task_does_not_have_are_refused() -> None:
    with pytest.raises(
        SettingError, match="options: the task moves has no option 'depth'; its options: none"
    ):
        TASKS["moves"].complete(settings(options={"depth": 3}))
