"""A training as a product: trained weights and their model card, both whole or absent."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regflow.core.files import write_whole
from regflow.methods.weight_files import SUFFIX, find_weight_file, read_tensors
from regflow.training.card import describe_data, write_model_card
from regflow.training.loop import TrainingResult, run_training
from regflow.training.settings import compute_checksums
from regflow.training.tasks import TASKS, TaskRow
from regflow.training.terms import find_license

log = logging.getLogger(__name__)


def train_network(
    output: str | Path, *, settings: Mapping[str, Any], seed: int = 0, threads: int = 1
) -> Path | None:
    """Train a network and write ``NAME.safetensors``, and its model card ``NAME.md`` beside it.

    The checkpoint and the TensorBoard events lie in ``NAME.training`` beside them. A training that
    was stopped goes on from there when the same is asked for again, and ends with the same weights.

    Args:
        output: the file of weights to write.
        settings: of :func:`regflow.training.settings.make_training_settings`.
        seed: of weights and pairs.
        threads: of the CPU.

    Returns:
        The file; None in all processes but the first of several.

    Raises:
        InputError: a setting is wrong, or training data are missing.
        RegistrationError: the loss stopped being a number.
    """
    target = Path(output)
    row = TASKS[settings["task"]]
    settings = row.complete(settings)
    folder = target.with_suffix(".training")
    trained = run_training(
        row.load(),
        {**settings, "inputs": compute_checksums(settings)},
        folder,
        seed=seed,
        device=settings["device"],
        threads=threads,
        workers=settings["workers"],
    )
    if trained is None:
        return None
    description = replace(trained.description, notes=_notes(row, trained, settings, seed))
    with write_whole(target.with_suffix(".md")) as part:
        part.write_text(write_model_card(description, row, settings, trained.history), encoding="utf-8")
        # The card is renamed last of all: weights without a card are not yet a product.
        trained.save(target, trained.network, description)
    return target


def _read_notes_of_start(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the notes of the network to start from."""
    start = settings["start_from"]
    return dict(read_tensors(find_weight_file(start))[1].get("notes", {})) if start else None


def _notes(row: TaskRow, trained: TrainingResult, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return what the file of weights says of itself."""
    what = "volumes" if settings["ndim"] == 3 else "scenes and slices"
    parameters = sum(parameter.numel() for parameter in trained.network.parameters())
    return {
        "title": f"{settings['name']}: {row.title} of {what}",
        "parameters": parameters,
        "data": describe_data(settings),
        "start_from": settings["start_from"] and Path(settings["start_from"]).name.removesuffix(SUFFIX),
        "kept": trained.kept,
        "steps": int(trained.history[-1]["step"]),
        "seconds": round(trained.seconds, 1),
        "device": trained.device,
        "seed": seed,
        "license": find_license(settings, _read_notes_of_start(settings)),
        "figures": trained.history[-1],
    }
