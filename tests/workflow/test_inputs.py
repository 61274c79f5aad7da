"""Every kind of input plans the jobs that it needs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from study import planned

from regflow.core.landmarks import Landmarks
from regflow.io.landmarks import write_landmarks


def plan(study) -> dict[str, int]:
    """Return the jobs of a dry run."""
    ended = study.write().snakemake("--dry-run")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return planned(ended.stdout)


@pytest.mark.slow
def test_a_bare_sheet(make_study):
    jobs = plan(make_study(("mni6",)))
    assert jobs["register"] == 1
    assert not jobs.keys() & {"publish", "references"}


def test_masks_labels_landmarks_and_companions(make_study, volume_file, tmp_path):
    study = make_study(("mni6",))
    write_landmarks(tmp_path / "points.csv", Landmarks(("a",), np.zeros((1, 3))))
    labels = volume_file("neuromorphometrics", 4.0)
    study.rows[0] |= {
        "moving_mask": study.rows[0]["moving"],
        "moving_labels": labels,
        "moving_landmarks": tmp_path / "points.csv",
        "fixed_landmarks": tmp_path / "points.csv",
        "companions": f"labels={labels}",
    }
    assert plan(study)["register"] == 1


def test_a_fixed_image_for_each_row(make_study, volume_file):
    study = make_study(("mni6", "icbm2009a"))
    study.rows[0]["fixed"] = volume_file("mni2009c", 4.0)
    jobs = plan(study)
    assert jobs["register"] == 2
    assert "references" not in jobs


@pytest.mark.slow
def test_a_comma_separated_sheet(make_study):
    study = make_study(("mni6",)).write()
    sheet = study.folder / "config" / "samples.tsv"
    sheet.with_suffix(".csv").write_text(sheet.read_text(encoding="utf-8").replace("\t", ","))
    study.config["samples"] = "config/samples.csv"
    assert plan(study)["register"] == 1


@pytest.fixture
def bids_folder(tmp_path, volume_file) -> Path:
    """A BIDS data set of two subjects."""
    root = tmp_path / "raw"
    for subject, name in (("01", "mni6"), ("02", "icbm2009a")):
        folder = root / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        shutil.copyfile(volume_file(name, 4.0), folder / f"sub-{subject}_T1w.nii.gz")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "two", "BIDSVersion": "1.9.0"}))
    return root


@pytest.mark.slow
def test_a_bids_data_set_runs_to_its_derivatives(make_study, bids_folder):
    study = make_study(())
    del study.config["samples"]
    study.config["bids"] = {"path": str(bids_folder)}
    jobs = plan(study)
    assert jobs["register"] == 2
    assert jobs["publish"] == 1
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    derivatives = study.results("derivatives")
    assert (derivatives / "dataset_description.json").is_file()
    warped = derivatives / "sub-01" / "anat" / "sub-01_space-mni_desc-warped_T1w.nii.gz"
    assert warped.is_file()
    assert warped.with_name("sub-01_from-T1w_to-mni_mode-image_xfm.h5").is_file()
