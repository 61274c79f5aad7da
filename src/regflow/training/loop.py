"""The training loop: from settings to trained weights, through any number of interruptions."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from regflow.core.devices import (
    choose_torch_device,
    count_session_threads,
    enable_half_precision,
    map_over_threads,
    open_torch_session,
)
from regflow.core.errors import RegistrationError
from regflow.core.processor import read_processor_name
from regflow.training.board import TrainingBoard
from regflow.training.processes import TrainingProcesses
from regflow.training.state import TrainingState, load_state, save_state
from regflow.training.task import Batch, Examples, Sums, TrainingTask

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
VALIDATION_START = 1 << 40
"""Number of the first validation pair: training never comes so far."""
AHEAD = 2
"""Batches that each drawing process has ready while the network computes."""
MAY_CHANGE = {
    *("steps", "validate_every", "precision", "device", "workers"),
    *("name", "license", "about"),
}
"""Settings that a resumed training may have changed."""


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training came to.

    Attributes:
        network: with the averaged weights.
        description: how it is built and fed.
        kept: whether these are not the trained weights but those that it began with, because they serve
            better.
        history: rows of figures, one per validation.
        seconds: of computing.
        device: its name.
        save: writes the network with its description to a file.
    """

    network: nn.Module
    description: Any
    kept: bool
    history: list[dict[str, float]]
    seconds: float
    device: str
    save: Callable[[Path, nn.Module, Any], None]


def run_training(
    make_task: Callable[[Mapping[str, Any], int], TrainingTask],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
    workers: int = 1,
    stop_after: int | None = None,
) -> TrainingResult | None:
    """Train, going on from the folder's checkpoint if there is one.

    Args:
        make_task: of the settings and the seed, what is learned.
        settings: the ``train`` section, complete (``options.TRAIN``).
        folder: for the checkpoint and the TensorBoard events.
        seed: of weights and pairs.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of the CPU, each for one pair of a batch at a time; no result depends on it.
        workers: processes that draw pairs; 0 draws them in between. No result depends on it.
        stop_after: end after that many steps in this run, leaving a checkpoint.

    Returns:
        The averaged network; None when it ended early, or in all processes but the first.

    Raises:
        InputError: training data or a network to start from are missing or wrong.
        RegistrationError: the loss stopped being a number.
    """
    with (
        TrainingProcesses.join(device) as processes,
        open_torch_session(threads, seed, deterministic=False),
    ):
        where = processes.device or choose_torch_device(device)
        task = make_task(settings, seed)
        state = _fresh_state(task, settings["rate"], where)
        fixed_settings = {key: value for key, value in settings.items() if key not in MAY_CHANGE}
        fixed_settings["seed"] = seed
        checkpoint = folder / CHECKPOINT
        if checkpoint.is_file():
            load_state(checkpoint, state, fixed_settings)
            log.info("going on from step %d", state.step)
        run = TrainingRun(settings, task, state, where, processes)
        with TrainingBoard.open(folder, processes.is_first) as board:
            _climb(run, board, checkpoint, fixed_settings, workers, stop_after)
        if state.step < settings["steps"] or not processes.is_first:
            return None
        return _finished(run)


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """All that a step needs."""

    settings: Mapping[str, Any]
    task: TrainingTask
    state: TrainingState
    device: torch.device
    processes: TrainingProcesses

    def predict(self, *seen: Any) -> Any:
        """Ask the network in training, in the precision of the settings."""
        with enable_half_precision(self.device, self.settings["precision"]):
            return self.state.network(*seen)


def _finished(run: TrainingRun) -> TrainingResult:
    """Return the averaged network, or what the task keeps instead."""
    trained = run.task.build()
    trained.load_state_dict({name: value.cpu() for name, value in run.state.average.items()})
    network, description = run.task.choose(trained.eval())
    kept = network is not trained
    state, device = run.state, _name(run.device)
    return TrainingResult(network, description, kept, state.history, state.seconds, device, run.task.save)


def schedule_rate(step: int, settings: Mapping[str, Any]) -> float:
    """Return the rate of a step: a rise, then half a cosine down to a hundredth."""
    highest, rise = settings["rate"], settings["warmup"]
    if step < rise:
        return float(highest * (step + 1) / rise)
    done = min(1.0, (step - rise) / max(1, settings["steps"] - rise))
    return float(highest * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2))


def validate_network(
    run: TrainingRun, board: TrainingBoard, figures: Mapping[str, float]
) -> dict[str, float]:
    """Measure the averaged weights on the validation pairs.

    Args:
        run: the training.
        board: where to show them.
        figures: what else is known of the step.

    Returns:
        ``figures``, with the means of what the task measures.
    """
    trained = {name: value.clone() for name, value in run.state.network.state_dict().items()}
    run.state.network.load_state_dict(run.state.average)
    size = run.settings["batch"]
    measured = []
    for first in range(0, run.settings["validation_pairs"], size):
        count = min(size, run.settings["validation_pairs"] - first)
        numbers = [VALIDATION_START + first + k for k in range(count)]
        batch = run.task.examples.batch(numbers).to(run.device)
        with torch.no_grad():
            measured.append(run.task.measure(run.predict, batch))
    with torch.no_grad():
        images = run.task.show(run.predict, batch)
    run.state.network.load_state_dict(trained)
    result = {**figures, **_means(measured)}
    board.record_validation(result, images)
    return result


