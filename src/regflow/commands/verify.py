"""``regflow verify``: whether a run's results are still those that it wrote."""

from pathlib import Path

import click


@click.command(short_help="Check a run's results against its record.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--inputs", is_flag=True, help="Look at the images too that the run has read.")
@click.option("--threads", type=click.IntRange(1), help="Files read together  [default: all cores].")
def verify(run: Path, inputs: bool, threads: int | None) -> None:
    r"""Hold the files in RUN, a folder of results, against the checksums of its RO-Crate.

    Told are files that are missing, files that have changed, and files that are not of the run. The exit code
    is 1 when there are any.

    \b
    regflow verify results
    regflow verify results --inputs
    """
    from regflow.core.threads import count_cores
    from regflow.provenance.verification import verify_run

    found = verify_run(run, inputs=inputs, threads=threads or count_cores())
    for problem in found.problems:
        click.echo(problem)
    if found.problems:
        noun = "file is" if len(found.problems) == 1 else "files are"
        click.echo(f"{len(found.problems)} {noun} not as the run left them, {found.checked} were checked")
        raise SystemExit(1)
    click.echo(f"all {found.checked} files are as the run left them")
