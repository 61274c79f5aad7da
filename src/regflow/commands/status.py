"""``regflow status``: how far a study has come, while it runs and afterwards."""

from pathlib import Path

import click

from regflow.commands.settings import study_option


@click.command(short_help="Tell how far a study has come.")
@study_option
@click.option(
    "--storage",
    metavar="ADDRESS",
    help="Where the results lie on a server: s3://BUCKET/KEY, the run's default-storage-prefix.",
)
def status(config: Path, storage: str | None) -> None:
    r"""Tell how many samples are done, at which stage the others are, and what time is left.

    Samples that could not be registered are listed with the sentence that says why. It only reads, and may
    be asked while the study runs, from another machine too. The exit code is 1 while samples are left.

    \b
    regflow status
    regflow status --storage s3://my-results/study
    """
    from regflow.cohort.reading import read_cohort
    from regflow.config.loading import load_config
    from regflow.pipeline.status import describe_status, read_stored_status

    settings = load_config(config)
    names = [sample.sample for sample in read_cohort(settings)]
    found = read_stored_status(settings["output"], names, storage)
    for line in describe_status(found):
        click.echo(line)
    raise SystemExit(int(bool(found.waiting)))
