"""The training loop: from settings to trained weights, through any number of interruptions."""

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from regflow.methods.refine.losses_torch import compute_mind_difference
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.methods.refine.weights import (
    NetworkDescription,
    build_network,
    load_network,
    read_weights,
    use_channels_last,
)
from regflow.methods.refine.weights_files import find_weights
from regflow.training.board import TrainingBoard
from regflow.training.cohort import CohortPairs
from regflow.training.objective import (
    BatchInput,
    compute_objective,
    measure_end_point_errors,
    predict_all,
    predict_batch,
    prepare_batch,
)
from regflow.training.painting import SAMPLED_RANGE
from regflow.training.pairs import PairMixture, TrainingBatch
from regflow.training.passes import measure_best_relaxation
from regflow.training.processes import TrainingProcesses
from regflow.training.sources import build_mixture
from regflow.training.state import TrainingState, load_state, save_state

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
VALIDATION_START = 1 << 40
"""Number of the first validation pair: training never comes so far."""
AHEAD = 2
"""Batches that each drawing process has ready while the network computes."""
MEASURED = 4
"""Pairs of a cohort on which it is measured how far a network's passes best go."""
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
        kept: whether these are the weights of the network to start from, because they come nearer to the
            truth of a cohort's pairs.
        history: rows of figures, one per validation.
        seconds: of computing.
        device: its name.
    """

    network: nn.Module
    description: NetworkDescription
    kept: bool
    history: list[dict[str, float]]
    seconds: float
    device: str


def run_training(
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
        TrainingProcesses.joined(device) as processes,
        open_torch_session(threads, seed, deterministic=False),
    ):
        where = processes.device or choose_torch_device(device)
        description = describe_terms(settings)
        mixture = build_mixture(settings, seed)
        state = _fresh_state(settings, description, where)
        fixed_settings = {key: value for key, value in settings.items() if key not in MAY_CHANGE}
        fixed_settings["seed"] = seed
        checkpoint = folder / CHECKPOINT
        if checkpoint.is_file():
            load_state(checkpoint, state, fixed_settings)
            log.info("going on from step %d", state.step)
        run = TrainingRun(settings, description, mixture, state, where, processes)
        with TrainingBoard.opened(folder, processes.first) as board:
            _climb(run, board, checkpoint, fixed_settings, workers, stop_after)
        if state.step < settings["steps"] or not processes.first:
            return None
        return _finished(run)


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """All that a step needs."""

    settings: Mapping[str, Any]
    description: NetworkDescription
    mixture: PairMixture
    state: TrainingState
    device: torch.device
    processes: TrainingProcesses

    def network(self, seen: Tensor) -> Tensor:
        """Ask the network in training, in the precision of the settings."""
        with enable_half_precision(self.device, self.settings["precision"]):
            found: Tensor = self.state.network(seen)
        return found


def describe_terms(settings: Mapping[str, Any]) -> NetworkDescription:
    """Return the network that the settings ask for."""
    if settings["start_from"]:
        return read_weights(find_weights(settings["start_from"]))[1]
    channels = tuple(settings["channels"])
    low, high = SAMPLED_RANGE
    return NetworkDescription(
        ndim=settings["ndim"],
        channels=channels,
        unet_out_channels=channels[1],
        final_channels=(channels[1],),
        spacing=settings["spacing"],
        intensity={"method": "percentile", "low": low, "high": high},
        masked=False,
        half_resolution=False,
        fold=settings["fold"],
        search=settings["search"],
        fine_search=settings["fine_search"],
        passes=tuple(settings["passes"]),
        relaxation=tuple(settings["relaxation"]),
    )


def _finished(run: TrainingRun) -> TrainingResult:
    """Return the averaged network, or after a cohort what serves it best."""
    trained = build_network(run.description)
    trained.load_state_dict({name: value.cpu() for name, value in run.state.average.items()})
    description = run.description
    network: nn.Module = trained.eval()
    cohort = run.mixture.sources.get("cohort")
    if isinstance(cohort, CohortPairs):
        network, relaxation = _best_on(cohort, run, network)
        description = replace(description, relaxation=relaxation)
    kept = network is not trained
    return TrainingResult(network, description, kept, run.state.history, run.state.seconds, _name(run.device))


def _best_on(
    cohort: CohortPairs, run: TrainingRun, trained: nn.Module
) -> tuple[nn.Module, tuple[float, ...]]:
    """Return the trained network or its start, whichever serves a cohort better, and its relaxation there."""
    networks = {"the trained network": trained}
    if run.settings["start_from"]:
        start, _ = load_network(find_weights(run.settings["start_from"]), torch.device("cpu"))
        networks["its start"] = start
    measured = {
        name: measure_best_relaxation(each, run.description, cohort.judges[:MEASURED])
        for name, each in networks.items()
    }
    for name, (relaxation, distance) in measured.items():
        log.info("train: %s, relaxation %s, ends %.3f from the truth", name, relaxation, distance)
    best = min(measured, key=lambda name: measured[name][1])
    if networks[best] is not trained:
        log.warning("train: the weights of the network to start from are kept: they serve the cohort better")
    return networks[best], measured[best][0]


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
        ``figures``, with what the pairs allow: ``epe``, the mean distance to the truth, and
        ``epe_start``, that of no displacement, samples; ``difference`` and ``difference_start``,
        the squared difference of descriptors of pairs of which nothing is known.
    """
    trained = {name: value.clone() for name, value in run.state.network.state_dict().items()}
    run.state.network.load_state_dict(run.state.average)
    size = run.settings["batch"]
    measured = []
    for first in range(0, run.settings["validation_pairs"], size):
        count = min(size, run.settings["validation_pairs"] - first)
        batch = run.mixture.batch([VALIDATION_START + first + k for k in range(count)]).to(run.device)
        found = predict_all(run.network, run.description, batch)
        measured.append(_measured(found.displacement, batch))
    run.state.network.load_state_dict(trained)
    result = {**figures, **_means(measured)}
    board.validation(result, batch, sample_channels(batch.moving, found.displacement).cpu().numpy())
    return result


