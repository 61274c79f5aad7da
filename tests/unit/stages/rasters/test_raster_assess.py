"""The assess stage of rasters: check points against a known displacement."""

import math
from dataclasses import replace

import numpy as np
import pytest
from known_scenes import COLS, ROWS, fixed, moving, truth
from refined_scenes import SETTINGS, initialized, prepare

from regflow.core.files import read_json, write_json
from regflow.core.gate import Verdict, find_worst_verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, compose_transforms
from regflow.core.units import find_meters_per_pixel, find_meters_per_unit
from regflow.datasets.scenes import write_truth
from regflow.io.rasters import read_raster_header, read_window
from regflow.io.vectors import read_points
from regflow.methods.context import RunContext
from regflow.metrics.check_points import (
    average_residuals,
    compute_residual_figures,
    lay_check_points,
    measure_check_points,
    measure_own_error_ce90,
)
from regflow.stages.rasters.assess import LIMITS, RegisteredScenes, assess, assess_scene
from regflow.stages.rasters.confirmation import judge_scene
from regflow.stages.rasters.refine import refine
from regflow.stages.shell import make_outcome, run_stage_work

IDENTITY = Affine.identity(2)


@pytest.fixture(scope="module")
def points():
    return measure_check_points(fixed(), moving(), IDENTITY, 200, RunContext(threads=2))


def test_check_points_measure_the_truth(points):
    assert points.is_used.sum() > 150
    residuals = points.compute_residuals_px(truth())[points.is_used]
    assert np.sqrt((residuals**2).sum(axis=1).mean()) < 0.05
    assert np.hypot(*residuals.mean(axis=0)) < 0.01


def test_check_points_do_not_know_the_transform_they_judge(points):
    off = Affine.from_parts(np.eye(2), (3.0, -4.0))
    shifted = points.compute_residuals_px(truth())[points.is_used].mean(axis=0)
    biased = points.compute_residuals(off)[points.is_used].mean(axis=0) - points.compute_residuals(IDENTITY)[
        points.is_used
    ].mean(axis=0)
    np.testing.assert_allclose(biased, [-3.0, 4.0], atol=1e-6)
    assert np.abs(shifted).max() < 0.01


