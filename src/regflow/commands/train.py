"""``regflow train``: a registration network of one's own, or one that knows one's images."""

import os
from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import Part, read_assignments, set_option

CONFIG = Path("config/config.yaml")


@click.command(short_help="Train or fine-tune a registration network.")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help=f"Whose section 'train' says what is trained  [default: {CONFIG}, else all defaults].",
)
@set_option
@click.option(
    "--recipe",
    metavar="NAME",
    help="Instead of a configuration: how a network of regflow's own is trained, by its name or a file.",
)
@click.option(
    "--label-maps",
    type=click.Path(exists=True, file_okay=False),
    help="Instead of train.label_maps.",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="The folder  [default: train/ in 'output']."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Of the CPU: as many pairs of a batch at a time; no result depends on it  [default: all cores].",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Instead of train.device.")
@click.option("--workers", type=click.IntRange(0), help="Instead of train.workers.")
@click.option("--seed", type=click.IntRange(0), help="Instead of the configuration's.")
def train(
    config: Path | None,
    recipe: str | None,
    assignments: tuple[str, ...],
    output: Path | None,
    threads: int | None,
    **given: Any,
) -> None:
    r"""Train a network that registers images, and write it with its model card.

    Pairs are painted from label maps and warped, so that the truth is known: no image and no GPU is
    needed, and contrast does not matter. NAME.safetensors and NAME.md are written in the end; NAME.training
    holds the checkpoint and the curves (tensorboard --logdir). Stopped at any time, the same command goes
    on from the last checkpoint, and comes to the same weights. Remove NAME.training to start anew.

    \b
    regflow train                            what config/config.yaml says
    regflow train -c mine.yaml -o networks   another configuration and folder
    regflow train --set train.steps=20000    the same but for one key
    regflow train --recipe volumes3d --label-maps maps    a network of regflow's own, anew
    torchrun --nproc-per-node 4 -m regflow train    four GPUs; `batch` is shared out

    A configuration that trains on anatomies of yours (`config/README.md` lists every key):

    \b
    train:
      name: mine
      label_maps: segmentations    # a folder of label maps
      shares: {labels: 0.6, shapes: 0.4}
      steps: 20000

    One that fine-tunes a network on the samples of the study, which need no labels:

    \b
    train:
      name: tuned
      start_from: networks/mine.safetensors
      shares: {cohort: 1}
      weights: {similarity: 20}
      rate: 1.0e-3
      steps: 500

    Then let `refine` use it: methods: [voxelmorph], options: {voxelmorph: {weights: FILE}}.
    """
    from regflow.core.errors import InputError
    from regflow.core.logs import append_log, log_above_bars
    from regflow.stages import layout
    from regflow.training.settings import find_recipe, make_training_settings

    if recipe is not None and config is not None:
        raise InputError("--recipe and --config both say what is trained; give one of the two")
    chosen = config if recipe is None else find_recipe(recipe)
    complete = _configuration(chosen, given, assignments)
    settings = make_training_settings(complete)
    folder = output or Path(complete["output"]) / layout.TRAINING
    with log_above_bars(), append_log(folder / f"{settings['name']}.training" / "training.log"):
        from regflow.training.product import train_network

        path = train_network(
            folder / f"{settings['name']}.safetensors",
            settings=settings,
            seed=complete["seed"],
            threads=threads or _share_of_cores(),
        )
    if path is not None:
        click.echo(f"wrote {path}; its card: regflow weights {path}")


def _configuration(path: Path | None, given: dict[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    """Return the complete configuration: the file's, the command's options on it, and on top what is set.

    Raises:
        InputError: a key or a value is wrong; begins with the file or the option.
    """
    from regflow.config.loading import list_sections, load_config, read_keys
    from regflow.config.presets import merge_settings

    content: Part = {}
    if path is not None or CONFIG.is_file():
        content = read_keys(path or CONFIG)
        load_config(path or CONFIG, with_samples=False)
    named = ("device", "workers", "label_maps")
    own: Part = {"train": {name: given[name] for name in named if given[name] is not None}}
    if given["seed"] is not None:
        own["seed"] = given["seed"]
    kind = content.get("kind") or "volumes"
    sections = [name for name in list_sections(kind) if name != "kind"]
    assigned = read_assignments(assignments, kind, sections, "train")
    return load_config(merge_settings(merge_settings(content, own), assigned), with_samples=False)


def _share_of_cores() -> int:
    """Return the cores of this process among those that torchrun started here."""
    from regflow.core.threads import count_cores

    return max(1, count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
