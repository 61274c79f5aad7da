"""What ``regflow run`` makes of Snakemake's lines in a terminal, and of an interrupt."""

import os
import signal
import subprocess
import sys
import time

from regflow.commands.run import INTERRUPTED, TAIL_LINES, _follow, _wait

LINES = """\
Building DAG of jobs...
job      count
total    20
3 of 20 steps (15%) done
Error in rule refine:
    jobid: 9
    log: results/logs/refine/sub-01.log

Select jobs to execute...
4 of 20 steps (20%) done
"""


def test_the_bar_counts_jobs_and_errors_stay_on_the_screen(capsys):
    tail = _follow(LINES.splitlines(keepends=True))
    said = capsys.readouterr().err
    assert "4/20" in said
    for line in ("Error in rule refine:", "    jobid: 9", "    log: results/logs/refine/sub-01.log"):
        assert f"\r{line}\n" in said
    assert "Select jobs" not in said
    assert tail[-1] == "4 of 20 steps (20%) done\n"


def test_the_last_words_of_a_failed_run_are_shown(capsys):
    script = f"print(*range({2 * TAIL_LINES}), sep='\\n'); raise SystemExit(3)"
    assert _wait([sys.executable, "-c", script], bar=True) == 3
    assert f"\n{2 * TAIL_LINES - 1}\n" in capsys.readouterr().err


def test_an_interrupt_waits_for_snakemake_to_cancel_its_jobs():
    child = "import signal, time; signal.signal(2, lambda *_: (time.sleep(1), print('cancelled'), exit(1)));"
    child += "print('ready', flush=True); time.sleep(60)"
    parent = "import sys; from regflow.commands.run import _wait;"
    parent += f"sys.exit(_wait([sys.executable, '-c', {child!r}], bar=False))"
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        time.sleep(0.2)
        os.killpg(run.pid, signal.SIGINT)
        assert run.stdout.read() == "cancelled\n"
    assert run.returncode == INTERRUPTED