def test_check_points_lie_where_their_seed_puts_them():
    places = [
        measure_check_points(fixed(), moving(), IDENTITY, 16, RunContext(seed=seed)).points
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(places[0], places[1])
    assert not np.isin(places[2], places[0]).all(axis=1).any()


def test_the_figures_are_those_of_their_definitions():
    residuals = np.random.default_rng(0).normal([0.3, -0.4], 0.2, (5000, 2))
    figures = compute_residual_figures(residuals, (10.0, 10.0))
    lengths = np.hypot(*residuals.T)
    assert figures["rmse_px"] == pytest.approx(np.sqrt((lengths**2).mean()))
    assert (lengths <= figures["ce90_px"]).mean() == pytest.approx(0.9, abs=1e-3)
    assert (lengths <= figures["ce95_px"]).mean() == pytest.approx(0.95, abs=1e-3)
    assert figures["bias_px"] == pytest.approx(0.5, abs=0.01)
    assert figures["rmse_m"] == pytest.approx(10 * figures["rmse_px"])
    assert figures["bias_y_m"] == pytest.approx(-4, abs=0.1)


def test_without_points_there_are_no_figures():
    assert np.isnan(compute_residual_figures(np.empty((0, 2)), None)["rmse_px"])


def test_check_points_lie_apart_in_all_cells():
    places = lay_check_points(np.array([10.0, 20.0]), np.array([509.0, 319.0]), 60, np.random.default_rng(0))
    assert 50 <= len(places) <= 70
    assert (places >= [10, 20]).all()
    assert (places <= [509, 319]).all()
    assert len(np.unique(places, axis=0)) == len(places)


def test_a_good_registration_passes_and_a_bad_one_fails():
    good = assess_scene(RegisteredScenes(fixed(), moving(), IDENTITY, truth()), {}, threads=2)
    assert good.verdict.status == "pass", good.verdict
    figures = good.quality["figures"]
    assert figures["rmse_px_refine"] < 0.05 < 1 < figures["rmse_px_start"]
    assert figures["rmse_m_refine"] == pytest.approx(10 * figures["rmse_px_refine"])
    assert figures["ncc_refine"] > figures["ncc_start"]
    wrong = Affine.from_parts(np.eye(2), (40.0, 0.0))
    bad = assess_scene(RegisteredScenes(fixed(), moving(), IDENTITY, wrong), {}, threads=2)
    assert bad.verdict.status == "fail"


def test_a_known_displacement_decides_over_the_scenes():
    right = assess_scene(RegisteredScenes(fixed(), moving(), IDENTITY, truth(), truth()), {}, threads=2)
    assert right.verdict.status == "pass", right.verdict
    assert right.quality["figures"]["truth_rmse_px_change"] < -1
    shifted = Affine.from_parts(np.eye(2), (30.0, 0.0))
    claimed = Composite((truth(), shifted))
    off = assess_scene(RegisteredScenes(fixed(), moving(), IDENTITY, truth(), claimed), {}, threads=2)
    assert off.verdict.status == "fail"
    assert off.verdict.reason.startswith(
        "the known displacement contradicts the fit: the true error is 3.00 px"
    )
    worse = RegisteredScenes(
        fixed(), moving(), truth(), Composite((truth(), Affine.from_parts(np.eye(2), (3.0, 0)))), truth()
    )
    found = assess_scene(worse, {}, threads=2)
    assert found.quality["figures"]["truth_rmse_px_change"] == pytest.approx(0.3, abs=1e-3)
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith(
        "the known displacement contradicts the refinement: the true error"
    )


def test_unrelated_scenes_fail():
    noise = np.random.default_rng(0).normal(1000, 100, (1, ROWS, COLS)).astype(np.float32)
    found = assess_scene(
        RegisteredScenes(fixed(), replace(moving(), data=noise), IDENTITY, IDENTITY), {}, threads=2
    )
    assert found.verdict.status == "fail"
    assert found.quality["check_points"]["used"] < 8


def test_an_earlier_failure_is_not_forgotten():
    earlier = {"initialize": Verdict("fail", "lost")}
    found = assess_scene(
        RegisteredScenes(fixed(), moving(), IDENTITY, truth(), earlier=earlier), {}, threads=2
    )
    assert found.verdict.reason == "initialize: lost"


def test_a_sample_is_assessed_on_disk(tmp_path):
    prepared = prepare(tmp_path / "f", fixed()), prepare(tmp_path / "m", moving())
    start = initialized(tmp_path / "i", IDENTITY)
    refine(tmp_path / "r", sample="s", prepared=prepared, initial=start, settings=SETTINGS, threads=2)
    run_stage_work("apply", "s", tmp_path / "a", [], lambda folder: make_outcome(Verdict("pass", "fine")))
    write_truth(tmp_path / "truth.tif", truth(), fixed().grid)
    write_json(tmp_path / "m.json", {"paths": {"truth": str(tmp_path / "truth.tif")}})
    outcome = assess(
        tmp_path / "out",
        sample="s",
        manifests=(tmp_path / "f.json", tmp_path / "m.json"),
        prepared=prepared,
        initial=start,
        refined=str(tmp_path / "r"),
        applied=str(tmp_path / "a"),
        settings={"check_points": 120},
        threads=2,
    )
    assert outcome.verdict.status == "pass", outcome.verdict
    quality = read_json(tmp_path / "out/quality.json")
    assert quality["figures"]["truth_rmse_px_refine"] < 0.05
    assert quality["figures"]["truth_rmse_px_check_points"] < 0.06
    assert [record["stage"] for record in quality["stages"]] == [
        "preprocess", "preprocess", "initialize", "refine", "apply",
    ]  # fmt: skip
    columns, _ = read_points(tmp_path / "out/check_points.gpkg", "check_points")
    used = ~columns["outlier"]
    assert np.median(columns["residual_px_refine"][used]) < 0.05
    assert np.median(columns["residual_m_start"][used]) > 5
    header = read_raster_header(tmp_path / "out/residuals.tif")
    assert [band.name for band in header.bands] == ["residual_x_px", "residual_y_px", "residual_px"]
    assert all(math.isnan(band.nodata) for band in header.bands)
    rows, cols = (slice(0, n) for n in header.shape)
    values, measured = read_window(tmp_path / "out/residuals.tif", [3], rows, cols)
    assert measured.mean() > 0.9
    assert np.median(values[measured]) < 0.05


def test_the_map_is_empty_far_from_points():
    grid = fixed().grid
    near = grid.to_world(np.random.default_rng(0).uniform(0, 60, (30, 2)))
    values, coarse = average_residuals(near, np.full((30, 2), [3.0, 4.0]), grid)
    assert np.isnan(values[0, -1, -1])
    assert values[:, 0, 0].tolist() == [3.0, 4.0, 5.0]
    assert max(coarse.shape) == 64


def test_degrees_are_as_long_as_they_are_there():
    from regflow.core.grid import Grid

    degrees = Grid((3, 3), np.array([[0.001, 0, 10.0], [0, -0.001, 60.0], [0, 0, 1]]), "EPSG:4326")
    east, north = find_meters_per_unit(degrees)
    assert east == pytest.approx(55800, rel=1e-3)
    assert north == pytest.approx(111412, rel=1e-3)
    assert find_meters_per_pixel(fixed().grid) == (10.0, 10.0)
    feet = Grid((3, 3), np.diag([2.0, -2.0, 1.0]), "EPSG:2263")
    assert find_meters_per_pixel(feet)[0] == pytest.approx(0.6096, rel=1e-4)
    assert find_meters_per_unit(Grid((3, 3), np.eye(3))) is None


def unit_points(count: int = 64) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 500, (count, 2))


