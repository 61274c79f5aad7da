"""``regflow check``: what is wrong with a study's inputs, all problems at once."""

import sys
from importlib import import_module
from pathlib import Path

import click

from regflow.commands.settings import study_option


@click.command(short_help="Tell what is wrong with a study's inputs.")
@study_option
@click.option("--threads", type=click.IntRange(1), help="Images looked at together  [default: all cores].")
def check(config: Path, threads: int | None) -> None:
    """Look at every input, compute nothing, and tell all that is wrong.

    The configuration, the sheet, every header and the samples behind it: missing and damaged files,
    masks and label maps on another grid, landmarks in other units, images that do not overlap, scenes
    without a CRS or under clouds. What is odd but usable is told on standard error as a warning.
    The exit code is 1 when there is a problem.
    """
    from tqdm import tqdm

    from regflow.config.loading import load_config
    from regflow.core.logs import log_above_bars
    from regflow.core.threads import count_cores

    settings = load_config(config)
    look = import_module(f"regflow.stages.{settings['kind']}.ingest").check_inputs
    hidden = not sys.stderr.isatty()
    with log_above_bars(), tqdm(unit="image", desc="check", disable=hidden, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        problems = look(settings, threads=threads or count_cores(), progress=progress)
    if problems:
        for problem in problems:
            click.echo(problem)
        noun = "problem" if len(problems) == 1 else "problems"
        # Where no image was looked at, the cohort itself cannot be read.
        unread = bar.total is None
        advice = "nothing runs before" if unread else "or let `regflow run` leave those samples out"
        click.echo(f"{len(problems)} {noun}: mend them, {advice}")
        raise SystemExit(1)
    click.echo("nothing is wrong with the inputs")
