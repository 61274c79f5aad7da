"""What ``regflow run`` makes of Snakemake's events in a terminal, of cores, and of an interrupt."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regflow.commands.run import INTERRUPTED, _arguments, _unlock
from regflow.core.threads import count_cores
from regflow.pipeline.run_lock import LeftLockError

SNAKEFILE = """
rule all:
    input: "bad", expand("{n}", n=range(3))
rule bad:
    output: "bad"
    shell: "false"
rule good:
    output: "{n,[0-9]}"
    shell: "echo from a job; touch {output}"
"""


def test_the_bar_counts_jobs_by_snakemakes_events_and_errors_stay_on_the_screen(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    # What --quiet keeps from the screen moves the bar all the same.
    options = ("--cores", "1", "--keep-going", "--quiet", "all")
    ended = subprocess.run(
        [sys.executable, "-m", "regflow.commands.snakemake_bar", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    steps = re.findall(r"(\d)/5 ", ended.stderr)
    assert steps == sorted(steps)
    assert set(steps) == set("0123")
    lines = re.split(r"[\r\n]+", ended.stderr)
    assert "Error in rule bad:" in lines
    assert not [line for line in lines if line.startswith(("Select jobs", "Finished", "rule good"))]


def test_every_core_is_counted_unless_a_number_or_another_profile_says_how_many():
    def cores(given, profile="default"):
        arguments = _arguments(Path("config.yaml"), given, profile, [])
        return arguments[arguments.index("--cores") + 1] if "--cores" in arguments else None

    assert cores(None) == cores("all") == cores("all", "slurm") == str(count_cores())
    assert cores("3") == "3"
    assert cores(None, "slurm") is None


def test_an_interrupt_waits_for_snakemake_to_cancel_its_jobs():
    child = "import signal, time; signal.signal(2, lambda *_: (time.sleep(1), print('cancelled'), exit(1)));"
    child += "print('ready', flush=True); time.sleep(60)"
    parent = "import sys; from regflow.commands.run import _wait;"
    parent += f"sys.exit(_wait([sys.executable, '-c', {child!r}]))"
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        time.sleep(0.2)
        os.killpg(run.pid, signal.SIGINT)
        assert run.stdout.read() == "cancelled\n"
    assert run.returncode == INTERRUPTED


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "it ended with -9"),
        ("import sys; sys.exit('no such workflow')", "no such workflow"),
    ],
)
def test_a_lock_that_cannot_be_removed_is_told_in_a_sentence(program, reason):
    with pytest.raises(LeftLockError, match=rf"could not be removed \({reason}\); run it again"):
        _unlock([sys.executable, "-c", program])
    _unlock([sys.executable, "-c", "pass"])
