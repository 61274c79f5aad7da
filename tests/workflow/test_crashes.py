"""Runs that are killed at any moment: nothing torn is trusted, nothing done is lost, the bytes are equal."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from study import FAST, Study
from undated_pages import read_undated

from regflow.provenance.comparison import compare_runs
from regflow.provenance.run_crate import read_crate
from regflow.stages import layout

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


class Undisturbed(NamedTuple):
    """A run that nobody disturbs, the checksums of its products, and the size of all its files."""

    study: Study
    products: dict[str, str]
    kilobytes: float


@pytest.fixture(scope="module")
def undisturbed(make_study) -> Undisturbed:
    study = make_study(**WITHOUT_FIELD)
    ended = study.regflow("run")
    assert ended.returncode == 0, ended.stderr
    files = [path.stat().st_size for path in study.results().rglob("*") if path.is_file()]
    return Undisturbed(study, products(study), sum(files) / 1000)


def assert_as_undisturbed(study, undisturbed: Undisturbed) -> None:
    """Assert that a run came to the same files, records and pages, apart from times and its jobs."""
    assert products(study) == undisturbed.products
    assert study.leftovers() == []
    found = compare_runs(read_crate(undisturbed.study.results()), read_crate(study.results()))
    assert set(found.different) <= {layout.CONFIGURATION}
    assert found.missing == found.inputs == []
    # Jobs of one stage keep the working images, which the next one reads.
    assert all(path.startswith("preprocess/moving/") for path in found.additional)
    pages = read_undated(undisturbed.study.results())
    assert layout.COHORT_PAGE in pages
    assert read_undated(study.results()) == pages


@pytest.mark.parametrize("each_stage", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(make_study, undisturbed, each_stage):
    study = make_study(**WITHOUT_FIELD, jobs={"each_stage": each_stage})
    run_through_kills(study, kills=2, seconds=12.0, seed=int(each_stage))
    assert_as_undisturbed(study, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_kills(make_study, undisturbed, seed):
    study = make_study(**WITHOUT_FIELD, jobs={"each_stage": seed % 2 == 1, "samples": 1 + seed % 3})
    run_through_kills(study, kills=50, seconds=25.0, seed=seed)
    assert_as_undisturbed(study, undisturbed)


def remount(disk: Path, option: str) -> None:
    """Give a mounted file system another size, or take writing from it or give it back."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def on_disk(study, disk: Path):
    """Lay the results of a study on a file system of its own."""
    study.config["output"] = str(disk / "results")
    study.write()
    return replace(study, folder=disk)


def assert_told_in_a_sentence(study) -> None:
    ended = study.regflow("run")
    assert ended.returncode != 0
    told = ended.stdout + ended.stderr
    assert re.search("No space left on device|Read-only file system|disk is full", told), told
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_disk_that_is_full_or_locked_at_any_moment(make_study, undisturbed, small_disk, seed):
    """Whatever there was room for is whole; with room, and leave to write, the bytes are the same."""
    chance = random.Random(seed)
    disk = small_disk(round(chance.uniform(0.05, 0.8) * undisturbed.kilobytes))
    study = make_study(**WITHOUT_FIELD, jobs={"each_stage": seed % 2 == 1})
    results = on_disk(study, disk)
    assert_told_in_a_sentence(study)
    assert products(results).items() <= undisturbed.products.items()
    remount(disk, "size=400m")
    run = start(study)
    try:
        run.wait(timeout=chance.uniform(2.0, 15.0))
    except subprocess.TimeoutExpired:
        lock_while_it_runs(disk, run)
    ended = study.regflow("run")
    assert ended.returncode == 0, ended.stderr
    assert products(results) == undisturbed.products
    assert results.leftovers() == []
    assert read_undated(results.results()).keys() == read_undated(undisturbed.study.results()).keys()


def lock_while_it_runs(disk: Path, run: subprocess.Popen[bytes]) -> None:
    """Take writing from a disk until a run has ended; it may not be taken while a file is being written."""
    until = time.monotonic() + DEADLINE_SECONDS
    locked = False
    while not locked and run.poll() is None and time.monotonic() < until:
        tried = subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True)
        locked = tried.returncode == 0
    run.wait(timeout=DEADLINE_SECONDS)
    if locked:
        remount(disk, "rw")


def test_an_interrupt_leaves_no_process_and_no_lock(make_study):
    study = make_study(**WITHOUT_FIELD)
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
    study = make_study(**WITHOUT_FIELD)
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
