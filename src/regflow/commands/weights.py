"""``regflow weights``: which trained networks there are, whether they are whole, and their cards."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

COLUMNS = ("name", "dim", "spacing", "passes", "steps", "MB", "checksum", "license")


@click.command(short_help="List trained networks, or show one's model card.")
@click.argument("name", required=False)
def weights(name: str | None) -> None:
    r"""List the networks of resources/weights or of a folder, or print the model card of one.

    NAME is a folder, a network's name or its .safetensors file. Each file carries a checksum of its
    numbers, which is computed anew; the exit code is 1 when one is damaged. Steps are those of its
    training, spacing and passes tell at what resolutions it looks (mm; pixels for scenes).

    \b
    regflow weights                     those that came with regflow
    regflow weights results/train       those of a folder
    regflow weights NAME                data, hardware, figures, limits and license of one
    """
    from regflow.methods.weight_files import SUFFIX, WEIGHTS_FOLDER

    folder = WEIGHTS_FOLDER if name is None else Path(name)
    if name is not None and not folder.is_dir():
        _show(name)
        return
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        click.echo(f"no networks in {folder}; make one: regflow train")
        return
    rows, damaged = _rows(files)
    for line in _aligned([COLUMNS, *rows]):
        click.echo(line)
    for sentence in damaged:
        click.echo(sentence, err=True)
    raise SystemExit(1 if damaged else 0)


def _show(name: str) -> None:
    """Print a network's model card; of one without a card, its row."""
    from regflow.methods.weight_files import find_weight_file

    path = find_weight_file(name)
    _read_facts(path)
    card = path.with_suffix(".md")
    if card.is_file():
        click.echo(card.read_text(encoding="utf-8"), nl=False)
        return
    for line in _aligned([COLUMNS, *_rows([path])[0]]):
        click.echo(line)
    click.echo(f"it has no model card: {card} is missing")


def _rows(files: Iterable[Path]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return a row for each network, and what is wrong with those that cannot be used."""
    from regflow.core.errors import InputError

    rows, damaged = [], []
    for path in files:
        megabytes = f"{path.stat().st_size / 1e6:.1f}"
        try:
            notes, seen = _read_facts(path)
        except InputError as error:
            rows.append((path.stem, *[""] * 4, megabytes, "WRONG", ""))
            damaged.append(str(error))
            continue
        told = (str(notes.get("steps", "")), megabytes, "ok", str(notes.get("license", "not stated")))
        rows.append((path.stem, *seen, *told))
    return rows, damaged


def _read_facts(path: Path) -> tuple[dict[str, Any], tuple[str, str, str]]:
    """Return the notes of a network, and its dimensions, spacing and passes as far as it has any.

    Raises:
        InputError: the file is none of ours, or damaged.
    """
    from regflow.methods.learned_models import is_model, read_model
    from regflow.methods.refine.weights import read_weights

    if is_model(path):
        model = read_model(path)[1]
        return model.notes, (str(model.arguments.get("ndim", "")), "", "")
    network = read_weights(path)[1]
    passes = ",".join(f"{shrink:g}" for shrink in network.passes)
    return network.notes, (str(network.ndim), f"{network.spacing:g}", passes)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
