"""``regflow status``: how far a study has come, while it runs and afterwards."""

from pathlib import Path

import click

from regflow.commands.settings import study_option


@click.command(short_help="Tell how far a study has come.")
@study_option
def status(config: Path) -> None:
    """Tell how many samples are done, at which stage the others are, and what time is left.

    Samples that could not be registered are listed with the sentence that says why. It only reads, and may
    be asked while the study runs, from another machine too. The exit code is 1 while samples are left.
    """
    from regflow.cohort.reading import read_cohort
    from regflow.config.loading import load_config
    from regflow.pipeline.status import describe_status, read_status

    settings = load_config(config)
    found = read_status(settings["output"], [sample.sample for sample in read_cohort(settings)])
    for line in describe_status(found):
        click.echo(line)
    raise SystemExit(int(bool(found.waiting)))