def _means(measured: Sequence[Sums]) -> dict[str, float]:
    names = dict.fromkeys(name for figures in measured for name in figures)
    sums = {name: [figures[name] for figures in measured if name in figures] for name in names}
    return {name: sum(s for s, _ in parts) / sum(n for _, n in parts) for name, parts in sums.items()}


def _climb(
    run: TrainingRun,
    board: TrainingBoard,
    checkpoint: Path,
    fixed_settings: Mapping[str, Any],
    workers: int,
    stop_after: int | None,
) -> None:
    state, settings = run.state, run.settings
    last = settings["steps"]
    if stop_after is not None:
        last = min(last, state.step + stop_after)
    began, before = time.perf_counter(), state.seconds
    losses: list[float] = []
    for batch in _batches(run, state.step, last, workers):
        terms = _step(run, batch.to(run.device))
        state.seconds = before + time.perf_counter() - began
        board.record_step(state.step, last, terms)
        losses.append(terms["loss"])
        if state.step % settings["validate_every"] == 0 or state.step == last:
            figures = validate_network(
                run, board, {"step": float(state.step), "loss": sum(losses) / len(losses)}
            )
            losses.clear()
            state.history = [*state.history, figures]
            if run.processes.is_first:
                save_state(checkpoint, state, fixed_settings)
            run.processes.wait()


def _step(run: TrainingRun, batch: Batch) -> dict[str, float]:
    state, settings = run.state, run.settings
    for group in state.adam.param_groups:
        group["lr"] = schedule_rate(state.step, settings)
    figures, gradients = _learn(run, batch)
    figures = run.processes.average_figures(figures)
    if not math.isfinite(figures["loss"]):
        raise RegistrationError(
            f"train: the loss became {figures['loss']} at step {state.step}; lower 'rate'"
        )
    run.processes.average_gradients(gradients)
    for parameter, gradient in zip(state.network.parameters(), gradients, strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(state.network.parameters(), settings["clip"])
    state.adam.step()
    state.step += 1
    # Early on the average follows faster, unless it begins at weights that mean something.
    soonest = 1.0 if settings["start_from"] else (1 + state.step) / (10 + state.step)
    decay = min(settings["average"], soonest)
    _follow(state.average, state.network.state_dict(), decay)
    return figures


def _learn(run: TrainingRun, batch: Batch) -> tuple[dict[str, float], list[Tensor]]:
    """Return a batch's loss with its terms, and the loss's gradient for each parameter.

    Parts learn by themselves, on a CPU as many at a time as there are threads, and gradients are added
    in the order of the parts: no byte depends on the threads.
    """
    parameters = list(run.state.network.parameters())

    def learn(part: Any) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        loss, terms = run.task.compute_loss(run.predict, part)
        # Displacements that are no numbers crash the gradient of sampling; the step ends in an error.
        finite = bool(loss.isfinite())
        gradients = torch.autograd.grad(loss, parameters) if finite else [p.detach() for p in parameters]
        return {"loss": loss.detach(), **terms}, gradients

    parts = run.task.prepare(run.predict, batch)
    learned = [learn(part) for part in parts] if run.device.type == "cuda" else map_over_threads(learn, parts)
    figures = {name: _mean([float(each[name]) for each, _ in learned]) for name in learned[0][0]}
    return figures, [_mean(each) for each in zip(*(gradients for _, gradients in learned), strict=True)]


def _mean(parts: Sequence[Any]) -> Any:
    """Return the mean of numbers or tensors, added in their order."""
    return sum(parts[1:], start=parts[0]) / len(parts)


def _follow(average: dict[str, Tensor], weights: Mapping[str, Tensor], decay: float) -> None:
    for name, value in average.items():
        value.lerp_(weights[name].detach(), 1 - decay)


def _batches(run: TrainingRun, first: int, last: int, workers: int) -> Iterable[Any]:
    """Return the batch of each step, drawn ahead by other processes, in order."""
    size = run.settings["batch"]
    numbers = [
        run.processes.select_share(range(step * size, (step + 1) * size)) for step in range(first, last)
    ]
    return DataLoader(
        BatchDataset(run.task.examples, numbers),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=run.device.type == "cuda",
    )


@dataclass(frozen=True, eq=False)
class BatchDataset(Dataset[Any]):
    """The batches of a stretch of steps.

    Attributes:
        examples: what they are drawn from.
        numbers: those of the examples of each step.
    """

    examples: Examples
    numbers: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        return self.examples.batch(self.numbers[index])


def _fresh_state(task: TrainingTask, rate: float, device: torch.device) -> TrainingState:
    network = task.build().to(device)
    network.requires_grad_(True).train()
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return TrainingState(network, average, torch.optim.Adam(network.parameters(), lr=rate))


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({read_processor_name()}), {count_session_threads()} threads"
