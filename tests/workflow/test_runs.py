"""Undisturbed runs: what comes out, what is done again, and that cores do not matter."""

import zipfile

import pytest
from study import planned

from regflow.core.files import read_json

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


def test_every_job_leaves_its_log_and_its_cost(finished):
    logs = {
        p.relative_to(finished.results("logs")).with_suffix("")
        for p in finished.results("logs").rglob("*.log")
    }
    costs = finished.results("benchmarks")
    assert logs == {p.relative_to(costs).with_suffix("") for p in costs.rglob("*.tsv")}
    assert len(logs) >= 2 * len(SAMPLES)


def test_nothing_half_written_is_left(finished):
    assert finished.leftovers() == []


def test_a_second_run_has_nothing_to_do(finished):
    again = finished.snakemake()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr


def test_one_core_gives_the_same_bytes(finished, make_study):
    alone = make_study()
    assert alone.snakemake(cores=1).returncode == 0
    for pattern in ("initialize/*/*.h5", "refine/*/*.h5", "apply/*/*.nii.gz", "assess/*/*.nii.gz"):
        assert alone.checksums(pattern), pattern
        assert alone.checksums(pattern) == finished.checksums(pattern)


def test_the_fixed_image_is_prepared_once(make_study):
    jobs = planned(make_study().snakemake("--dry-run").stdout)
    assert jobs["references"] == 1
    study = make_study(jobs={"each_stage": True})
    jobs = planned(study.snakemake("--dry-run").stdout)
    assert jobs["preprocess_fixed"] == 1
    assert jobs["preprocess_moving"] == jobs["refine"] == jobs["apply"] == len(SAMPLES)


def test_check_only_looks_at_the_inputs(make_study):
    jobs = planned(make_study().snakemake("check", "--dry-run").stdout)
    assert jobs == {"check": 1, "ingest_fixed": 1, "ingest_moving": len(SAMPLES)}


def test_snakemake_report_packs_the_pages(finished):
    ended = finished.snakemake("--report", "report.zip")
    assert ended.returncode == 0, ended.stderr
    with zipfile.ZipFile(finished.folder / "report.zip") as archive:
        names = archive.namelist()
    assert any(name.endswith("index.html") for name in names)
    assert any(name.endswith("mni6.html") for name in names)