def test_neighbors_tell_the_check_points_own_error():
    rng = np.random.default_rng(0)
    places = unit_points(4000)
    noise = rng.normal(0, 1.0, (4000, 2))
    smooth = 3 * np.sin(places / 300)
    expected = np.percentile(np.hypot(*noise.T), 90)
    for residuals in (noise, noise + smooth):
        assert measure_own_error_ce90(places, residuals, np.full(4000, 0.01)) == pytest.approx(
            expected, rel=0.05
        )
    assert measure_own_error_ce90(places, smooth, np.full(4000, np.sqrt(2))) == pytest.approx(
        expected, rel=0.05
    )
    assert measure_own_error_ce90(places, smooth, np.full(4000, 0.01)) < 0.3
    assert np.isnan(measure_own_error_ce90(places[:0], noise[:0], np.empty(0)))


@pytest.mark.parametrize(
    ("changed", "status", "told"),
    [
        ({}, "pass", "within its limits"),
        ({"ce90_px_refine": 3.8, "own_error_ce90_px": 3.6}, "warn", "not confirmed to better than 3.8 px"),
        ({"ce90_px_refine": 3.8, "own_error_ce90_px": 0.3}, "fail", "ce90_px_refine is 3.8"),
        ({"ce90_px_refine": 2.6, "own_error_ce90_px": 0.3}, "warn", "ce90_px_refine is 2.6"),
        ({"median_px_refine": 1.8, "own_error_ce90_px": 3.0}, "warn", "not confirmed to better than 1.8 px"),
        ({"median_px_refine": 1.8, "own_error_ce90_px": 0.3}, "fail", "median_px_refine is 1.8"),
        ({"ce90_px_refine": 9.0, "own_error_ce90_px": 9.0}, "fail", "ce90_px_refine is 9"),
        ({"check_points_used": 7}, "warn", "not confirmed: check_points_used is 7"),
        ({"check_points_used": 0, "ce90_px_refine": np.nan, "rmse_px_change": np.nan}, "warn", "is 0"),
        ({"check_points_used_percent": 4.0, "ncc_change": -0.1}, "fail", "ncc_change"),
        ({"ncc_change": -0.1}, "warn", "ncc_change"),
        ({"ncc_change": -0.1, "median_px_refine": 1.8}, "fail", "median_px_refine"),
    ],
)
def test_what_check_points_cannot_tell_is_not_held_against_a_result(changed, status, told):
    figures = {
        "check_points_used": 100.0, "check_points_used_percent": 50.0, "ce90_px_refine": 0.2,
        "median_px_refine": 0.1, "own_error_ce90_px": 0.2, "rmse_px_change": 0.0, "ncc_change": 0.1,
        **changed,
    }  # fmt: skip
    verdict = find_worst_verdict(judge_scene(figures, LIMITS, seen=True))
    assert (verdict.status, told in verdict.reason) == (status, True), verdict.reason
    if status == "warn" and "check_points_used" in changed:
        assert find_worst_verdict(judge_scene(figures, LIMITS, seen=False)).status == "fail"


def test_scenes_that_did_not_meet_at_the_start_may_pass():
    away = Affine.from_parts(np.eye(2), (20000.0, 0.0))
    far = Image(moving().data, Grid(moving().grid.shape, away.matrix @ moving().grid.affine), moving().mask)
    found = assess_scene(
        RegisteredScenes(fixed(), far, away, compose_transforms(truth(), away)), {}, threads=2
    )
    assert found.verdict.status == "pass", found.verdict


def test_points_are_measured_again_where_only_some_can_be():
    part = np.ones(moving().grid.shape, bool)
    part[:, COLS // 2 :] = False
    half = Image(moving().data, moving().grid, part)
    found = measure_check_points(fixed(), half, IDENTITY, 100, RunContext())
    assert 0 < found.is_used.sum() < len(found.is_used)
    assert found.again is not found.matched
