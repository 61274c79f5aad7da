"""``regflow run``: the whole workflow by Snakemake, and a report even when jobs failed."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import study_option
from regflow.core.resources import find_shipped_folder
from regflow.core.threads import count_cores
from regflow.stages import layout

INTERRUPTED = 130


@click.command(short_help="Run a study, to its report.", context_settings={"ignore_unknown_options": True})
@study_option
@click.option("--cores", "-j", default=None, help="Cores to use [default: all].")
@click.option(
    "--profile", "-p", default="default", show_default=True, help="default, slurm, or a folder of yours."
)
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be done.")
@click.option("--redo", metavar="STAGE", help="Make a stage again, and what follows it: refine, report ...")
@click.argument("snakemake", nargs=-1, type=click.UNPROCESSED)
def run(
    config: Path, cores: str | None, profile: str, dry_run: bool, redo: str | None, snakemake: tuple[str, ...]
) -> None:
    r"""Run the workflow: from the sample sheet to results/report/index.html.

    Steps that are done are not done again; after a crash or an edit of the sheet, run it again.
    What follows -- goes to Snakemake as it is.

    \b
    regflow run                          every core of this machine
    regflow run -n                       what would be done
    regflow run --profile slurm          on a cluster
    regflow run --redo refine            one stage, and what follows, again
    regflow run -- --rerun-triggers mtime    an option of Snakemake
    """
    from regflow.cohort.reading import read_cohort
    from regflow.config.loading import load_config
    from regflow.provenance.jobs import export_environment

    settings = load_config(config)
    samples = read_cohort(settings)
    export_environment()
    program = "regflow.commands.snakemake_bar" if sys.stderr.isatty() and not dry_run else "snakemake"
    more = [*(["--dry-run"] if dry_run else []), *snakemake]
    command = [sys.executable, "-m", program, *_arguments(config, cores, profile, more)]
    if dry_run:
        raise SystemExit(_wait(command))
    from regflow.pipeline.partial_report import (
        drop_partial_report,
        write_partial_crate,
        write_partial_report,
    )
    from regflow.pipeline.run_lock import close_run, keep_results

    results = Path(settings["output"])
    with keep_results(results) as held:
        if held.after_kill:
            _unlock(command)
        drop_partial_report(results)
        if redo is not None:
            command += _forget(settings, redo, [sample.sample for sample in samples])
        started = time.time()
        code = _wait(command)
        if code < 0:
            close_run(held.mark)
            _unlock(command)
        page = results / layout.COHORT_PAGE
        if code not in (0, INTERRUPTED) and _ran_jobs(results, started):
            click.echo("some jobs crashed: the report tells which; run it again to resume", err=True)
            page = write_partial_report(results, samples, settings["kind"])
            write_partial_crate(settings, samples)
    if page.exists():
        click.echo(f"report: {page}", err=True)
    raise SystemExit(code)


def _unlock(command: Sequence[str]) -> None:
    """Remove Snakemake's lock of a run that was killed.

    Raises:
        LeftLockError: it is still there, because this was killed, too, or the workflow cannot be read.
    """
    from regflow.pipeline.run_lock import LeftLockError

    ended = subprocess.run([*command, "--unlock"], capture_output=True, text=True)
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or [f"it ended with {ended.returncode}"])[-1]
        raise LeftLockError(f"Snakemake's lock of a killed run could not be removed ({reason}); run it again")


def _forget(settings: Mapping[str, Any], stage: str, names: Sequence[str]) -> list[str]:
    """Let a stage count as not done; return what Snakemake has to be told besides."""
    from regflow.pipeline.redo import forget_stages

    forget_stages(settings["output"], settings["kind"], stage, names)
    return ["--forcerun", stage] if settings["jobs"]["each_stage"] else []


def _ran_jobs(results: Path, since: float) -> bool:
    """Return whether any job has run; if none has, Snakemake itself has said what it refused."""
    return any(log.stat().st_mtime >= since for log in results.glob(f"{layout.LOGS}/**/*.log"))


def _arguments(config: Path, cores: str | None, profile: str, more: Sequence[str]) -> list[str]:
    workflow = find_shipped_folder() / "workflow"
    ours = workflow / "profiles" / profile
    if cores == "all" or (cores is None and profile == "default"):
        cores = str(count_cores())
    return [
        *("--snakefile", str(workflow / "Snakefile")),
        *("--configfile", str(config)),
        *("--workflow-profile", str(ours if ours.is_dir() else profile)),
        *(("--cores", cores) if cores else ()),
        *more,
    ]


def _wait(command: Sequence[str]) -> int:
    """Run Snakemake and return its exit code."""
    with subprocess.Popen(command) as process:
        # An interrupt reaches Snakemake too, which then cancels its jobs: outlive it.
        interrupts: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
        code = process.wait()
        signal.signal(signal.SIGINT, before)
    return INTERRUPTED if interrupts else code
