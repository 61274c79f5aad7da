"""``regflow run``: the whole workflow by Snakemake, and a report even when jobs failed."""

import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from regflow.core.resources import shipped

TOTAL = re.compile(r"^total\s+(\d+)\s*$")
DONE = re.compile(r"^(\d+) of (\d+) steps \(\d+%\) done$")
ERROR = re.compile(r"^(Error in |\w*Error\b|\w*Exception\b)")
TAIL_LINES = 20
INTERRUPTED = 130


@click.command(short_help="Run a study, to its report.", context_settings={"ignore_unknown_options": True})
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=Path("config/config.yaml"),
    show_default=True,
    help="The study's configuration; paths in it count from the current folder.",
)
@click.option("--cores", "-j", default=None, help="Cores to use [default: all].")
@click.option(
    "--profile", "-p", default="default", show_default=True, help="default, slurm, or a folder of yours."
)
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be done.")
@click.argument("snakemake", nargs=-1, type=click.UNPROCESSED)
def run(config: Path, cores: str | None, profile: str, dry_run: bool, snakemake: tuple[str, ...]) -> None:
    r"""Run the workflow: from the sample sheet to results/report/index.html.

    Steps that are done are not done again; after a crash or an edit of the sheet, run it again.
    What follows -- goes to Snakemake as it is.

    \b
    regflow run                          every core of this machine
    regflow run -n                       what would be done
    regflow run --profile slurm          on a cluster
    regflow run -- --forcerun refine     one stage, and what follows, again
    """
    from regflow.cohort.reading import read_cohort
    from regflow.config.loading import load_config
    from regflow.provenance.jobs import hand_down

    settings = load_config(config)
    samples = read_cohort(settings)
    hand_down()
    command = _command(config, cores, profile, [*(["--dry-run"] if dry_run else []), *snakemake])
    started = time.time()
    code = _wait(command, bar=sys.stderr.isatty() and not dry_run)
    results = Path(settings["output"])
    page = results / "report" / "index.html"
    if code not in (0, INTERRUPTED) and _ran_jobs(results, started):
        from regflow.pipeline.partial_report import report_what_exists

        click.echo("some jobs crashed: the report tells which; run it again to resume", err=True)
        page = report_what_exists(results, samples, settings["kind"])
    if page.exists() and not dry_run:
        click.echo(f"report: {page}", err=True)
    raise SystemExit(code)


def _ran_jobs(results: Path, since: float) -> bool:
    """Return whether any job has run; if none has, Snakemake itself has said what it refused."""
    return any(log.stat().st_mtime >= since for log in results.glob("logs/**/*.log"))


def _command(config: Path, cores: str | None, profile: str, more: Sequence[str]) -> list[str]:
    workflow = shipped() / "workflow"
    ours = workflow / "profiles" / profile
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--snakefile", str(workflow / "Snakefile")),
        *("--configfile", str(config)),
        *("--workflow-profile", str(ours if ours.is_dir() else profile)),
        *(("--cores", cores) if cores else ()),
        *more,
    ]


def _wait(command: Sequence[str], *, bar: bool) -> int:
    """Run Snakemake, behind a bar if asked; then show its errors, and its last words if it fails."""
    stdout, stderr = (subprocess.PIPE, subprocess.STDOUT) if bar else (None, None)
    with subprocess.Popen(command, text=True, stdout=stdout, stderr=stderr) as process:
        # An interrupt reaches Snakemake too, which then cancels its jobs: outlive it.
        interrupts: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
        tail: Iterable[str] = _follow(process.stdout) if process.stdout else ()
        code = process.wait()
        signal.signal(signal.SIGINT, before)
    if code:
        click.echo("".join(tail), err=True, nl=False)
    return INTERRUPTED if interrupts else code


def _follow(lines: Iterable[str]) -> deque[str]:
    from tqdm import tqdm

    tail: deque[str] = deque(maxlen=TAIL_LINES)
    in_error = False
    with tqdm(unit="job", desc="regflow", dynamic_ncols=True) as bar:
        for line in lines:
            tail.append(line)
            if total := TOTAL.match(line):
                bar.total = int(total[1])
                bar.refresh()
            elif done := DONE.match(line):
                bar.total = int(done[2])
                bar.update(int(done[1]) - bar.n)
            in_error = bool(line.strip()) and (in_error or bool(ERROR.match(line)))
            if in_error:
                bar.write(line.rstrip(), file=sys.stderr)
    return tail
