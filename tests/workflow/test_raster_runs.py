"""The workflow of scenes, from the sheet to the report: what comes out, and what bad input does to it."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from crate_check import find_issues
from raster_study import SAMPLES, SHAPE, raster_study, write_scenes
from rasterio.errors import NotGeoreferencedWarning
from study import planned

from regflow.commands.cli import main
from regflow.core.files import read_json
from regflow.provenance.verification import verify_run


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """A study of two samples that has run to its end, on two cores; do not change it."""
    study = raster_study(tmp_path_factory.mktemp("study"), data)
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    return study


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_gets_everything_that_standard_tools_read(finished, sample):
    import pyogrio

    for stage in ("preprocess/moving", "initialize", "refine", "apply", "assess", "detect"):
        outcome = read_json(finished.results(stage, sample, "stage.json"))
        assert outcome["state"] == "done", (stage, outcome)
    with rasterio.open(finished.results("apply", sample, "warped.tif")) as warped:
        assert warped.shape == SHAPE
        assert warped.descriptions == ("B04", "B08")
        assert warped.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    with rasterio.open(finished.results("refine", sample, "displacement.tif")) as displacement:
        assert displacement.count == 2
    assert len(pyogrio.read_info(finished.results("refine", sample, "tie_points.gpkg"))["fields"]) > 5
    item = json.loads(finished.results("apply", sample, "item.json").read_text(encoding="utf-8"))
    assert item["type"] == "Feature"
    assert finished.results("report", f"{sample}.html").stat().st_size > 10_000


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_true_error_is_small_and_the_verdict_says_so(finished, sample):
    figures = read_json(finished.results("assess", sample, "quality.json"))["figures"]
    assert figures["truth_rmse_px_start"] > 0.5
    assert figures["truth_rmse_px_refine"] < 0.1
    assert read_json(finished.results("assess", sample, "stage.json"))["verdict"]["status"] != "fail"


def test_the_cohort_gets_its_table_report_and_provenance(finished):
    import pandas as pd

    table = pd.read_csv(finished.results("assess", "cohort.tsv"), sep="\t")
    assert list(table["sample"]) == list(SAMPLES)
    assert list(table["date"]) == ["2024-06-01", "2024-06-02"]
    assert (table["rmse_px_refine"] < 0.3).all()
    page = finished.results("report", "index.html").read_text(encoding="utf-8")
    assert all(sample in page for sample in SAMPLES)
    sources = read_json(finished.results("provenance.json"))["sources"]
    assert "detect" in sources


def test_a_run_leaves_a_crate_of_itself(finished, monkeypatch):
    assert verify_run(finished.results(), inputs=True).problems == []
    assert find_issues(finished.results(), monkeypatch) == []


def test_a_second_run_has_nothing_to_do(finished):
    again = finished.snakemake()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr
    assert finished.leftovers() == []


@pytest.mark.slow
def test_neither_cores_nor_chunks_nor_workers_change_a_byte(finished, tmp_path, data):
    dask = {"chunk": 200, "workers": 3}
    alone = raster_study(tmp_path, data, ("first",), dask=dask, detect={"method": None})
    ended = alone.snakemake(cores=1)
    assert ended.returncode == 0, ended.stderr
    for pattern in ("initialize/*/*.json", "refine/*/*.tif", "apply/*/*.tif", "assess/*/*.tif"):
        mine = {k: v for k, v in alone.checksums(pattern).items() if not k.endswith("stage.json")}
        assert mine, pattern
        assert mine.items() <= finished.checksums(pattern).items()


@pytest.mark.slow
def test_a_sheet_plans_as_few_jobs_as_can_be(tmp_path, data):
    plain = planned(raster_study(tmp_path, data, ("first",)).snakemake("--dry-run").stdout)
    assert plain["register"] == 1
    assert not plain.keys() & {"references", "compare"}
    dates = raster_study(tmp_path, data, detect={"pairs": "consecutive"}, jobs={"samples": 1})
    jobs = planned(dates.snakemake("--dry-run").stdout)
    assert jobs["register"] == jobs["compare"] == 2
    by_stage = raster_study(tmp_path, data, detect={"method": None}, jobs={"each_stage": True})
    jobs = planned(by_stage.snakemake("--dry-run").stdout)
    assert jobs["preprocess_fixed"] == 1
    assert jobs["refine"] == jobs["report"] == 2
    assert "detect" not in jobs


@pytest.mark.slow
def test_changes_from_date_to_date_wait_for_the_date_before(tmp_path, data):
    study = raster_study(tmp_path, data, detect={"pairs": "consecutive"})
    planned_to = study.snakemake("results/detect/second", "--dry-run").stdout
    assert planned(planned_to)["apply"] == 2
    assert planned(study.snakemake("results/detect/first", "--dry-run").stdout)["apply"] == 1


def misfits(scene: Path, folder: Path) -> list[dict[str, object]]:
    """Write scenes that cannot be registered for other reasons than their file's state; return their rows."""
    site = 'LOCAL_CS["building site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    with rasterio.open(scene) as source:
        profile, values, place = source.profile, source.read(), source.transform
    far, flat = place @ place.translation(9000, 0), type(place)(place.a, 0, place.c, 0, 0, place.f)
    changes = {
        "elsewhere": ({"transform": far}, values),
        "placeless": ({"crs": None}, values),
        "siteplan": ({"crs": rasterio.crs.CRS.from_wkt(site)}, values),
        "blank": ({}, np.zeros_like(values)),
        "flat": ({}, np.full_like(values, 7)),
        "collapsed": ({"transform": flat}, values),
        "halfmask": ({}, values),
    }
    for name, (changed, samples) in changes.items():
        with rasterio.open(folder / f"{name}.tif", "w", **{**profile, **changed}) as target:
            target.write(samples)
    half = {**profile, "count": 1, "dtype": "uint8", "nodata": None, "height": SHAPE[0] // 2}
    with rasterio.open(folder / "half.tif", "w", **half) as mask:
        mask.write(np.ones((1, SHAPE[0] // 2, SHAPE[1]), np.uint8))
    rows: list[dict[str, object]] = [{"sample": name, "moving": folder / f"{name}.tif"} for name in changes]
    rows[-1]["moving_mask"] = folder / "half.tif"
    return rows


def test_check_names_every_misfit_by_its_row(tmp_path, data):
    study = raster_study(tmp_path, data, ("first",))
    study.rows += misfits(data / "second.tif", tmp_path)
    ended = study.write().regflow("check")
    assert ended.returncode == 1, ended.stderr
    told = dict(line.split(": ", 1) for line in ended.stdout.splitlines()[:-1])
    expected = {
        "elsewhere": "does not overlap",
        "placeless": "names no CRS",
        "siteplan": "no transformation is known",
        "blank": "all pixels are nodata",
        "flat": "are constant (7)",
        "collapsed": "is degenerate",
        "halfmask": "does not cover its scene",
    }
    assert told.keys() == expected.keys()
    assert all(words in told[sample] for sample, words in expected.items())


@pytest.mark.slow
def test_bad_samples_do_not_stop_the_others(finished, tmp_path, data):
    study = raster_study(tmp_path, data, ("first",))
    torn = tmp_path / "torn.tif"
    torn.write_bytes((data / "second.tif").read_bytes()[:20_000])
    clouds = tmp_path / "clouds.tif"
    with rasterio.open(data / "first_scl.tif") as scl, rasterio.open(clouds, "w", **scl.profile) as target:
        target.write(np.full((1, *SHAPE), 9, np.uint8))
    study.rows += [
        {"sample": "torn", "moving": torn},
        {"sample": "missing", "moving": tmp_path / "no.tif"},
        {"sample": "clouded", "moving": data / "second.tif", "moving_mask": clouds, "mask_values": "9"},
        {"sample": "noband", "moving": data / "second.tif", "bands": "B99"},
    ]
    ended = study.write().snakemake()
    assert ended.returncode == 0, ended.stderr
    assert read_json(study.results("assess", "first", "stage.json"))["state"] == "done"
    page = study.results("report", "index.html").read_text(encoding="utf-8")
    for sample, told in {
        "torn": "cut off",
        "missing": "no.tif",
        "clouded": "no pixel",
        "noband": "B99",
    }.items():
        outcome = read_json(study.results("assess", sample, "stage.json"))
        assert outcome["state"] == "skipped"
        assert told in outcome["verdict"]["reason"]
        assert "\n" not in outcome["verdict"]["reason"]
        assert study.results("report", f"{sample}.html").is_file()
        assert told in page
    assert study.checksums("apply/first/*.tif").items() <= finished.checksums("apply/*/*.tif").items()


def test_a_stac_collection_plans_its_items(tmp_path, data):
    from datetime import UTC, datetime

    import pystac

    items = []
    for day, name in enumerate(("fixed", "first"), start=1):
        item = pystac.Item(name, None, None, datetime(2024, 6, day, tzinfo=UTC), {})
        item.add_asset("image", pystac.Asset(str(data / f"{name}.tif")))
        items.append(item)
    (tmp_path / "items.json").write_text(json.dumps(pystac.ItemCollection(items).to_dict()))
    study = raster_study(tmp_path, data)
    study.config |= {"samples": None, "fixed": None, "references": {}}
    study.config["stac"] = {"path": "items.json", "asset": "image", "reference": "fixed", "bands": "B04"}
    ended = study.write().snakemake("--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert planned(ended.stdout)["register"] == 1
    assert study.regflow("check").returncode == 0


def test_check_and_init_know_scenes(tmp_path, data):
    study = raster_study(tmp_path, data)
    ended = study.regflow("check")
    assert ended.returncode == 0, ended.stdout
    assert study.regflow("init", "new", "--rasters").returncode == 0
    text = (tmp_path / "new" / "config" / "config.yaml").read_text(encoding="utf-8")
    assert "kind: rasters" in text
    command = [sys.executable, "-m", "regflow", "check"]
    told = subprocess.run(command, cwd=tmp_path / "new", capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.fixture(scope="module")
def registered(tmp_path_factory, data) -> Path:
    """One pair registered by the command line."""
    folder = tmp_path_factory.mktemp("pair")
    named = {"ref.tif": "fixed.tif", "mov.tif": "first.tif", "truth.tif": "first_truth.tif"}
    for name, source in named.items():
        shutil.copyfile(data / source, folder / name)
    command = [sys.executable, "-m", "regflow", "register", "ref.tif", "mov.tif", "-o", "aligned"]
    options = ["--bands", "B04", "--fixed-bands", "B04", "--truth", "truth.tif"]
    ended = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return folder / "aligned"


def test_register_writes_what_it_promises(registered):
    names = {path.name for path in registered.iterdir()}
    assert names >= {"warped.tif", "displacement.tif", "tie_points.gpkg", "quality.json", "report.html"}
    assert read_json(registered / "quality.json")["figures"]["truth_rmse_px_refine"] < 0.1


def test_apply_makes_the_scene_that_register_made(registered, tmp_path):
    files = ["mov.tif", "-r", "ref.tif", "-o", str(tmp_path / "again.tif"), "--interpolation", "cubic"]
    command = [sys.executable, "-m", "regflow", "apply", "aligned/transform.json", *files]
    ended = subprocess.run(command, cwd=registered.parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "again.tif").read_bytes() == (registered / "warped.tif").read_bytes()


@pytest.mark.slow
def test_register_and_the_workflow_make_the_same_field(registered, tmp_path, data):
    study = raster_study(tmp_path, data, ("first",), initialize={}, dask={})
    study.rows[0] |= {"moving_mask": "", "mask_values": ""}
    assert study.write().snakemake("results/refine/first").returncode == 0
    one, other = (
        rasterio.open(path).read()
        for path in (registered / "displacement.tif", study.results("refine", "first", "displacement.tif"))
    )
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--volume", "3"], "--volume is not for rasters"),
        (["--preset", "othersensor"], "did you mean 'other-sensor'?"),
        (["--bands", "B99"], "there is no band B99"),
        (["--mask-values", "clouds"], "mask_values is 'clouds'"),
        (["--nodata", "black"], "nodata is 'black'"),
        (["--refine", "greedier"], "unknown method 'greedier'"),
        (["--companion", "b11"], "must be NAME=FILE"),
        (["--masks", "both"], "--masks is not for rasters"),
        (
            ["--set", "refine.options.tie-points.window=81"],
            "did you mean 'refine.options.tie-points.window_px'",
        ),
    ],
)
def test_register_refuses_a_mistake_in_one_sentence(tmp_path, data, options, told):
    command = ["register", str(data / "fixed.tif"), str(data / "first.tif"), "-o", str(tmp_path / "out")]
    ended = subprocess.run(
        [sys.executable, "-m", "regflow", *command, *options], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, data):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        command = ["register", str(data / "fixed.tif"), str(data / "first.tif"), "-o", str(disk / "out")]
        ended = subprocess.run(
            [sys.executable, "-m", "regflow", *command], capture_output=True, text=True, cwd=tmp_path
        )
        assert ended.returncode == 1
        assert "the disk is full and nothing was written" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_scenes_without_georeference_are_registered_in_pixels(tmp_path, data):
    from PIL import Image

    for name in ("fixed", "first"):
        with rasterio.open(data / f"{name}.tif") as scene:
            values = scene.read(1).astype(float)
        Image.fromarray(np.clip(values / 16, 1, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    command = ["register", "fixed.png", "first.png", "-o", "aligned"]
    ended = subprocess.run(
        [sys.executable, "-m", "regflow", *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    with rasterio.open(data / "first_truth.tif") as known:
        truth = known.read()[:, :, :] / np.array([10, -10]).reshape(2, 1, 1)
    with rasterio.open(tmp_path / "aligned" / "displacement.tif") as found:
        field, step = found.read(), found.transform
    rows, cols = np.mgrid[6:58:4, 6:74:4]
    x, y = (np.array(~step * (4 * cols.ravel(), 4 * rows.ravel())) - 0.5).round().astype(int)
    x, y = np.clip(x, 0, field.shape[2] - 1), np.clip(y, 0, field.shape[1] - 1)
    error = field[:, y, x] - truth[:, rows.ravel(), cols.ravel()]
    assert np.sqrt((error**2).sum(axis=0).mean()) < 0.25


@pytest.mark.slow
def test_a_shift_alone_and_the_reference_brought_onto_the_scene(tmp_path, data):
    """The first scene is bent, so a translation can only come near; the way back is that of apply."""
    files = [str(data / "fixed.tif"), str(data / "first.tif")]
    options = ["--transform", "translation", "--inverse-image", "--interpolation", "linear"]
    ended = CliRunner().invoke(main, ["register", *files, "-o", str(tmp_path / "out"), *options])
    assert ended.exit_code in (0, 1), ended.output
    (part,) = read_json(tmp_path / "out" / "transform.json")["parts"]
    assert np.array_equal(np.array(part["matrix"])[:2, :2], np.eye(2))
    again = ["apply", str(tmp_path / "out"), files[0], "--inverse", "-r", files[1]]
    assert CliRunner().invoke(main, [*again, "-o", str(tmp_path / "again.tif")]).exit_code == 0
    made = tmp_path / "out" / "inverse_fixed.tif"
    assert (tmp_path / "again.tif").read_bytes() == made.read_bytes()


def test_a_scene_without_a_way_back_is_refused_before_any_work(tmp_path, data):
    with rasterio.open(data / "first.tif") as scene:
        values, profile = scene.read(), scene.profile
    bare = {key: value for key, value in profile.items() if key not in ("crs", "transform")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "bare.tif", "w", **bare) as target:
            target.write(values)
    files = [str(data / "fixed.tif"), str(tmp_path / "bare.tif")]
    ended = CliRunner().invoke(main, ["register", *files, "-o", str(tmp_path / "out"), "--inverse-image"])
    assert ended.exit_code == 2
    assert "bare.tif: names no CRS" in ended.output
    assert "initialize" not in ended.output
    assert not (tmp_path / "out").exists()
