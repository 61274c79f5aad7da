"""Studies whose inputs and results lie on S3, on a real server of this machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from raster_study import raster_study, write_scenes
from s3_server import KEY, SECRET, serving_s3
from study import FAST, Study, planned

from regflow.core.files import compute_sha256, read_json
from regflow.core.grid import Grid
from regflow.datasets.scenes import write_scene
from regflow.provenance.inventory import list_present_files
from regflow.provenance.verification import verify_run

STORED = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://results")
UNSHARED = ("--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache")
PRODUCTS = ("initialize/*/*.h5", "refine/*/*.h5", "apply/*/*.nii.gz", "report/images/*")
SCENES = ("refine/*/*.tif", "apply/*/*.tif", "detect/*/*.tif", "report/images/*")


@pytest.fixture(scope="module")
def buckets(tmp_path_factory):
    """A folder of two buckets, ``data`` and ``results``, that an S3 server serves."""
    folder = tmp_path_factory.mktemp("s3") / "buckets"
    for bucket in ("data", "results"):
        (folder / bucket).mkdir(parents=True)
    with serving_s3(folder) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield folder


def stored(prefix: str) -> tuple[str, ...]:
    return (*STORED[:-1], f"{STORED[-1]}/{prefix}", *UNSHARED)


def checksums(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): compute_sha256(path) for path in found}


def refuse_secrets(*folders: Path) -> None:
    """No file of a run holds the key or its secret: no log, page, record or metadata of Snakemake."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 40
    for path in files:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert KEY.encode() not in content, path


@pytest.mark.slow
def test_volumes_from_s3_to_s3(buckets, finished, tmp_path, volume_file):
    for name in ("mni6", "mni2009c"):
        shutil.copy(volume_file(name, 4.0), buckets / "data" / f"{name}.nii.gz")
    rows = [
        {"sample": "mni6", "moving": "s3://data/mni6.nii.gz", "modality": "T1w"},
        {"sample": "gone", "moving": "s3://data/no.nii.gz"},
    ]
    atlases = {"mni": {"image": "s3://data/mni2009c.nii.gz"}}
    given = {"samples": "config/samples.tsv", "fixed": "mni", "atlases": atlases, "jobs": {"samples": 5}}
    config = {**given, **FAST}
    study = Study(tmp_path / "here", rows, config).write()
    ended = study.snakemake(*stored("volumes"))
    assert ended.returncode == 0, ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    results = buckets / "results" / "volumes" / "results"
    products = checksums(results, PRODUCTS)
    expected = {path: sum for path, sum in checksums(finished.results(), PRODUCTS).items() if "mni6" in path}
    assert len(expected) == 5
    assert expected.items() <= products.items()
    manifest = read_json(results / "ingest" / "moving" / "mni6.json")
    assert manifest["paths"]["image"] == "s3://data/mni6.nii.gz"
    assert manifest["sha256"]["image"] == compute_sha256(volume_file("mni6", 4.0))
    lost = read_json(results / "ingest" / "moving" / "gone.json")
    assert lost["problems"] == ["s3://data/no.nii.gz: there is nothing at this address; correct it"]
    assert 'href="mni6.html"' in (results / "report" / "index.html").read_text(encoding="utf-8")
    assert not any(path.is_file() for path in study.results().rglob("*"))
    verified = verify_run(results)
    assert verified.problems == []
    assert verified.checked == len(list(list_present_files(results)))
    told = study.regflow("status", "--storage", "s3://results/volumes")
    assert told.returncode == 0, told.stderr
    assert "2 of 2 samples are done" in told.stdout
    assert "gone: s3://data/no.nii.gz: there is nothing at this address" in told.stdout
    refuse_secrets(results, study.folder)
    # Another machine finds every sample done; its sheet is younger than the copy of it among the results.
    elsewhere = Study(tmp_path / "elsewhere", rows, config).write()
    again = elsewhere.snakemake(*stored("volumes"), "--dry-run", "--rerun-triggers", "mtime")
    assert again.returncode == 0, again.stderr
    assert set(planned(again.stdout)) <= {"provenance", "report_cohort", "crate", "all"}


@pytest.mark.slow
def test_another_machine_goes_on_where_a_run_was_killed(buckets, finished, tmp_path, volume_file):
    for name in ("mni6", "mni2009c"):
        shutil.copy(volume_file(name, 4.0), buckets / "data" / f"{name}.nii.gz")
    rows = [{"sample": "mni6", "moving": "s3://data/mni6.nii.gz", "modality": "T1w"}]
    given = {"samples": "config/samples.tsv", "fixed": "mni", **FAST}
    config = {**given, "atlases": {"mni": {"image": "s3://data/mni2009c.nii.gz"}}}
    study = Study(tmp_path / "here", rows, config).write()
    results = buckets / "results" / "killed" / "results"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(study.command(*stored("killed")), cwd=study.folder, **quiet) as run:
        while not (results / "apply" / "mni6" / "stage.json").exists():
            assert run.poll() is None
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGKILL)
    elsewhere = Study(tmp_path / "elsewhere", rows, config).write()
    ended = elsewhere.snakemake(*stored("killed"))
    assert ended.returncode == 0, ended.stderr
    told = (results / "logs" / "jobs" / "register" / "0001.log").read_text(encoding="utf-8")
    assert "mni6: report" in told
    assert "mni6: refine" not in told
    expected = {path: sum for path, sum in checksums(finished.results(), PRODUCTS).items() if "mni6" in path}
    assert checksums(results, PRODUCTS) == expected


@pytest.mark.slow
def test_scenes_from_s3_to_s3_and_a_batch_that_goes_on(buckets, tmp_path):
    write_scenes(buckets / "data")
    here = raster_study(tmp_path / "here", buckets / "data")
    ended = here.snakemake()
    assert ended.returncode == 0, ended.stderr
    study = raster_study(tmp_path / "there", buckets / "data")
    for name in ("samples.tsv", "config.yaml"):
        file = study.folder / "config" / name
        file.write_text(file.read_text().replace(str(buckets / "data"), "s3://data"))
    run = ("run", "--cores", "2", "--", *stored("scenes"))
    ended = study.regflow(*run)
    assert ended.returncode == 0, ended.stderr
    results = buckets / "results" / "scenes" / "results"
    expected = checksums(here.results(), SCENES)
    assert len(expected) > 10
    assert checksums(results, SCENES) == expected
    refuse_secrets(results, study.folder)
    # A job that was killed leaves what it had done: without a record a directory does not count.
    (results / "jobs" / "register" / "0001.json").unlink()
    (results / "apply" / "first" / "stage.json").unlink()
    ended = study.regflow(*run)
    assert ended.returncode == 0, ended.stderr
    assert checksums(results, SCENES) == expected
    told = (results / "logs" / "jobs" / "register" / "0001.log").read_text(encoding="utf-8")
    assert "1 samples: 1 stages ran" in told


def test_a_raster_is_read_where_it_lies_with_credentials_alone(buckets, tmp_path):
    grid = Grid((16, 16), np.diag([10.0, -10.0, 1.0]), "EPSG:32633")
    write_scene(buckets / "data" / "small.tif", {"b": np.ones(grid.shape)}, grid)
    look = (
        "from regflow.io.rasters import read_raster_header as read; print(read('s3://data/small.tif').shape)"
    )
    for secret, told in ((SECRET, "(16, 16)"), ("wrong", "the server refuses access")):
        ended = subprocess.run(
            [sys.executable, "-c", look],
            env={**os.environ, "AWS_SECRET_ACCESS_KEY": secret},
            capture_output=True,
            text=True,
        )
        assert told in ended.stdout + ended.stderr
