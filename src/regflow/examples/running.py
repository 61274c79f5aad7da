"""Demos run: their study made where it is not there yet, and what the run took."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from regflow.core.threads import count_cores
from regflow.stages import layout


def summarize_overhead(results: Path, wall_seconds: float, cores: int) -> str:
    """Return one line: the run's wall time beside what its stages computed."""
    from regflow.core.files import read_json

    records = [read_json(path) for path in sorted(results.glob("*/**/stage.json"))]
    compute = sum(record["seconds"] for record in records)
    spent = wall_seconds * cores
    return (
        f"{len(records)} stages computed for {compute:.0f} s; the run took {wall_seconds:.0f} s on "
        f"{cores} cores, so {100 * max(0.0, 1 - compute / spent):.0f} % of the cores' time was start-up, "
        "scheduling and waiting"
    )


def make_and_run(folder: Path, make: Callable[[Path], None], run: Callable[[Path], int] | None) -> int:
    """Make a demo's data unless they are there, run it unless that is None, and return the exit code."""
    if (folder / "data").is_dir():
        click.echo(f"the demo's data are there already; remove {folder / 'data'} to make them anew")
    else:
        started = time.perf_counter()
        make(folder)
        click.echo(f"made the demo's data in {time.perf_counter() - started:.0f} s: {folder / 'data'}")
    return run(folder) if run else 0


def run_study(folder: Path, cores: str) -> int:
    """Run a demo's study; say what it took, and where its report is; return the exit code."""
    started = time.perf_counter()
    command: Sequence[str] = (sys.executable, "-m", "regflow", "run", "--cores", cores)
    code = subprocess.run(command, cwd=folder, check=False).returncode
    count = int(cores) if cores.isdigit() else count_cores()
    results = folder / "results"
    click.echo(summarize_overhead(results, time.perf_counter() - started, count))
    click.echo(f"report: {results / layout.COHORT_PAGE}")
    return code
