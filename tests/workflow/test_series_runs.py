"""A series of a cohort as a job of the workflow, which measures no link twice."""

import shutil

import pytest
from study import planned

from regflow.core.files import read_json
from regflow.provenance.verification import verify_run

NAMES = ("mni6", "icbm2009a", "mni2009c")


def make_series_study(make_study, names=("old", "old", "old")):
    study = make_study(NAMES)
    for row, name in zip(study.rows, names, strict=True):
        row["series"] = name
    return study.write()


def test_each_series_of_the_sheet_is_one_job(make_study):
    assert planned(make_series_study(make_study).snakemake("--dry-run").stdout)["series"] == 1
    assert "series" not in planned(make_study().snakemake("--dry-run").stdout)


def test_a_series_of_one_image_is_told_before_anything_runs(make_study):
    told = make_series_study(make_study, ("old", "old", "young")).snakemake("--dry-run")
    assert told.returncode != 0
    assert "series young: a series needs 2 images" in told.stderr + told.stdout


@pytest.mark.slow
def test_a_series_is_aligned_and_goes_on_where_it_was(make_study):
    study = make_series_study(make_study)
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    folder = study.results("series", "old")
    assert [row["used"] for row in read_json(folder / "series.json")["images"]] == ["yes"] * 3
    assert verify_run(study.results()).problems == []
    assert planned(study.snakemake("--dry-run").stdout) == {}
    links = sorted((folder / "steps" / "links").glob("*/link.json"))
    written = [link.stat().st_mtime_ns for link in links]
    assert len(links) == 3
    before = study.checksums("series/old/aligned/*/*")
    shutil.rmtree(folder / "aligned")
    study.results("jobs", "series", "old.json").unlink()
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    assert study.checksums("series/old/aligned/*/*") == before
    assert [link.stat().st_mtime_ns for link in links] == written
