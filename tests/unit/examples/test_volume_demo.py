import csv
import json

import numpy as np
import pytest

from regflow.core.resample import resample_array
from regflow.datasets import packaged as realdata
from regflow.examples import volumes as demo
from regflow.examples.running import summarize_overhead
from regflow.io.landmarks import read_landmarks
from regflow.io.transforms import read_transform
from regflow.io.volumes import read_volume


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo.build_volume_study(folder, spacing_mm=4.0)
    return folder


@pytest.fixture(scope="module")
def rows(study):
    with (study / "config" / "samples.tsv").open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_every_file_the_sheet_names_is_there(study, rows):
    assert len(rows) == 5 + (realdata.locate_source("colin27") is not None)
    for row in rows:
        companions = [item.partition("=")[2] for item in row["companions"].split(";") if item]
        named = [value for key, value in row.items() if value.startswith("data/") and key != "companions"]
        for path in [*named, *companions]:
            assert (study / path).is_file(), path


def test_rows_without_their_volume_are_left_out(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mni6.nii.gz").touch()
    demo._write_config(tmp_path)
    lines = (tmp_path / "config" / "samples.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["sample", "mni6"]


@pytest.mark.parametrize(
    ("name", "fixed"), [("warped-mild", "mni2009c"), ("warped-hard", "mni2009c"), ("warped-t2", "icbm2009a")]
)
def test_a_subject_its_labels_and_its_landmarks_follow_the_stored_truth(study, name, fixed):
    data = study / "data"
    truth = read_transform(data / f"{name}_truth.h5")
    atlas, drawn = (read_volume(data / f"{fixed}{part}.nii.gz") for part in ("", "_tissues"))
    subject, tissues = (read_volume(data / f"{name}{part}.nii.gz") for part in ("", "_tissues"))
    brain = drawn.channel > 0

    pulled = resample_array(tissues.channel, tissues.grid, atlas.grid, truth, "nearest")
    plain = resample_array(tissues.channel, tissues.grid, atlas.grid, None, "nearest")
    assert (pulled == drawn.channel)[brain].mean() > max(0.65, (plain == drawn.channel)[brain].mean() + 0.2)

    image = resample_array(subject.channel.astype(np.float32), subject.grid, atlas.grid, truth)
    correlation = np.corrcoef(image[brain], atlas.channel[brain])[0, 1]
    assert correlation < -0.4 if name == "warped-t2" else correlation > 0.6

    points = [read_landmarks(data / f"{stem}_landmarks.csv").points for stem in (fixed, name)]
    assert np.abs(truth.apply(points[0]) - points[1]).max() < 0.02
    assert np.linalg.norm(points[0] - points[1], axis=1).mean() > 4


def test_structure_centers_lie_on_their_sides():
    centers = demo.find_structure_centers()
    for name, (x, *_) in zip(centers.names, centers.points, strict=True):
        side = {"left": 1, "right": -1}.get(name.split("-")[0], 0)
        assert np.sign(x) == side if side else abs(x) < 2, name


def test_the_overhead_is_what_the_stages_did_not_use(tmp_path):
    for number, seconds in enumerate((30.0, 50.0)):
        folder = tmp_path / "refine" / str(number)
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps({"seconds": seconds}))
    line = summarize_overhead(tmp_path, wall_seconds=50.0, cores=2)
    assert line.startswith("2 stages computed for 80 s")
    assert " 20 %" in line
