"""The refine stage of rasters: its gate, and what it leaves on disk."""

from dataclasses import replace

import numpy as np
import pytest
from known_scenes import COLS, ROWS, error_px, fixed, moving, red
from refined_scenes import SETTINGS, initialized, prepare

from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets.modalities import make_linear_truth, move_linearly
from regflow.io.raster_transforms import read_displacement, read_raster_transform
from regflow.io.vectors import read_points
from regflow.methods.initialize.planar import find_corners
from regflow.methods.refine.dense import ENGINES
from regflow.stages.rasters.probes import ComparisonWindows
from regflow.stages.rasters.refine import INITIAL, measure_covered_share, refine, refine_scene
from regflow.stages.shell import read_outcome

IDENTITY = Affine.identity(2)


def test_a_sample_is_refined_on_disk(tmp_path):
    prepared = prepare(tmp_path / "f", fixed()), prepare(tmp_path / "m", moving())
    start = initialized(tmp_path / "i", IDENTITY)
    outcome = refine(tmp_path / "out", sample="s", prepared=prepared, initial=start, settings=SETTINGS)
    assert outcome.verdict.status == "pass", outcome.verdict
    assert outcome.details["method"] == "tie-points"
    assert read_outcome(tmp_path / "out").verdict.figures["points_used"] > 150
    transform = read_raster_transform(tmp_path / "out")
    assert np.sqrt((error_px(transform) ** 2).mean()) < 0.04
    whole = read_displacement(tmp_path / "out/displacement.tif")
    assert np.sqrt((error_px(whole) ** 2).mean()) < 0.04
    columns, xy = read_points(tmp_path / "out/tie_points.gpkg", "tie_points")
    assert np.array_equal(xy, np.stack([columns["x_map"], columns["y_map"]], axis=1))
    assert columns["outlier"].sum() < 0.1 * len(xy)


def test_the_points_that_a_dense_field_starts_from_are_told_with_it():
    quick = {"engine_options": {"iterations": [2, 1]}}
    found = refine_scene(fixed(), moving(), IDENTITY, {"methods": ["dense"], "options": {"dense": quick}})
    assert found.ladder.method == "dense"
    assert found.points is not None
    assert found.ladder.verdict.figures["points_used"] == found.points.is_used.sum()


def test_points_of_a_method_that_gave_up_count_for_nothing_else(monkeypatch):
    def refuse(*given):
        raise RegistrationError("the engine refuses")

    monkeypatch.setitem(ENGINES, "greedy", refuse)
    found = refine_scene(fixed(), moving(), IDENTITY, {"methods": ["dense"]}, threads=2)
    assert (found.ladder.method, found.points) == (INITIAL, None)
    assert "points_used" not in found.ladder.verdict.figures


