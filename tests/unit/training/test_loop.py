"""The training loop: what it ends with does not depend on what interrupts it or who shares the work."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import training_runs
from safetensors import safe_open
from safetensors.torch import save_file
from training_runs import run, tiny

from regflow.core.errors import InputError, RegistrationError
from regflow.training import loop, sources
from regflow.training.board import EVENTS, make_panel
from regflow.training.loop import CHECKPOINT, TrainingResult, schedule_rate
from regflow.training.state import KEY, TrainingState

DEADLINE_SECONDS = 900


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
    monkeypatch.setattr(sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])


def weights_of(trained: TrainingResult | None) -> dict[str, bytes]:
    assert trained is not None
    return {name: value.numpy().tobytes() for name, value in trained.network.state_dict().items()}


def step_of(checkpoint: Path) -> int:
    with safe_open(checkpoint, framework="pt") as store:
        return int(json.loads(store.metadata()[KEY])["step"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    """Six steps at a stretch, and their folder; do not write to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
        patch.setattr(sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])
        trained = run(tiny(), folder)
    assert trained is not None
    return folder, trained


def test_a_training_that_is_resumed_equals_one_that_was_not(
    undisturbed: tuple[Path, TrainingResult], tmp_path: Path
) -> None:
    assert run(tiny(), tmp_path, stop_after=3) is None
    assert step_of(tmp_path / CHECKPOINT) == 3
    resumed = run(tiny(), tmp_path)
    assert resumed is not None
    assert weights_of(resumed) == weights_of(undisturbed[1])
    assert resumed.history == undisturbed[1].history
    assert [row["step"] for row in resumed.history] == [3, 6]


def test_workers_and_a_finished_checkpoint_change_nothing(
    undisturbed: tuple[Path, TrainingResult], tmp_path: Path
) -> None:
    drawn = run(tiny(), tmp_path, workers=2)
    assert weights_of(drawn) == weights_of(undisturbed[1])
    again = run(tiny(), tmp_path)
    assert weights_of(again) == weights_of(undisturbed[1])


def start_program(settings: dict[str, Any], folder: Path, *launcher: str) -> subprocess.Popen[str]:
    mine = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [
        sys.executable,
        *launcher,
        str(Path(training_runs.__file__)),
        str(folder),
        json.dumps(settings),
    ]
    return subprocess.Popen(program, env=mine, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    settings = tiny(steps=40, validate_every=2, validation_pairs=1)
    checkpoint = tmp_path / "killed" / CHECKPOINT
    process = start_program(settings, checkpoint.parent)
    until = time.monotonic() + DEADLINE_SECONDS
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < step_of(checkpoint) < 40
    resumed, straight = run(settings, checkpoint.parent), run(settings, tmp_path / "straight")
    assert weights_of(resumed) == weights_of(straight)
    assert resumed is not None
    assert straight is not None
    assert resumed.history == straight.history
    assert not list(checkpoint.parent.glob(".part-*"))


@pytest.mark.slow
def test_two_processes_come_to_the_losses_of_one(tmp_path: Path) -> None:
    settings = tiny(batch=4, weights={"similarity": 0.3})
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start_program(settings, tmp_path / "two", *launcher)
    told, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, told
    alone = run(settings, tmp_path / "one")
    shared = run(settings, tmp_path / "two")
    assert alone is not None
    assert shared is not None
    assert len(alone.history) == len(shared.history) == 2
    for one, two in zip(alone.history, shared.history, strict=True):
        # Weights themselves may differ more: Adam turns a gradient's last bit into a step where it is tiny.
        assert two == pytest.approx(one, rel=1e-3)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start_program(tiny(batch=3), tmp_path, *launcher)
    told, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode != 0
    assert "train: batch: 3 pairs cannot be divided among 2 processes; give a multiple" in told


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def text(path: Path) -> None:
    path.write_text("not a checkpoint")


@pytest.mark.parametrize("spoil", [truncated, foreign, text])
def test_what_is_no_checkpoint_is_refused(
    undisturbed: tuple[Path, TrainingResult], tmp_path: Path, spoil: Any
) -> None:
    path = tmp_path / CHECKPOINT
    path.write_bytes((undisturbed[0] / CHECKPOINT).read_bytes())
    spoil(path)
    with pytest.raises(InputError, match="not a checkpoint of a training; remove it") as caught:
        run(tiny(), tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_settings_do_not_go_on_from_a_checkpoint(
    undisturbed: tuple[Path, TrainingResult], tmp_path: Path
) -> None:
    (tmp_path / CHECKPOINT).write_bytes((undisturbed[0] / CHECKPOINT).read_bytes())
    with pytest.raises(InputError, match="made with another 'rate'; remove it to start anew"):
        run(tiny(rate=0.5), tmp_path)
    longer = run(tiny(steps=7, name="other"), tmp_path)
    assert longer is not None
    assert [row["step"] for row in longer.history] == [3, 6, 7]


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match=r"the loss became (nan|inf) at step \d+; lower 'rate'"):
        run(tiny(rate=1e30, warmup=0), tmp_path)


def test_the_average_keeps_the_share_that_its_decay_says() -> None:
    average = {"w": torch.tensor([1.0, -2.0])}
    loop._follow(average, {"w": torch.tensor([0.0, 8.0])}, decay=0.9)
    assert average["w"].tolist() == pytest.approx([0.9, -1.0])


def test_gradients_longer_than_the_limit_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Linear(2, 1, bias=False)
    state = TrainingState(network, {}, torch.optim.SGD(network.parameters(), lr=1.0))
    alone = SimpleNamespace(average_figures=lambda figures: figures, average_gradients=lambda gradients: None)
    for length, left in ((5.0, 0.5), (0.25, 0.25)):
        gradient = torch.tensor([[0.6, 0.8]]) * length
        monkeypatch.setattr(
            loop, "_learn", lambda run, batch, found=gradient: ({"loss": 1.0}, [found.clone()])
        )
        loop._step(SimpleNamespace(state=state, settings=tiny(clip=0.5), processes=alone), None)
        assert network.weight.grad.norm().item() == pytest.approx(left, rel=1e-4)


def test_the_rate_rises_then_falls() -> None:
    settings = tiny(steps=100, warmup=10, rate=1.0)
    rates = [schedule_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.01)
    assert (np.diff(rates[10:]) < 0).all()


def test_curves_and_pictures_can_be_read_back(undisturbed: tuple[Path, TrainingResult]) -> None:
    """Records as TensorBoard reads them: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    files = list((undisturbed[0] / EVENTS).glob("events.out.tfevents.*"))
    assert len(files) == 1
    content, events = files[0].read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    values = [(event.step, value) for event in events for value in event.summary.value]
    scalars = {(step, value.tag): value.simple_value for step, value in values if not value.HasField("image")}
    for row in undisturbed[1].history:
        assert scalars[int(row["step"]), "validation/epe"] == pytest.approx(row["epe"], rel=1e-5)
    images = [value.image for _, value in values if value.HasField("image")]
    assert len(images) == 2
    assert (images[0].height, images[0].width) == (32, 96)


def test_a_panel_shows_the_middle_of_volumes() -> None:
    shown = make_panel([np.full((4, 6, 5), value, np.float32) for value in (0.0, 0.5, 2.0)])
    assert shown.shape == (6, 15)
    assert shown[0, ::5].tolist() == [0, 128, 255]
