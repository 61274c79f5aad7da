"""Runs that are killed at any moment: nothing torn is trusted, nothing done is lost, the bytes are equal."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from study import FAST

from regflow.stages import layout

QUICK = {**FAST, "refine": {"methods": ["greedy"], "options": {"greedy": {"iterations": [5, 5]}}}}
WITHOUT_FIELD = {**FAST, "refine": {"methods": ["none"]}}
PRODUCTS = ("initialize/*/*.h5", "refine/*/*.h5", "apply/*/*.nii.gz", "assess/*/*.nii.gz", "report/images/*")
DEADLINE_SECONDS = 300


def start(study, *options: str) -> subprocess.Popen[bytes]:
    """Run a study by ``regflow run`` in a process group of its own."""
    command = [sys.executable, "-m", "regflow", "run", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=study.folder, start_new_session=True, **quiet)


def members_of(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes of a run, itself first."""
    try:
        main = psutil.Process(run.pid)
        return [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_one(run: subprocess.Popen[bytes], chance: random.Random) -> None:
    """Kill a process of a run as the kernel would: its main process, Snakemake, or a job."""
    found = members_of(run)
    if found:
        try:
            chance.choice(found).send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return


def products(study) -> dict[str, str]:
    return {path: sum for pattern in PRODUCTS for path, sum in study.checksums(pattern).items()}


def run_through_kills(study, kills: int, seconds: float, seed: int) -> None:
    """Run a study, killing one of its processes again and again, and let it come to its end."""
    chance = random.Random(seed)
    for _ in range(kills):
        run = start(study)
        try:
            run.wait(timeout=chance.uniform(0.0, seconds))
        except subprocess.TimeoutExpired:
            kill_one(run, chance)
        # What goes on without its parent is for the next run to stop.
        if run.poll() is None and chance.random() < 0.5:
            os.kill(run.pid, signal.SIGKILL)
        run.wait(timeout=DEADLINE_SECONDS)
    ended = study.regflow("run")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def undisturbed(make_study) -> dict[str, str]:
    study = make_study(**WITHOUT_FIELD)
    ended = study.regflow("run")
    assert ended.returncode == 0, ended.stderr
    return products(study)


@pytest.mark.parametrize("each_stage", [False, True])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(make_study, undisturbed, each_stage):
    study = make_study(**WITHOUT_FIELD, jobs={"each_stage": each_stage})
    run_through_kills(study, kills=3, seconds=12.0, seed=int(each_stage))
    assert products(study) == undisturbed
    assert study.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_kills(make_study, undisturbed, seed):
    study = make_study(**WITHOUT_FIELD, jobs={"each_stage": seed % 2 == 1, "samples": 1 + seed % 3})
    run_through_kills(study, kills=50, seconds=25.0, seed=seed)
    assert products(study) == undisturbed
    assert study.leftovers() == []


def test_an_interrupt_leaves_no_process_and_no_lock(make_study):
    study = make_study(**QUICK)
    run = start(study)
    until = time.monotonic() + DEADLINE_SECONDS
    while not list(study.results("logs").glob("*/*/mni6.log")) and time.monotonic() < until:
        time.sleep(0.05)
    started = members_of(run)
    assert len(started) > 1
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=DEADLINE_SECONDS) == 130
    _, alive = psutil.wait_procs(started, timeout=DEADLINE_SECONDS)
    assert alive == []
    assert not study.results(*Path(layout.RUN).parts).exists()
    ended = study.regflow("run")
    assert ended.returncode == 0, ended.stderr


def test_a_second_run_in_the_same_folder_is_refused_in_a_sentence(make_study):
    study = make_study(**QUICK)
    first = start(study)
    until = time.monotonic() + DEADLINE_SECONDS
    while not study.results(*Path(layout.RUN).parts).exists() and time.monotonic() < until:
        time.sleep(0.05)
    second = study.regflow("run")
    assert second.returncode == 2
    assert "another run has begun here" in second.stderr
    assert "Traceback" not in second.stderr
    os.killpg(first.pid, signal.SIGINT)
    first.wait(timeout=DEADLINE_SECONDS)
