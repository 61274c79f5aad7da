"""What the cluster profile asks of Slurm, and a run through a real Slurm of one node."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml
from one_node_slurm import crash_node, one_node
from raster_study import raster_study, write_scenes
from study import ROOT, WORKFLOW, Study

from regflow.core.chunks import map_blocks, open_workers

PROFILE = ROOT / "workflow" / "profiles" / "slurm"


def resources(text: str, rule: str) -> dict[str, str]:
    """Return the resources of a rule's first job in a dry run."""
    block = re.search(rf"^rule {rule}:\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert block is not None, text
    line = re.search(r"resources: (.*)", block[1])
    assert line is not None
    return dict(pair.split("=") for pair in line[1].split(", "))


UNCOVERED = """
include: {workflow!r}


# A job that has a message does not show its resources.
for each in workflow.rules:
    each.message = None
"""


def dry_run(study: Study) -> str:
    """Return what Snakemake plans with the cluster's profile."""
    (study.folder / "Snakefile").write_text(UNCOVERED.format(workflow=str(WORKFLOW)))
    options = ("--snakefile", "Snakefile", "--dry-run", "--workflow-profile", str(PROFILE), "all")
    ended = study.snakemake(*options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_profile_asks_for_partitions_memory_time_and_a_gpu(make_study):
    planned = dry_run(make_study())
    deform = resources(planned, "deform")
    assert deform["slurm_partition"] == "gpu"
    assert deform["gpu"] == "1"
    assert int(deform["mem_mb"]) >= 4000
    assert int(deform["runtime"]) > 0
    for job in ("prepare", "finish"):
        asked = resources(planned, job)
        assert (asked["slurm_partition"], asked["gpu"]) == ("cpu", "0")


@pytest.mark.slow
@pytest.mark.parametrize(
    "refine",
    [
        {"methods": ["elastix-bspline"]},
        {"methods": ["greedy"], "options": {"greedy": {"device": "cpu"}}},
    ],
)
def test_methods_that_use_no_gpu_ask_for_none(make_study, refine):
    asked = resources(dry_run(make_study(refine=refine)), "register")
    assert (asked["slurm_partition"], asked["gpu"]) == ("cpu", "0")


def test_tie_points_ask_for_no_gpu(tmp_path):
    write_scenes(tmp_path)
    asked = resources(dry_run(raster_study(tmp_path / "study", tmp_path, ("first",))), "register")
    assert (asked["slurm_partition"], asked["gpu"]) == ("cpu", "0")


@pytest.fixture(scope="module")
def jobs():
    with one_node() as finished_jobs:
        yield finished_jobs


def told_of(jobs) -> list[dict[str, str]]:
    """Return what Slurm recorded of its finished jobs."""
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in jobs.read_text(encoding="utf-8").splitlines()]


def write_site_profile(study: Study, **more) -> None:
    """Write the shipped profile with what this Slurm needs.

    Without an accounting database sacct never answers; and a test does not wait for the defaults.
    """
    shipped = yaml.safe_load((PROFILE / "profile.yaml").read_text(encoding="utf-8"))
    here = {
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 3,
        "slurm-no-account": True,
        "latency-wait": 5,
    }
    (study.folder / "site").mkdir()
    profile = {**shipped, **here, **more}
    (study.folder / "site" / "profile.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")


@pytest.mark.slurm
def test_a_job_runs_through_slurm(make_study, jobs):
    study = make_study(("mni6",))
    write_site_profile(study)
    ended = study.regflow("run", "--profile", "site", "--", "results/jobs/prepare/0001.json")
    assert ended.returncode == 0, ended.stderr
    assert study.results("initialize", "mni6", "stage.json").is_file()
    assert [(job["JobState"], job["Partition"]) for job in told_of(jobs)] == [("COMPLETED", "cpu")]


@pytest.mark.slow
@pytest.mark.slurm
def test_a_sample_runs_through_slurm(make_study, finished, jobs):
    known = len(told_of(jobs))
    study = make_study(("mni6",))
    write_site_profile(study)
    ended = study.regflow("run", "--profile", "site", "--", "results/jobs/deform/0001.json")
    assert ended.returncode == 0, ended.stderr
    assert study.checksums("refine/mni6/*.h5") == finished.checksums("refine/mni6/*.h5")
    told = told_of(jobs)[known:]
    assert {job["JobState"] for job in told} == {"COMPLETED"}
    assert sorted(job["Partition"] for job in told) == ["cpu", "gpu"]


def asked_memory() -> dict[str, str]:
    """Return the memory that each job asked for that Slurm still knows."""
    shown = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True).stdout
    return dict(re.findall(r"^JobId=(\d+) .*MinMemoryNode=(\S+)", shown, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_that_lacks_memory_comes_back_with_more(make_study, finished, jobs):
    """What it is given at first does not hold Python and its libraries."""
    known = set(asked_memory())
    study = make_study(refine={"methods": ["greedy"], "options": {"greedy": {"device": "cpu"}}})
    scarce = {"register": {"mem_mb": "50 if attempt == 1 else 4000"}}
    write_site_profile(study, **{"set-resources": scarce})
    ended = study.regflow("run", "--profile", "site")
    assert ended.returncode == 0, ended.stderr
    asked = [memory for number, memory in asked_memory().items() if number not in known]
    assert {"50M", "4000M"} <= set(asked)
    assert "FAILED" in {job["JobState"] for job in told_of(jobs)}
    assert study.checksums("apply/*/*.nii.gz") == finished.checksums("apply/*/*.nii.gz")


@pytest.mark.slow
@pytest.mark.slurm
def test_a_cohort_outlives_a_node_that_crashes(make_study, finished, jobs):
    study = make_study()
    write_site_profile(study)
    command = [sys.executable, "-m", "regflow", "run", "--profile", "site"]
    with subprocess.Popen(command, cwd=study.folder, stderr=subprocess.PIPE, text=True) as run:
        wait_for(study.results("refine", "mni6", "stage.json"), run)
        crash_node(jobs.parent)
        _, told = run.communicate()
    assert run.returncode == 0, told
    states = [job["JobState"] for job in told_of(jobs)]
    assert states.count("COMPLETED") < len(states)
    assert study.checksums("apply/*/*.nii.gz") == finished.checksums("apply/*/*.nii.gz")
    assert not study.leftovers()


def wait_for(path: Path, run: subprocess.Popen[str]) -> None:
    """Wait until a run has made a file."""
    while not path.exists():
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.slurm
def test_blocks_of_scenes_go_through_slurm_and_change_no_byte(tmp_path, jobs):
    """Every stage that works on blocks sends them to workers that Slurm runs, and some are killed."""
    write_scenes(tmp_path)
    workers = {"queue": "cpu", "walltime": "00:10:00", "job_name": "blocks", "memory": "1GB"}
    on_slurm = {"scheduler": "slurm", "workers": 2, "chunk": 100, "slurm": workers}
    found = {}
    for name, dask in {"here": {"chunk": 128}, "slurm": on_slurm}.items():
        study = raster_study(tmp_path / name, tmp_path, ("first",), dask=dask, jobs={"each_stage": True})
        with killing_workers("blocks"):
            ended = study.snakemake("results/apply/first", "results/detect/first")
        assert ended.returncode == 0, ended.stderr
        products = ("refine/first/*.tif", "apply/first/*.tif", "detect/first/*.tif", "detect/first/*.gpkg")
        found[name] = {k: v for pattern in products for k, v in study.checksums(pattern).items()}
    assert len(found["here"]) >= 6
    assert found["slurm"] == found["here"]
    sent = [job for job in told_of(jobs) if job["Name"] == "blocks"]
    assert len(sent) >= 2
    assert {job["Partition"] for job in sent} == {"cpu"}
    assert [job["JobState"] for job in sent].count("CANCELLED") >= 2
    logs = study.results("logs", "apply", "first.log").read_text(encoding="utf-8")
    assert re.search(r"Dask's dashboard: http://\S+:\d+/status", logs)


@contextmanager
def killing_workers(name: str):
    """While the block runs, kill the older of two running jobs of a name, whenever there are two."""
    over = threading.Event()

    def kill() -> None:
        killed = set()
        while not over.wait(0.5):
            listed = subprocess.run(["squeue", "-h", "-n", name, "-t", "R", "-o", "%i"], capture_output=True)
            running = sorted(int(number) for number in listed.stdout.split())
            if len(running) > 1 and running[0] not in killed:
                killed.add(running[0])
                subprocess.run(["scancel", "--full", str(running[0])], check=True)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cancel_all_jobs_once(marker: str, number: int) -> int:
    """Have Slurm cancel the job that this runs in and its like, the first time that item 5 comes by."""
    if number != 5:
        return number
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return number
    subprocess.run(["scancel", "--name", "mortal"], check=True)
    signal.pause()
    return number


@pytest.mark.slow
@pytest.mark.slurm
def test_a_run_outlives_all_its_jobs_of_blocks(tmp_path, jobs, monkeypatch):
    """They are submitted again, and do what was lost."""
    places = (
        *map(str, (Path(__file__).parent, ROOT / "tests" / "support")),
        os.environ.get("PYTHONPATH", ""),
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    monkeypatch.setattr("regflow.core.chunks._RENEW_SECONDS", 2)
    monkeypatch.chdir(tmp_path)
    settings = {"scheduler": "slurm", "workers": 2, "slurm": {"queue": "cpu", "job_name": "mortal"}}
    with open_workers(settings) as workers:
        work = partial(cancel_all_jobs_once, str(tmp_path / "cancelled"))
        assert list(map_blocks(work, list(range(12)), workers)) == list(range(12))
    assert (tmp_path / "cancelled").exists()
    states = [job["JobState"] for job in told_of(jobs) if job["Name"] == "mortal"]
    assert states.count("CANCELLED") >= 2
    assert len(states) >= 3
