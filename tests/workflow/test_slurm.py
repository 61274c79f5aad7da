"""What the cluster profile asks of Slurm, and a run through a real Slurm of one node."""

import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import yaml
from one_node_slurm import one_node
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


@pytest.mark.slurm
def test_a_sample_runs_through_slurm(make_study, finished, jobs):
    study = make_study(("mni6",))
    shipped = yaml.safe_load((PROFILE / "profile.yaml").read_text(encoding="utf-8"))
    # Without an accounting database sacct never answers; and a test does not wait for the defaults.
    here = {
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 3,
        "slurm-no-account": True,
        "latency-wait": 5,
    }
    (study.folder / "site").mkdir()
    (study.folder / "site" / "profile.yaml").write_text(yaml.safe_dump({**shipped, **here}))
    ended = study.regflow("run", "--profile", "site", "--", "results/jobs/deform/0001.json")
    assert ended.returncode == 0, ended.stderr
    assert study.checksums("refine/mni6/*.h5") == finished.checksums("refine/mni6/*.h5")
    told = told_of(jobs)
    assert {job["JobState"] for job in told} == {"COMPLETED"}
    assert sorted(job["Partition"] for job in told) == ["cpu", "gpu"]


@pytest.mark.slow
@pytest.mark.slurm
def test_blocks_of_scenes_go_through_slurm_and_change_no_byte(tmp_path, jobs):
    """Every stage that works on blocks sends them to workers that Slurm runs."""
    write_scenes(tmp_path)
    workers = {"queue": "cpu", "walltime": "00:10:00", "job_name": "blocks", "memory": "1GB"}
    on_slurm = {"scheduler": "slurm", "workers": 2, "chunk": 100, "slurm": workers}
    found = {}
    for name, dask in {"here": {"chunk": 128}, "slurm": on_slurm}.items():
        study = raster_study(tmp_path / name, tmp_path, ("first",), dask=dask)
        ended = study.snakemake("results/apply/first", "results/detect/first")
        assert ended.returncode == 0, ended.stderr
        products = ("refine/first/*.tif", "apply/first/*.tif", "detect/first/*.tif", "detect/first/*.gpkg")
        found[name] = {k: v for pattern in products for k, v in study.checksums(pattern).items()}
    assert len(found["here"]) >= 6
    assert found["slurm"] == found["here"]
    sent = [job for job in told_of(jobs) if job["Name"] == "blocks"]
    assert len(sent) >= 2
    assert {job["Partition"] for job in sent} == {"cpu"}


def cancel_own_job_once(marker: str, number: int) -> int:
    """Have Slurm cancel the job that this runs in, the first time that item 5 comes by."""
    if number != 5:
        return number
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return number
    subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]], check=True)
    signal.pause()
    return number


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_of_blocks_that_is_cancelled_does_not_stop_the_run(tmp_path, jobs, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    settings = {"scheduler": "slurm", "workers": 2, "slurm": {"queue": "cpu", "job_name": "mortal"}}
    with open_workers(settings) as workers:
        work = partial(cancel_own_job_once, str(tmp_path / "cancelled"))
        assert list(map_blocks(work, list(range(12)), workers)) == list(range(12))
    assert (tmp_path / "cancelled").exists()
    assert "CANCELLED" in {job["JobState"] for job in told_of(jobs) if job["Name"] == "mortal"}
