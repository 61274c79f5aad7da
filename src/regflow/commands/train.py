"""``regflow train``: a registration network of one's own, or one that knows one's images."""

import os
from pathlib import Path
from typing import Any

import click

CONFIG = Path("config/config.yaml")


@click.command(short_help="Train or fine-tune a registration network.")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help=f"Whose section 'train' says what is trained  [default: {CONFIG}, else all defaults].",
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
def train(config: Path | None, output: Path | None, threads: int | None, **given: Any) -> None:
    r"""Train a network that registers images, and write it with its model card.

    Pairs are painted from label maps and warped, so that the truth is known: no image and no GPU is
    needed, and contrast does not matter. NAME.safetensors and NAME.md are written in the end; NAME.training
    holds the checkpoint and the curves (tensorboard --logdir). Stopped at any time, the same command goes
    on from the last checkpoint, and comes to the same weights. Remove NAME.training to start anew.

    \b
    regflow train                            what config/config.yaml says
    regflow train -c mine.yaml -o networks   another configuration and folder
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
    from regflow.config import defaults, load_config
    from regflow.core.logs import log_above_bars
    from regflow.training.settings import training_settings

    exists = config is not None or CONFIG.is_file()
    complete = load_config(config or CONFIG, with_samples=False) if exists else defaults()
    seed = given.pop("seed")
    overrides = {name: value for name, value in given.items() if value is not None}
    settings = {**training_settings(complete), **overrides}
    folder = output or Path(complete["output"]) / "train"
    with log_above_bars():
        from regflow.training.product import train_network

        path = train_network(
            folder / f"{settings['name']}.safetensors",
            settings=settings,
            seed=complete["seed"] if seed is None else seed,
            threads=threads or _share_of_cores(),
        )
    if path is not None:
        click.echo(f"wrote {path}; its card: regflow weights {path}")


def _share_of_cores() -> int:
    """Return the cores of this process among those that torchrun started here."""
    from regflow.journal import cores

    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
