"""Undisturbed runs: what comes out, what is done again, and that cores do not matter."""

import zipfile

import pytest
from crate_check import find_issues
from study import planned

from regflow.config.workflow import WORKFLOWS
from regflow.core.files import read_json
from regflow.provenance.comparison import compare_runs
from regflow.provenance.run_crate import read_crate
from regflow.provenance.verification import verify_run

SAMPLES = ("mni6", "icbm2009a")


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_gets_everything_that_standard_tools_read(finished, sample):
    import nibabel as nib
    import SimpleITK as sitk

    for stage in ("preprocess/moving", "initialize", "refine", "apply", "assess"):
        outcome = read_json(finished.results(stage, sample, "stage.json"))
        assert outcome["state"] == "done", (stage, outcome)
    warped = finished.results("apply", sample, "warped.nii.gz")
    fixed = nib.load(finished.config["atlases"]["mni"]["image"])
    assert nib.load(warped).shape == fixed.shape
    for name in ("transform.h5", "inverse.h5"):
        transform = sitk.ReadTransform(str(finished.results("refine", sample, name)))
        assert transform.GetDimension() == 3
    assert finished.results("report", f"{sample}.html").stat().st_size > 10_000


def test_a_cohort_gets_its_table_report_and_provenance(finished):
    import pandas as pd

    table = pd.read_csv(finished.results("assess", "cohort.tsv"), sep="\t")
    assert set(table["sample"]) == set(SAMPLES)
    assert set(pd.read_parquet(finished.results("assess", "cohort.parquet"))["sample"]) == set(SAMPLES)
    page = finished.results("report", "index.html").read_text(encoding="utf-8")
    assert all(sample in page for sample in SAMPLES)
    assert finished.results("provenance.json").is_file()
    assert finished.results("config.yaml").is_file()


def test_a_run_leaves_a_crate_of_itself(finished, monkeypatch):
    found = verify_run(finished.results(), inputs=True)
    assert found.problems == []
    assert find_issues(finished.results(), monkeypatch) == []
    paths = read_crate(finished.results()).files
    assert {"samples.tsv", "config.yaml", "multiqc/regflow_general_mqc.json"} <= paths.keys()
    assert all(f"apply/{sample}/warped.nii.gz" in paths for sample in SAMPLES)


@pytest.mark.slow
def test_a_run_comes_out_again_from_its_crate(finished, tmp_path):
    again = ("reproduce", "results", "--output", str(tmp_path / "again"), "--cores", "1")
    ended = finished.regflow(*again)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("the run came out again\n")
    changed = tmp_path / "again" / "results" / "config.yaml"
    changed.write_text(changed.read_text(encoding="utf-8").replace("seed: 0", "seed: 1"), encoding="utf-8")
    ended = finished.regflow("reproduce", str(changed.parent), "--output", str(tmp_path / "third"))
    assert ended.returncode == 2
    assert f"{changed}: is missing or has changed since the run" in ended.stderr


def test_every_job_leaves_its_log_and_its_cost(finished):
    logs, costs = finished.results("logs"), finished.results("benchmarks")
    said = {path.relative_to(logs).with_suffix("") for path in logs.rglob("*.log")}
    cost = {path.relative_to(costs).with_suffix("") for path in costs.rglob("*.tsv")}
    assert cost == {path for path in said if path.parts[0] in ("jobs", path.name)}
    for sample in SAMPLES:
        assert sum(path.name == sample for path in said) == len(WORKFLOWS["volumes"].stages)


def test_nothing_half_written_is_left(finished):
    assert finished.leftovers() == []


def test_a_second_run_has_nothing_to_do(finished):
    again = finished.snakemake()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("each_stage", [False, True])
def test_neither_cores_nor_jobs_change_a_byte(finished, make_study, each_stage):
    alone = make_study(jobs={"samples": 2, "each_stage": each_stage})
    ended = alone.snakemake(cores=1)
    assert ended.returncode == 0, ended.stderr
    assert alone.results("jobs", "register", "0001.json").exists() != each_stage
    for pattern in ("initialize/*/*.h5", "refine/*/*.h5", "apply/*/*.nii.gz", "assess/*/*.nii.gz"):
        assert alone.checksums(pattern), pattern
        assert alone.checksums(pattern) == finished.checksums(pattern)
    assert verify_run(alone.results()).problems == []
    found = compare_runs(read_crate(finished.results()), read_crate(alone.results()))
    assert set(found.different) <= {"config.yaml"}
    assert found.missing == found.inputs == []
    # Jobs of one stage keep the working images, which the next one reads.
    assert all(path.startswith("preprocess/moving/") for path in found.additional)


@pytest.mark.slow
def test_the_fixed_image_is_prepared_once(make_study):
    jobs = planned(make_study().snakemake("--dry-run").stdout)
    assert jobs["references"] == 1
    study = make_study(jobs={"each_stage": True})
    jobs = planned(study.snakemake("--dry-run").stdout)
    assert jobs["preprocess_fixed"] == 1
    assert jobs["preprocess_moving"] == jobs["refine"] == jobs["apply"] == len(SAMPLES)


@pytest.mark.slow
def test_samples_that_join_and_settings_that_change_cost_no_more_than_they_must(make_study):
    study = make_study(("mni6",))
    assert study.snakemake().returncode == 0
    made = {path: path.stat().st_mtime_ns for path in study.results("refine").rglob("*.h5")}
    study.rows.insert(0, {**study.rows[0], "sample": "first"})
    jobs = planned(study.write().snakemake("--dry-run").stdout)
    assert jobs["register"] == 1
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    told = study.results("logs", "jobs", "register", "0002.log").read_text(encoding="utf-8")
    assert "1 samples: 7 stages ran" in told
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert "first.html" in study.results("report", "index.html").read_text(encoding="utf-8")
    study.config["report"] = {"slices": 5}
    assert planned(study.write().snakemake("--dry-run").stdout)["register"] == 2
    assert study.snakemake().returncode == 0
    told = study.results("logs", "jobs", "register", "0001.log").read_text(encoding="utf-8")
    assert "1 samples: 2 stages ran" in told


def test_check_only_looks_at_the_inputs(make_study):
    jobs = planned(make_study().snakemake("check", "--dry-run").stdout)
    assert jobs == {"check": 1, "ingest_fixed": 1, "ingest_moving": len(SAMPLES)}


def test_snakemake_report_packs_the_pages(finished):
    ended = finished.snakemake("--report", "report.zip")
    assert ended.returncode == 0, ended.stderr
    with zipfile.ZipFile(finished.folder / "report.zip") as archive:
        names = archive.namelist()
    assert any(name.endswith("index.html") for name in names)
    assert any(name.endswith("cohort.tsv") for name in names)
