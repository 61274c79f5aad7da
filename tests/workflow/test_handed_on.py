"""Where no method refines, the linear map makes the products: one pair by itself, and a whole run."""

import json

import numpy as np
import pytest
import rasterio
import SimpleITK as sitk
from raster_study import QUICK, raster_study, write_scenes
from study import FAST

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.commands.register import STAGE_COUNTS
from regflow.core.files import read_json
from regflow.io.raster_transforms import read_displacement
from regflow.pipeline.pair import register_pair

NO_FIELD = {
    "methods": ["instance-optimization"],
    "options": {"instance-optimization": {"loss": "dice"}},
}
"""A refinement that needs label maps, for samples without any."""
NO_TIE_POINTS = {"options": {"tie-points": {"spacing_px": 250}}}


def refused(quality: dict) -> None:
    """Assert that the figures say what the products come from, and why not from refine."""
    assert quality["transform_from"] == "initialize"
    assert quality["verdict"]["status"] in ("warn", "fail")


def test_a_pair_of_volumes_gets_its_products_from_the_linear_map(tmp_path, volume_file):
    fixed = FixedVolume("fixed", str(volume_file("mni2009c", 4.0)))
    moving = VolumeSample("mni6", str(volume_file("mni6", 4.0)), fixed)
    found = register_pair("volumes", moving, tmp_path / "out", config={**FAST, "refine": NO_FIELD}, threads=2)
    made = {path.name for path in found.output.iterdir()}
    assert made == {"warped.nii.gz", "transform.h5", "inverse.h5", "quality.json", "report.html"}
    refused(read_json(found.output / "quality.json"))
    assert "initial, which stands (instance-optimization" in found.quality["verdict"]["reason"]
    point = np.array([[10.0, -20.0, 5.0]])
    there, back = (sitk.ReadTransform(str(found.output / f"{n}.h5")) for n in ("transform", "inverse"))
    np.testing.assert_allclose(back.TransformPoint(there.TransformPoint(point[0].tolist())), point[0])
    assert "transform by" in (found.output / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_of_volumes_gets_them_too(make_study):
    study = make_study(("mni6",), refine=NO_FIELD)
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    for stage, file in (
        ("apply", "warped.nii.gz"),
        ("refine", "transform.h5"),
        ("refine", "inverse.h5"),
        ("assess", "jacobian.nii.gz"),
    ):
        assert study.results(stage, "mni6", file).is_file()
    outcome = read_json(study.results("refine", "mni6", "stage.json"))
    assert (outcome["state"], outcome["verdict"]["status"]) == ("done", "warn")
    assert outcome["details"] == {"method": "initial", "kept": True}
    refused(read_json(study.results("assess", "mni6", "quality.json")))
    header, row = (line.split("\t") for line in _lines(study.results("assess", "cohort.tsv")))
    assert dict(zip(header, row, strict=True))["transform_from"] == "initialize"
    for page in ("index.html", "mni6.html"):
        assert "no deformation on top of it" in study.results("report", page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder)
    return folder


def test_a_pair_of_scenes_gets_its_products_from_the_linear_map(tmp_path, scenes):
    files = [Scene(str(scenes / f"{name}.tif"), bands=("B04",)) for name in ("first", "fixed")]
    sample = RasterSample("first", files[0], FixedScene("fixed", files[1]))
    told = []
    config = {**QUICK, "refine": NO_TIE_POINTS}
    found = register_pair("rasters", sample, tmp_path / "out", config=config, threads=2, progress=told.append)
    assert [event.state for event in told].count("ended") == len(told) // 2 == STAGE_COUNTS["rasters"]
    made = {path.name for path in found.output.iterdir()}
    assert {"warped.tif", "transform.json", "displacement.tif", "quality.json", "report.html"} <= made
    assert "tie_points.gpkg" not in made
    refused(read_json(found.output / "quality.json"))
    with rasterio.open(found.output / "warped.tif") as warped:
        point = warped.xy(128, 160)
        assert warped.read(1, masked=True).count() > 0.9 * warped.width * warped.height
    np.testing.assert_allclose(
        read_displacement(found.output / "displacement.tif").apply([point]), found.transform.apply([point])
    )


@pytest.mark.slow
def test_a_run_of_scenes_gets_them_too(tmp_path, scenes):
    study = raster_study(tmp_path, scenes, ("first",), refine=NO_TIE_POINTS)
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    for stage, file in (("apply", "warped.tif"), ("refine", "displacement.tif"), ("report", "")):
        assert (study.results(stage, "first", file) if file else study.results(stage, "first.html")).is_file()
    outcome = read_json(study.results("refine", "first", "stage.json"))
    assert (outcome["state"], outcome["verdict"]["status"]) == ("done", "warn")
    assert "points could be matched" in outcome["verdict"]["reason"]
    refused(read_json(study.results("assess", "first", "quality.json")))
    item = json.loads(study.results("apply", "first", "item.json").read_text(encoding="utf-8"))
    assert "warped" in item["assets"]


def _lines(path):
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
