"""Runs that go wrong, by bad samples, killed workers or a full disk: the others finish, nothing is torn."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from regflow.core.files import read_json

WAIT_SECONDS = 90


def truncated(source: Path, target: Path) -> Path:
    """Write the first third of a file."""
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 3])
    return target


def workers(study, script: str) -> list[int]:
    """Return the processes that run a stage's script for a study."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            command = (place / "cmdline").read_bytes().decode().split("\0")
            here = (place / "cwd").readlink()
        except (OSError, ValueError):
            continue
        if here == study.folder and any(part.endswith(f".{script}.py") for part in command):
            found.append(int(place.name))
    return found


def wait_for_worker(study, script: str) -> int:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := workers(study, script):
            return found[0]
        time.sleep(0.02)
    pytest.fail(f"no worker of {script} was seen")


@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_one_bad_sample_does_not_stop_the_others(make_study, tmp_path, kind):
    study = make_study(("mni6", "icbm2009a"))
    bad = tmp_path / "bad.nii.gz"
    if kind == "truncated":
        truncated(Path(study.rows[1]["moving"]), bad)
    study.rows[1]["moving"] = bad
    ended = study.write().snakemake()
    assert ended.returncode == 0, ended.stderr
    assert read_json(study.results("assess", "mni6", "stage.json"))["state"] == "done"
    outcome = read_json(study.results("assess", "icbm2009a", "stage.json"))
    assert outcome["state"] == "skipped"
    reason = outcome["verdict"]["reason"]
    assert str(bad) in reason
    assert "\n" not in reason
    assert str(bad) in study.results("report", "index.html").read_text()


def test_a_mistake_in_the_configuration_is_one_sentence(make_study):
    study = make_study()
    study.config["refine"] = {"method": ["greedy"]}
    ended = study.write().snakemake()
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "methods" in ended.stderr
    assert not study.results().exists()


@pytest.mark.parametrize("stage", ["preprocess", "initialize", "refine", "apply", "assess", "report"])
def test_a_killed_worker_leaves_nothing_and_the_run_resumes(make_study, finished, stage):
    study = make_study()
    with subprocess.Popen(
        study.command(), cwd=study.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        os.kill(wait_for_worker(study, stage), signal.SIGKILL)
        assert run.wait() == 1
    assert study.checksums("refine/*/*.h5").items() <= finished.checksums("refine/*/*.h5").items()
    resumed = study.snakemake()
    assert resumed.returncode == 0, resumed.stderr
    for pattern in ("*/*/*.h5", "apply/*/*.nii.gz", "assess/*/*.nii.gz"):
        assert study.checksums(pattern) == finished.checksums(pattern)
    assert study.leftovers() == []


def test_a_killed_snakemake_resumes(make_study, finished):
    study = make_study()
    with subprocess.Popen(
        study.command(), cwd=study.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        worker = wait_for_worker(study, "refine")
        run.kill()
    os.kill(worker, signal.SIGKILL)
    assert study.snakemake("--unlock").returncode == 0
    resumed = study.snakemake()
    assert resumed.returncode == 0, resumed.stderr
    assert study.checksums("refine/*/*.h5") == finished.checksums("refine/*/*.h5")


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(megabytes) -> Path``: a file system of that size."""
    mounted = []

    def make(megabytes: int) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_leaves_nothing_half_written(make_study, finished, small_disk):
    study = make_study()
    disk = small_disk(3)
    study.config["output"] = str(disk / "results")
    ended = study.write().snakemake()
    assert ended.returncode == 1
    study.folder = disk
    for name in ("transform.h5", "warped.nii.gz"):
        mine = study.checksums(f"*/*/{name}")
        assert mine.items() <= finished.checksums(f"*/*/{name}").items()
    assert study.leftovers() == []
    stages = [path.parent for path in study.results().rglob("stage.json")]
    assert all(read_json(stage / "stage.json")["state"] == "done" for stage in stages)
