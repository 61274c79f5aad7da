"""A training as a product: trained weights and their model card, both whole or absent."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError
from regflow.core.files import write_whole
from regflow.methods.refine.weights import (
    NetworkDescription,
    build_network,
    check_relaxation,
    read_weights,
    save_weights,
)
from regflow.methods.refine.weights_files import SUFFIX, find_weights
from regflow.training.card import describe_data, write_model_card
from regflow.training.loop import TrainingResult, describe_terms, run_training
from regflow.training.options import MOST_BYTES
from regflow.training.settings import compute_checksums
from regflow.training.terms import find_license

log = logging.getLogger(__name__)

OF_START = ("ndim", "channels", "fold", "search", "fine_search", "spacing", "passes", "relaxation")
"""Settings that a network to start from brings along."""


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
    settings, _ = _checked(settings)
    folder = target.with_suffix(".training")
    trained = run_training(
        {**settings, "inputs": compute_checksums(settings)},
        folder,
        seed=seed,
        device=settings["device"],
        threads=threads,
        workers=settings["workers"],
    )
    if trained is None:
        return None
    description = replace(trained.description, notes=_notes(trained, settings, seed))
    with write_whole(target.with_suffix(".md")) as part:
        part.write_text(write_model_card(description, settings, trained.history), encoding="utf-8")
        # The card is renamed last of all: weights without a card are not yet a product.
        save_weights(target, trained.network, description)
    return target


def _checked(settings: Mapping[str, Any]) -> tuple[dict[str, Any], NetworkDescription]:
    """Complete settings by those of the network to start from, and refuse what cannot be trained.

    Raises:
        InputError: before any hour of computing is spent.
    """
    settings = dict(settings)
    if settings["start_from"]:
        start = read_weights(find_weights(settings["start_from"]))[1]
        given = {name: getattr(start, name) for name in OF_START}
        settings |= {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
    if len(settings["channels"]) % 2:
        raise InputError(
            f"train: channels: {len(settings['channels'])} numbers; give a pair (down, up) for each level"
        )
    check_relaxation(settings["passes"], settings["relaxation"], "train")
    description = describe_terms(settings)
    if settings["side"] % description.multiple:
        raise InputError(
            f"train: side: {settings['side']} samples cannot be halved as often as the network does; give a "
            f"multiple of {description.multiple}"
        )
    weights = settings["weights"]
    if settings["shares"].get("cohort") and not (weights["truth"] or weights["similarity"]):
        raise InputError(
            "train: weights: with 0 for truth and for similarity a cohort teaches nothing; give truth 1"
        )
    numbers = sum(parameter.numel() for parameter in build_network(description).parameters())
    if 4 * numbers > MOST_BYTES:
        raise InputError(
            f"train: channels: the weights would take {4e-6 * numbers:.0f} MB, more than "
            f"{1e-6 * MOST_BYTES:.0f}; give fewer channels"
        )
    return settings, description


def _start_of(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the notes of the network to start from."""
    start = settings["start_from"]
    return read_weights(find_weights(start))[1].notes if start else None


def _notes(trained: TrainingResult, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return what the file of weights says of itself."""
    what = "volumes" if settings["ndim"] == 3 else "scenes and slices"
    return {
        "title": f"{settings['name']}: registration of {what}",
        "data": describe_data(settings),
        "start_from": settings["start_from"] and Path(settings["start_from"]).name.removesuffix(SUFFIX),
        "kept": trained.kept,
        "steps": int(trained.history[-1]["step"]),
        "seconds": round(trained.seconds, 1),
        "device": trained.device,
        "seed": seed,
        "license": find_license(settings, _start_of(settings)),
        "figures": trained.history[-1],
    }