def _measured(displacement: Tensor, batch: TrainingBatch) -> dict[str, tuple[float, int]]:
    """Return figures of a batch: the sum over the pairs that allow one, and how many do."""
    known = int((batch.known.flatten(1).sum(dim=1) > 0).sum())
    bare = batch.unlabeled > 0
    figures = {}
    for name, field in (("", displacement), ("_start", torch.zeros_like(displacement))):
        if known:
            errors = measure_end_point_errors(field, batch.truth, batch.known)
            figures[f"epe{name}"] = float(errors.sum()), known
        if bool(bare.any()):
            warped = sample_channels(batch.moving[bare], field[bare])
            each = float(compute_mind_difference(batch.fixed[bare], warped))
            figures[f"difference{name}"] = each * len(warped), len(warped)
    return figures


def _means(measured: Sequence[Mapping[str, tuple[float, int]]]) -> dict[str, float]:
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
        board.step(state.step, last, terms)
        losses.append(terms["loss"])
        if state.step % settings["validate_every"] == 0 or state.step == last:
            figures = validate_network(
                run, board, {"step": float(state.step), "loss": sum(losses) / len(losses)}
            )
            losses.clear()
            state.history = [*state.history, figures]
            if run.processes.first:
                save_state(checkpoint, state, fixed_settings)
            run.processes.wait()


def _step(run: TrainingRun, batch: TrainingBatch) -> dict[str, float]:
    state, settings = run.state, run.settings
    for group in state.adam.param_groups:
        group["lr"] = schedule_rate(state.step, settings)
    figures, gradients = _learn(run, batch)
    figures = run.processes.averaged(figures)
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


def _learn(run: TrainingRun, batch: TrainingBatch) -> tuple[dict[str, float], list[Tensor]]:
    """Return a batch's loss with its terms, and the loss's gradient for each parameter.

    On a CPU each pair learns by itself, as many at a time as there are threads, and gradients are added
    in the order of the pairs: no byte depends on the threads.
    """
    parameters = list(run.state.network.parameters())
    asked = prepare_batch(run.network, run.description, batch)

    def learn(part: tuple[BatchInput, TrainingBatch]) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        found = predict_batch(run.network, run.description, part[0])
        loss, terms = compute_objective(found, part[1], run.settings["weights"])
        # Displacements that are no numbers crash the gradient of sampling; the step ends in an error.
        finite = bool(loss.isfinite())
        gradients = torch.autograd.grad(loss, parameters) if finite else [p.detach() for p in parameters]
        return {"loss": loss.detach(), **terms}, gradients

    if run.device.type == "cuda":
        learned = [learn((asked, batch))]
    else:
        learned = map_over_threads(learn, list(zip(asked.split(), batch.split(), strict=True)))
    figures = {name: _mean([float(each[name]) for each, _ in learned]) for name in learned[0][0]}
    return figures, [_mean(each) for each in zip(*(gradients for _, gradients in learned), strict=True)]


def _mean(parts: Sequence[Any]) -> Any:
    """Return the mean of numbers or tensors, added in their order."""
    return sum(parts[1:], start=parts[0]) / len(parts)


def _follow(average: dict[str, Tensor], weights: Mapping[str, Tensor], decay: float) -> None:
    for name, value in average.items():
        value.lerp_(weights[name].detach(), 1 - decay)


def _batches(run: TrainingRun, first: int, last: int, workers: int) -> Iterable[TrainingBatch]:
    """Return the batch of each step, drawn ahead by other processes, in order."""
    size = run.settings["batch"]
    numbers = [run.processes.mine(range(step * size, (step + 1) * size)) for step in range(first, last)]
    return DataLoader(
        BatchDataset(run.mixture, numbers),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=run.device.type == "cuda",
    )


@dataclass(frozen=True, eq=False)
class BatchDataset(Dataset[TrainingBatch]):
    """The batches of a stretch of steps.

    Attributes:
        mixture: what they are drawn from.
        numbers: those of the pairs of each step.
    """

    mixture: PairMixture
    numbers: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> TrainingBatch:
        return self.mixture.batch(self.numbers[index])


def _fresh_state(
    settings: Mapping[str, Any], description: NetworkDescription, device: torch.device
) -> TrainingState:
    if settings["start_from"]:
        network = load_network(find_weights(settings["start_from"]), device)[0]
        network.requires_grad_(True)
    else:
        network = use_channels_last(build_network(description).to(device))
    network.train()
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return TrainingState(network, average, torch.optim.Adam(network.parameters(), lr=settings["rate"]))


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({read_processor_name()}), {count_session_threads()} threads"