def test_every_scheduler_gives_the_same_bytes(tmp_path):
    prepared = prepare(tmp_path / "f", fixed()), prepare(tmp_path / "m", moving())
    start = initialized(tmp_path / "i", IDENTITY)
    for name, dask in {"one": {"workers": 1}, "two": {"workers": 2, "chunk": 256}}.items():
        refine(tmp_path / name, sample="s", prepared=prepared, initial=start, settings=SETTINGS, dask=dask)
    for file in ("displacement.tif", "field.tif", "tie_points.gpkg"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_sample_without_texture_hands_on_its_start_with_the_reason(tmp_path):
    flat = replace(moving(), data=np.where(moving().mask, 5.0, 0.0).reshape(1, ROWS, COLS).astype(np.float32))
    prepared = prepare(tmp_path / "f", fixed()), prepare(tmp_path / "m", flat)
    start = initialized(tmp_path / "i", Affine.from_parts(np.eye(2), [30.0, -20.0]))
    outcome = refine(tmp_path / "out", sample="s", prepared=prepared, initial=start, settings=SETTINGS)
    assert (outcome.state, outcome.verdict.status) == ("done", "warn")
    assert "points could be matched" in outcome.verdict.reason
    assert outcome.details == {"method": "initial", "kept": True}
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["displacement.tif", "stage.json", "transform.json"]
    handed_on = read_raster_transform(tmp_path / "out").apply([[5e5, 5.79e6]])
    np.testing.assert_allclose(handed_on, [[5e5 + 30, 5.79e6 - 20]])


def test_where_no_window_has_data_the_start_stands_unjudged():
    blank = replace(moving(), mask=np.zeros((ROWS, COLS), bool))
    found = refine_scene(fixed(), blank, IDENTITY, SETTINGS)
    assert found.transform is IDENTITY
    assert (found.ladder.kept, found.ladder.verdict.status) == (True, "fail")
    assert "no valid pixels in common" in found.ladder.verdict.reason


@pytest.mark.parametrize(("rows", "cols"), [(16, 16), (24, 20), (8, 60)])
def test_a_scene_smaller_than_the_slack_around_windows_is_compared(rows, cols):
    texture = fixed().channel[:rows, :cols]
    small = Image(np.array(texture)[None], Grid((rows, cols), np.eye(3)), np.ones((rows, cols), bool))
    likeness = ComparisonWindows.read(small, small, Affine.identity(2)).measure_figures(Affine.identity(2))
    assert likeness["ncc"] == pytest.approx(1, abs=1e-3)


def test_without_refinement_nothing_changes():
    found = refine_scene(fixed(), moving(), IDENTITY, {"methods": ["none"]})
    assert found.transform is IDENTITY
    assert found.points is None
    assert found.ladder.verdict.figures["ncc_change"] == 0


def test_a_method_for_volumes_is_unknown_to_rasters():
    with pytest.raises(InputError, match="unknown method 'voxelmorph'"):
        refine_scene(fixed(), moving(), IDENTITY, {"methods": ["voxelmorph"]})


@pytest.mark.parametrize(("rows", "cols"), [(61, 61), (128, 160), (256, 256), (512, 400), (560, 600)])
@pytest.mark.parametrize("shift", [(0.37, -0.61), (-3.2, 2.45)])
def test_a_perfect_start_is_left_alone(rows, cols, shift):
    """Pure shifts with noise of 5%: nothing is left to refine, in scenes of any size."""
    image = fixed()
    low, left = (ROWS - rows) // 3, (COLS - cols) // 3
    affine = image.grid.affine.copy()
    affine[:2, 2] = image.grid.to_world((left, low))
    values = red()[low : low + rows, left : left + cols]
    grid = Grid((rows, cols), affine, image.grid.crs)
    scene = Image(values[None].copy(), grid, np.ones(grid.shape, bool))
    truth = make_linear_truth(grid, shift)
    moved = move_linearly(scene, truth)
    noise = 0.05 * values.std() * np.random.default_rng(rows).normal(size=moved.data.shape)
    other = replace(moved, data=(moved.data + noise).astype(np.float32))
    found = refine_scene(scene, other, truth, {"methods": ["tie-points"]})
    places = np.vstack([find_corners(grid), grid.center])
    error = np.linalg.norm(found.transform.apply(places) - truth.apply(places), axis=1) / grid.spacing[0]
    assert error.max() <= 0.02


def test_the_gate_holds_the_field_against_the_start():
    found = refine_scene(fixed(), moving(), IDENTITY, SETTINGS, threads=2)
    figures = found.ladder.verdict.figures
    assert figures["ncc_change"] > 0.02
    assert figures["nmi_change"] > 0
    assert figures["folding_percent"] == 0
    assert 3 < figures["displacement_max_px"] < 5
    assert figures["scatter_px"] < 0.05
    assert figures["covered_percent"] == 100
    strict = {**SETTINGS, "gate": {"points_used": {"fail_below": 10000}}}
    kept = refine_scene(fixed(), moving(), IDENTITY, strict, threads=2)
    assert kept.transform is IDENTITY
    assert kept.ladder.verdict.status != "pass"
    assert "points_used" in kept.ladder.verdict.reason


def test_probes_see_a_better_transform():
    probes = ComparisonWindows.read(fixed(), moving(), IDENTITY)
    found = refine_scene(fixed(), moving(), IDENTITY, SETTINGS).transform
    before, after = probes.measure_figures(IDENTITY), probes.measure_figures(found)
    assert all(after[name] > before[name] for name in ("ncc", "mi", "ssim"))
    assert after["ncc"] > 0.95


def test_cells_without_a_point_that_counts_are_not_covered():
    seen = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), axis=-1).reshape(-1, 2)
    assert measure_covered_share(seen, seen) == 1
    assert measure_covered_share(seen, seen[seen[:, 0] < 4]) == pytest.approx(0.5)
    assert measure_covered_share(seen[:0], seen[:0]) == 0
