"""A template of the cohort as jobs of the workflow, and the cohort brought onto it."""

import shutil

import pytest
from study import planned

from regflow.core.files import read_json
from regflow.provenance.verification import verify_run

ENGINE = {"shrink": [2], "iterations": [20], "radius": [2], "field_sigma": [0.27]}
ROUNDS = [{"kind": "rigid"}, {"kind": "deformable", "options": {"greedy": ENGINE}}]
NAMES = ("mni6", "icbm2009a", "mni2009c")
OWN = {"fixed": "template", "template": {"rounds": ROUNDS}}


def test_the_rounds_of_a_template_come_before_the_cohort_goes_onto_it(make_study):
    jobs = planned(make_study(NAMES, **OWN).snakemake("--dry-run").stdout)
    assert {name: count for name, count in jobs.items() if name.startswith("template")} == {
        "template": 1,
        "template_images": 1,
        "template_start": 1,
        "template_round": 2,
        "template_mean": 2,
    }
    assert "register" in jobs


def test_subjects_with_several_images_have_a_template_of_their_own_first(make_study):
    study = make_study(NAMES, **OWN)
    for row, subject in zip(study.rows, "aab", strict=True):
        row["subject"] = subject
    jobs = planned(study.write().snakemake("--dry-run").stdout)
    assert jobs["template_subject"] == 1
    assert jobs["template_round"] == 2


def test_a_cohort_with_an_atlas_has_no_template(make_study):
    jobs = planned(make_study().snakemake("--dry-run").stdout)
    assert not [name for name in jobs if name.startswith("template")]


def test_rounds_that_cannot_be_are_told_before_anything_runs(make_study):
    study = make_study(NAMES, **{**OWN, "template": {"rounds": ROUNDS[1:]}})
    told = study.snakemake("--dry-run")
    assert told.returncode != 0
    assert "the first round is deformable" in told.stderr + told.stdout


@pytest.mark.slow
def test_a_cohort_goes_onto_its_own_template_and_a_round_that_was_lost_comes_out_again(make_study):
    study = make_study(NAMES, **OWN)
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    template = study.results("template", "template.nii.gz")
    assert template.is_file()
    for name in NAMES:
        assert read_json(study.results("refine", name, "stage.json"))["state"] == "done"
        assert study.results("template", "transforms", f"{name}.h5").is_file()
    assert verify_run(study.results()).problems == []
    assert planned(study.snakemake("--dry-run").stdout) == {}
    before = study.checksums("template/t*")
    shutil.rmtree(study.results("template"))
    shutil.rmtree(study.results("jobs", "template-steps", "cohort", "rounds", "02"))
    for mark in ("template/products.json", "template-round-2/mean.json", "template-round-2/0001.json"):
        study.results("jobs", mark).unlink()
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    assert study.checksums("template/t*") == before
