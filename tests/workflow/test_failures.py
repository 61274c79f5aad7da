"""Runs that go wrong, by bad samples, killed workers or a full disk: the others finish, nothing is torn."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from regflow.core.files import read_json
from regflow.provenance.verification import verify_run

WAIT_SECONDS = 90


def truncated(source: Path, target: Path) -> Path:
    """Write the first third of a file."""
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 3])
    return target


def workers(study) -> list[int]:
    """Return the processes that run a batch of a study."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            command = (place / "cmdline").read_bytes().decode().split("\0")
            here = (place / "cwd").readlink()
        except (OSError, ValueError):
            continue
        if here == study.folder and any(part.endswith(".batch.py") for part in command):
            found.append(int(place.name))
    return found


def wait_for_worker(study) -> int:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := workers(study):
            return found[0]
        time.sleep(0.02)
    pytest.fail("no worker was seen")


def wait_for_stage(study, stage: str) -> int:
    """Return the process that has begun a stage of the sample of a study."""
    worker, deadline = wait_for_worker(study), time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if list(study.results("logs", stage).rglob("mni6.log")):
            return worker
        time.sleep(0.02)
    pytest.fail(f"{stage} did not begin")


def test_bad_samples_do_not_stop_the_others(make_study, tmp_path):
    study = make_study(("mni6", "icbm2009a"))
    missing, torn = tmp_path / "missing.nii.gz", tmp_path / "torn.nii.gz"
    study.rows[1]["moving"] = truncated(Path(study.rows[1]["moving"]), torn)
    study.rows.append({"sample": "third", "moving": missing})
    ended = study.write().snakemake()
    assert ended.returncode == 0, ended.stderr
    assert read_json(study.results("assess", "mni6", "stage.json"))["state"] == "done"
    page = study.results("report", "index.html").read_text(encoding="utf-8")
    for sample, file in (("icbm2009a", torn), ("third", missing)):
        outcome = read_json(study.results("assess", sample, "stage.json"))
        assert outcome["state"] == "skipped"
        assert str(file) in outcome["verdict"]["reason"]
        assert "\n" not in outcome["verdict"]["reason"]
        assert str(file) in page
        assert study.results("report", f"{sample}.html").is_file()


@pytest.mark.slow
def test_a_crash_is_in_the_report_of_what_came_through(make_study):
    study = make_study(("mni6",))
    with running(study, [sys.executable, "-m", "regflow", "run"]) as run:
        os.kill(wait_for_stage(study, "refine"), signal.SIGKILL)
        assert run.wait() == 1
    page = study.results("report", "index.html").read_text(encoding="utf-8")
    assert "crashed" in page
    assert "results/logs/refine/mni6.log" in page
    assert not study.results("assess", "cohort.tsv").exists()
    assert_described_as_failed(study)


def test_a_mistake_in_the_configuration_is_one_sentence(make_study):
    study = make_study()
    study.config["refine"] = {"method": ["greedy"]}
    ended = study.write().snakemake()
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "methods" in ended.stderr
    assert not study.results().exists()


@contextmanager
def running(study, command=None):
    """Run a study in the background, in a process group of its own."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        command or study.command(), cwd=study.folder, start_new_session=True, **quiet
    ) as run:
        yield run


def assert_described_as_failed(study):
    """The crate tells that the run failed, and of what is there."""
    entities = read_json(study.results("ro-crate-metadata.json"))["@graph"]
    (run,) = (entity for entity in entities if entity["@id"] == "#run")
    assert run["actionStatus"].endswith("/FailedActionStatus")
    assert run["error"] == "some jobs crashed, and 1 of 1 samples are not done"
    assert verify_run(study.results()).problems == []


def assert_equal_to_undisturbed(study, finished):
    for pattern in ("initialize/*/*.h5", "refine/*/*.h5", "apply/*/*.nii.gz", "assess/*/*.nii.gz"):
        undisturbed = {path: sum for path, sum in finished.checksums(pattern).items() if "mni6" in path}
        assert undisturbed, pattern
        assert study.checksums(pattern) == undisturbed
    assert study.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "stages",
    [
        ("refine", "assess"),
        ("ingest", "preprocess", "initialize", "refine", "apply", "assess", "report"),
    ],
    ids=["two stages", "every stage"],
)
def test_a_worker_killed_in_any_stage_leaves_nothing_and_the_run_resumes(make_study, finished, stages):
    study = make_study(("mni6",))
    for stage in stages:
        with running(study) as run:
            os.kill(wait_for_stage(study, stage), signal.SIGKILL)
            assert run.wait() == 1, stage
        assert_described_as_failed(study)
    resumed = study.snakemake()
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_to_undisturbed(study, finished)


@pytest.mark.slow
def test_a_run_killed_as_a_whole_resumes(make_study, finished):
    study = make_study(("mni6",))
    with running(study) as run:
        wait_for_stage(study, "refine")
        os.killpg(run.pid, signal.SIGKILL)
    assert study.snakemake("--unlock").returncode == 0
    resumed = study.snakemake()
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_to_undisturbed(study, finished)


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(make_study, finished, small_disk):
    study = make_study(("mni6",))
    disk = small_disk(2000)
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
