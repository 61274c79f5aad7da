"""Landmarks on their way from files through the stages that they drive; a changed file runs these again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raster_files import write_raster

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.config.loading import load_defaults
from regflow.config.presets import merge_settings
from regflow.core.files import read_json
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine
from regflow.io.landmarks import write_landmarks
from regflow.io.transforms import read_transform
from regflow.io.volumes import write_volume
from regflow.stages.landmarks import read_landmark_pairs
from regflow.stages.shell import compute_stage_key, read_outcome, run_stage

TRUTH = Affine.from_parts(np.eye(3), [12.0, -8.0, 4.0])
SETTINGS = {"initialize": {"methods": ["landmarks"], "gate": {}}}


def corners_of(grid) -> np.ndarray:
    rng = np.random.default_rng(4)
    return grid.center + rng.uniform(-40, 40, (6, 3))


@pytest.fixture
def sample(tmp_path, mni_4mm) -> VolumeSample:
    grid = mni_4mm.grid
    moved = replace(grid, affine=TRUTH.matrix @ grid.affine)
    write_volume(tmp_path / "fixed.nii.gz", mni_4mm.channel, grid)
    write_volume(tmp_path / "moving.nii.gz", mni_4mm.channel, moved)
    points = corners_of(grid)
    names = tuple("abcdef")
    write_landmarks(tmp_path / "fixed.csv", Landmarks(names, points))
    write_landmarks(tmp_path / "moving.csv", Landmarks(names, TRUTH.apply(points)))
    return VolumeSample(
        "sub-01",
        str(tmp_path / "moving.nii.gz"),
        FixedVolume("mni", str(tmp_path / "fixed.nii.gz")),
        moving_landmarks=str(tmp_path / "moving.csv"),
        fixed_landmarks=str(tmp_path / "fixed.csv"),
    )


def arguments(folder: Path, stage: str, settings: dict) -> dict:
    manifests = folder / "fixed.json", folder / "moving.json"
    prepared = folder / "working_fixed", folder / "working_moving"
    return {
        "sample": "sub-01",
        "settings": settings.get(stage),
        "manifest": manifests[1],
        "reference": prepared[0],
        "prepared": prepared,
        "initial": folder / "initialize",
        "seed": 0,
        "threads": 1,
        "source": "x",
    }


def prepare(folder: Path, kind: str, sample, settings: dict) -> None:
    run_stage("ingest", kind, folder / "fixed.json", source="x", subject=sample.fixed)
    run_stage("ingest", kind, folder / "moving.json", source="x", subject=sample)
    still = {
        **arguments(folder, "preprocess", settings),
        "manifest": folder / "fixed.json",
        "reference": None,
    }
    run_stage("preprocess", kind, folder / "working_fixed", **still)
    run_stage("preprocess", kind, folder / "working_moving", **arguments(folder, "preprocess", settings))


def test_landmarks_reach_the_stage_that_they_drive_and_its_record(tmp_path, sample):
    settings = merge_settings(
        load_defaults("volumes"),
        {"preprocess": {"bias": {"method": "none"}, "mask": {"method": "none"}}, **SETTINGS},
    )
    prepare(tmp_path, "volumes", sample, settings)
    given = arguments(tmp_path, "initialize", settings)
    run_stage("initialize", "volumes", tmp_path / "initialize", **given)
    outcome = read_outcome(tmp_path / "initialize")
    assert outcome.details["method"] == "landmarks"
    assert max(outcome.details["landmarks"]["left_out"].values()) < 1e-3
    assert outcome.verdict.figures["left_out_rms_mm"] < 1e-3
    found = read_transform(tmp_path / "initialize" / "transform.h5")
    assert np.allclose(found.matrix, TRUTH.matrix, atol=1e-3)


def test_a_changed_file_of_landmarks_runs_the_stage_again(tmp_path, sample):
    settings = merge_settings(load_defaults("volumes"), SETTINGS)
    keys = []
    for shift in (0.0, 1.0, 0.0):
        points = corners_of(sample_grid(sample)) + shift
        write_landmarks(sample.fixed_landmarks, Landmarks(tuple("abcdef"), points))
        run_stage("ingest", "volumes", tmp_path / "moving.json", source="x", subject=sample)
        given = {**arguments(tmp_path, "preprocess", settings), "reference": None}
        keys.append(compute_stage_key("preprocess", "volumes", **given))
    assert keys[0] == keys[2] != keys[1]


def sample_grid(sample: VolumeSample):
    from regflow.io.volumes import read_header

    return read_header(sample.fixed.image).grid


def test_points_of_scenes_lie_in_the_fixed_scene_s_coordinates(tmp_path):
    paths = [write_raster(tmp_path / f"{name}.tif") for name in ("fixed", "moving")]
    text = "fixed_x,fixed_y,moving_x,moving_y\n"
    (tmp_path / "pairs.csv").write_text(text + "500010,5000000,500020,5000010\n")
    scenes = [Scene(str(path)) for path in paths]
    sample = RasterSample("s", scenes[1], FixedScene("f", scenes[0]), landmarks=str(tmp_path / "pairs.csv"))
    settings = load_defaults("rasters")
    prepare(tmp_path, "rasters", sample, settings)
    assert read_json(tmp_path / "moving.json")["problems"] == []
    pairs = read_landmark_pairs(tmp_path / "working_moving")
    assert pairs.moving.points.tolist() == [[500020, 5000010]]
    assert read_landmark_pairs(tmp_path / "working_fixed") is None
    (tmp_path / "pairs.csv").write_text("x,y\n1,2\n")
    run_stage("ingest", "rasters", tmp_path / "moving.json", source="x", subject=sample)
    assert "must name the columns fixed_x" in read_json(tmp_path / "moving.json")["problems"][0]
