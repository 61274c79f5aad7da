"""``regflow reproduce``: a run again from its record, and what came out otherwise."""

import subprocess
import sys
from pathlib import Path

import click


@click.command(short_help="Run a run again, and compare its results.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, help="New folder for the second run."
)
@click.option("--cores", "-j", default=None, help="Cores to use [default: all].")
@click.option("--profile", "-p", default="default", show_default=True, help="As of regflow run.")
def reproduce(run: Path, output: Path, cores: str | None, profile: str) -> None:
    r"""Run what lies in RUN, a folder of results, again from its RO-Crate, and compare the results.

    The configuration, the sample sheet and the seeds are those of the crate; the images are read from where
    they were. Bytes are compared. Records are compared without times, and pages are counted only, as they
    tell times. The exit code is 1 when anything else differs.

    \b
    regflow reproduce results -o again
    """
    from regflow.pipeline.reproduction import describe_comparison, prepare_reproduction
    from regflow.provenance.comparison import compare_runs
    from regflow.provenance.run_crate import read_crate

    first = read_crate(run)
    again = prepare_reproduction(first, output)
    for change in again.changes:
        click.echo(change, err=True)
    more = ["--cores", cores] if cores else []
    command = [sys.executable, "-m", "regflow", "run", "--config", str(again.configuration), *more]
    ended = subprocess.run([*command, "--profile", profile], cwd=again.folder, check=False)
    if ended.returncode:
        click.echo("the second run did not come to its end, and is not compared", err=True)
        raise SystemExit(ended.returncode)
    found = compare_runs(first, read_crate(again.results))
    for line in describe_comparison(found):
        click.echo(line)
    raise SystemExit(0 if found.is_equal else 1)
