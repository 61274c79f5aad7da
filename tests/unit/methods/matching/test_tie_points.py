"""Tie points on real pixels with a known displacement."""

from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import pytest
from known_scenes import COLS, ROWS, error_px, fixed, moving, red, truth

from regflow.core.block_source import Block
from regflow.core.chunks import open_workers
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite
from regflow.methods.context import RunContext
from regflow.methods.matching import tie_points as module
from regflow.methods.matching.tie_point_kernels import search_offsets
from regflow.methods.matching.tie_point_patches import crop_patch, filter_patch
from regflow.methods.matching.tie_point_set import REASONS, TiePoints, compute_reliability, list_table_columns
from regflow.methods.matching.tie_points import (
    _plan,
    choose_spacing,
    find_overlap,
    lay_points,
    make_spline_taps,
    match_tie_points,
)
from regflow.methods.refine import METHODS
from regflow.methods.refine.tie_points import _why, tie_points
from regflow.metrics.check_points import count_reasons, measure_check_points

IDENTITY = Affine.identity(2)
SEARCH_PX = METHODS["tie-points"].options["search_px"]["default"]
TIE_RMSE_PX = 0.05
FIELD_RMSE_PX = 0.03


def run(one=None, other=None, initial=IDENTITY, threads=2, **given):
    options = METHODS["tie-points"].complete({"spacing_px": 40.0, **given})
    found = tie_points(one or fixed(), other or moving(), initial, options, RunContext(threads))
    return found.transform, found.tie_points


def true_shifts(points):
    grid = fixed().grid
    return grid.to_index(truth().apply(grid.to_world(points))) - points


def rmse(vectors) -> float:
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))


def test_a_known_field_is_found_to_hundredths_of_a_pixel():
    transform, points = run()
    used = points.is_used
    assert points.channels == "intensity"
    assert used.mean() > 0.95
    assert rmse((points.shifts - true_shifts(points.points))[used]) < TIE_RMSE_PX
    assert np.sqrt((error_px(transform) ** 2).mean()) < FIELD_RMSE_PX


def speckled(inverted: bool) -> Image:
    """Return the moving scene with a radar's speckle of four looks, half of the signal, inverted or not."""
    inside = moving().data[0][moving().mask]
    low, high = np.percentile(inside, [0.5, 99.5])
    signal = (high - moving().data if inverted else moving().data - low) / (high - low)
    speckle = np.random.default_rng(0).gamma(4.0, 0.25, signal.shape)
    made = np.where(moving().mask, 1000 * np.maximum(signal, 0.05) * speckle, 0)
    return replace(moving(), data=made.astype(np.float32))


def test_an_inverted_contrast_is_matched():
    inverted = replace(moving(), data=np.where(moving().mask, 9000 - moving().data, 0))
    transform, points = run(other=inverted)
    assert points.channels == "inverted"
    assert points.is_used.mean() > 0.95
    assert np.sqrt((error_px(transform) ** 2).mean()) < FIELD_RMSE_PX


def test_a_contrast_that_differs_from_place_to_place_is_matched_by_gradients():
    """Neither intensities nor inverted ones agree across the line where the contrast turns over."""
    stripes = (np.arange(COLS) // 24) % 2 == 0
    mixed = np.where(stripes, 9000 - moving().data, moving().data)
    transform, points = run(other=replace(moving(), data=np.where(moving().mask, mixed, 0)))
    assert points.channels == "gradients"
    assert np.sqrt((error_px(transform, 40) ** 2).mean()) < 0.5


@pytest.mark.parametrize("inverted", [False, True])
def test_speckle_is_borne_in_either_contrast(inverted):
    transform, points = run(other=speckled(inverted))
    assert points.channels == ("inverted" if inverted else "intensity")
    assert points.is_used.mean() > 0.6
    assert np.sqrt((error_px(transform, 20) ** 2).mean()) < 0.25


@pytest.mark.parametrize("degrees", [1.0, 30.0, 180.0])
def test_a_turned_moving_scene_is_matched_through_the_initial_map(degrees):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    about = Affine.from_parts(turn, (0, 0), fixed().grid.center)
    # The same pixels, said to lie elsewhere: no sample changes, so the truth stays exact.
    elsewhere = Grid(moving().grid.shape, about.matrix @ moving().grid.affine, moving().grid.crs)
    transform, points = run(other=replace(moving(), grid=elsewhere), initial=about)
    back = Composite((transform, about.inverse()))
    assert points.is_used.mean() > 0.9
    assert np.sqrt((error_px(back) ** 2).mean()) < FIELD_RMSE_PX


def test_another_orientation_of_the_pixels_changes_little():
    upside = Grid((ROWS, COLS), fixed().grid.affine @ [[1, 0, 0], [0, -1, ROWS - 1], [0, 0, 1]])
    turned = Image(moving().data[:, ::-1].copy(), upside, moving().mask[::-1].copy())
    transform, _ = run(other=turned)
    assert np.sqrt((error_px(transform) ** 2).mean()) < FIELD_RMSE_PX


@dataclass(frozen=True)
class Lazy:
    """Samples that are read window by window."""

    image: Image

    @property
    def shape(self):
        return self.image.data.shape

    def read(self, rows, cols):
        return Block(self.image.data[:, rows, cols].astype(np.float32), self.image.mask[rows, cols])


def test_tiles_threads_and_lazy_reading_change_no_bit(monkeypatch):
    transform, points = run(spacing_px=60.0)
    monkeypatch.setattr(module, "TILE_PX", (190, 230))
    pair = (Image(Lazy(image), image.grid) for image in (fixed(), moving()))
    again, others = run(*pair, threads=1, spacing_px=60.0)
    assert points.shifts.tobytes() == others.shifts.tobytes()
    assert all(points.measures[k].tobytes() == others.measures[k].tobytes() for k in points.measures)
    assert transform.parts[0].vectors.tobytes() == again.parts[0].vectors.tobytes()


def test_masked_and_missing_parts_are_left_alone():
    mask = moving().mask.copy()
    mask[:, : COLS // 2] = False
    holes = replace(moving(), data=np.where(mask, moving().data, 0), mask=mask)
    transform, points = run(other=holes)
    left = points.points[:, 0] < COLS // 2 - 30
    assert not points.is_used[left].any()
    # Nearer than that the search may come upon the data, where nothing is alike.
    out_of_reach = points.points[:, 0] < COLS // 2 - 30 - SEARCH_PX
    assert out_of_reach.sum() > 20
    assert (points.reason[out_of_reach] == REASONS.index("no data")).all()
    assert (points.reason[left] == REASONS.index("no data")).mean() > 0.95
    assert rmse((points.shifts - true_shifts(points.points))[points.is_used]) < TIE_RMSE_PX
    right = error_px(transform, 40).reshape(-1)
    assert np.median(right) < 1.0


def striped(image: Image, width: int, phase: int) -> Image:
    """Return a scene with the slanted gaps of a scan line corrector that has failed, declared as no data."""
    rows, cols = np.indices(image.grid.shape)
    mask = image.mask & ((rows + 0.15 * cols + phase) % 33 >= width)
    return replace(image, data=np.where(mask, image.data, 0).astype(np.float32), mask=mask)


@pytest.mark.parametrize(("widths", "share"), [((0, 10), 0.95), ((10, 10), 0.8), ((14, 14), 0.5)])
def test_windows_with_declared_gaps_count(widths, share):
    pair = striped(fixed(), widths[0], 0), striped(moving(), widths[1], 9)
    _, points = run(*pair)
    used = points.is_used
    assert used.mean() > share
    errors = points.shifts - true_shifts(points.points)
    assert rmse(errors[used]) < TIE_RMSE_PX
    assert 0.3 < np.sqrt((points.error_px[used] ** 2).mean()) / rmse(errors[used]) < 3
    found = measure_check_points(*pair, IDENTITY, 200, RunContext(threads=2))
    assert found.is_used.mean() > share
    assert rmse(found.compute_residuals_px(truth())[found.is_used]) < TIE_RMSE_PX


@dataclass(frozen=True)
class Wide:
    """A scene of any size that keeps none of it, and notes what is read at once."""

    side: int
    reads: list[int]

    @property
    def shape(self):
        return 1, self.side, self.side

    def read(self, rows, cols):
        y, x = np.arange(rows.start, rows.stop), np.arange(cols.start, cols.stop)
        self.reads.append(len(y) * len(x))
        values = red()[np.ix_(y % ROWS, x % COLS)]
        return Block(values[None], np.ones(values.shape, bool))


@pytest.mark.parametrize("memory", ["40MB", "6MB"])
def test_the_memory_that_is_given_bounds_what_is_read_at_once_and_changes_nothing(memory, monkeypatch):
    side = 6_000
    grid = Grid((side, side), fixed().grid.affine, fixed().grid.crs)
    reads: list[int] = []
    image = Image(Wide(side, reads), grid)
    options = METHODS["tie-points"].complete({"spacing_px": 600.0})
    points = lay_points(grid, grid, IDENTITY, options)
    options["channels"] = "intensity"
    under_way, most, lock = [0], [0], Lock()

    def counted(tile):
        with lock:
            under_way[0] += module.count_tile_bytes(tile)
            most[0] = max(most[0], under_way[0])
        rows = match_tile(tile)
        with lock:
            under_way[0] -= module.count_tile_bytes(tile)
        return rows

    match_tile = module.match_tile
    plain = match_tie_points(image, image, IDENTITY, points, options, RunContext(threads=2))
    reads.clear()
    monkeypatch.setattr(module, "match_tile", counted)
    with open_workers({"memory": memory, "workers": 2}) as workers:
        found = match_tie_points(image, image, IDENTITY, points, options, RunContext(workers=workers))
    assert most[0] <= workers.memory
    assert max(reads) * module.BYTES_PER_PIXEL <= workers.memory
    assert found.shifts.tobytes() == plain.shifts.tobytes()
    assert found.is_used.any()


def test_clouds_do_not_bend_the_field():
    clouds = moving().data.copy()
    cloud = red()[100:230, 100:260]
    covered = np.zeros(red().shape, bool)
    for top, left in ((60, 60), (300, 380), (400, 100)):
        clouds[0, top : top + 130, left : left + 160] = 3 * cloud[::-1, ::-1]
        covered[top + 30 : top + 100, left + 30 : left + 130] = True
    transform, points = run(other=replace(moving(), data=clouds))
    column, row = points.points.T.astype(int)
    assert covered[row, column].sum() >= 9
    assert not points.is_used[covered[row, column]].any()
    assert np.median(error_px(transform)) < 0.03


def test_unrelated_scenes_give_no_field():
    noise = np.random.default_rng(0).normal(1000, 100, red().shape).astype(np.float32)[None]
    with pytest.raises(RegistrationError, match=r"only \d+ of 210 points could be matched"):
        run(other=replace(moving(), data=noise))


def test_a_flat_scene_is_one_sentence():
    flat = replace(moving(), data=np.full_like(moving().data, 7.0))
    with pytest.raises(RegistrationError, match=r"only 0 of \d+ points could be matched"):
        run(other=flat)


def test_scenes_apart_are_one_sentence():
    with pytest.raises(RegistrationError, match="without overlap"):
        run(initial=Affine.from_parts(np.eye(2), (1e6, 0)))


def test_standard_errors_and_reliability_tell_good_from_bad():
    noisy = moving().data + np.random.default_rng(1).normal(0, 200, red().shape).astype(np.float32)
    _, clean = run()
    _, bad = run(other=replace(moving(), data=noisy), channels="intensity")
    assert np.nanmedian(bad.error_px) > 3 * np.nanmedian(clean.error_px)
    wrong = rmse((clean.shifts - true_shifts(clean.points))[clean.is_used])
    assert 0.3 < np.sqrt(np.nanmean(clean.error_px**2)) / wrong < 3
    chances = compute_reliability(np.array([0.9, 0.9]), np.array([0.2, 0.88]), np.array([0.0, 0.0]), 30.0)
    assert chances[0] > 99
    assert chances[1] < 80


def test_the_table_tells_both_ends_in_every_unit():
    _, points = run()
    grid = fixed().grid
    table = list_table_columns(points, grid, IDENTITY, (1.0, 1.0))
    used = ~table["outlier"]
    here = np.stack([table["x_map"], table["y_map"]], axis=1)[used]
    there = np.stack([table["x_moving"], table["y_moving"]], axis=1)[used]
    assert np.linalg.norm(truth().apply(here) - there, axis=1).max() / 10 < 0.5
    np.testing.assert_allclose(table["dx"], table["x_shift_m"])
    np.testing.assert_allclose(table["x_shift_px"], table["dx"] / 10)
    np.testing.assert_allclose(table["y_shift_px"], -table["dy"] / 10)
    assert (table["ssim_after"][used] > table["ssim_before"][used]).mean() > 0.9
    assert set(table["reason"][used]) == {""}


def test_the_spacing_keeps_the_number_of_points_within_bounds():
    counts = [size / choose_spacing(np.array([size, size])) for size in (61, 2048, 10980, 40000)]
    np.testing.assert_allclose(counts, [8, 32, 55, 55])


def test_the_overlap_is_that_of_the_footprints():
    grid = fixed().grid
    low, high = find_overlap(grid, grid, Affine.from_parts(np.eye(2), (3000.0, 0)))
    assert low.tolist() == [0, 0]
    assert COLS - 300 <= high[0] + 1 <= COLS - 290
    assert high[1] == ROWS - 1


def test_coarse_samples_are_means_wherever_a_block_begins():
    block = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    valid = np.ones(block.shape, bool)
    out, seen = np.empty((5, 6), np.float32), np.empty((5, 6), bool)
    crop_patch(block, valid, np.array([0, 0]), 2, 3, 4, out, seen)
    wanted = block[8:28, 12:36].reshape(5, 4, 6, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(out, wanted, rtol=1e-5)
    again = np.empty_like(out)
    part = np.ascontiguousarray(block[5:, 7:])
    crop_patch(part, valid[5:, 7:].copy(), np.array([5, 7]), 2, 3, 4, again, seen)
    assert again.tobytes() == out.tobytes()


def test_the_prefilter_gives_coefficients_of_a_spline_through_the_samples():
    from scipy.ndimage import spline_filter

    samples = np.random.default_rng(0).random((60, 60)).astype(np.float32)
    reach = len(make_spline_taps()) - 1
    wanted = spline_filter(samples.astype(float), 3, mode="mirror")[reach:-reach, reach:-reach]
    np.testing.assert_allclose(filter_patch(samples, make_spline_taps()), wanted, atol=1e-3)


def test_the_search_finds_the_shift_and_its_rival():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(1, 25, 25)).astype(np.float32)
    template = 2 * target[:, 6:23, 1:18] + 5
    everywhere = np.ones((17, 17), bool), np.ones((25, 25), bool)
    x, y, best, rival = search_offsets(template, everywhere[0], target, everywhere[1], 4)
    assert (x, y) == (-3, 2)
    assert best == pytest.approx(1.0, abs=1e-4)
    assert rival < 0.5


def matched(reasons: list[int], zncc: float = 0.9) -> TiePoints:
    count = len(reasons)
    measures = {"zncc": np.full(count, zncc)}
    return TiePoints(
        np.zeros((count, 2)), np.zeros((count, 2)), measures, np.array(reasons, np.int8), 49, "x"
    )


def test_what_does_not_count_is_counted_by_its_reason():
    assert count_reasons(matched([0, 0, 1, 2, 2])) == {REASONS[1]: 1, REASONS[2]: 2}
    assert _why(matched([0, 2, 2])) == f"{REASONS[2]}: 2"
    assert _why(matched([])) == "none laid"


def test_other_channels_are_tried_where_few_points_convince(monkeypatch):
    bad = REASONS.index("no data") + 1
    answers = {"intensity": [0] * 2 + [bad] * 8, "inverted": [bad] * 10, "gradients": [0] * 9 + [bad]}
    asked = []

    def answer(*arguments):
        asked.append(arguments[5])
        return matched(answers[arguments[5]])

    monkeypatch.setattr(module, "_match_by", answer)
    image, points = red(), np.zeros((10, 2))

    def match(channels: str) -> TiePoints:
        asked.clear()
        return match_tie_points(image, image, IDENTITY, points, {"channels": channels}, RunContext())

    assert match("auto").is_used.sum() == 9
    assert asked == ["intensity", "inverted", "gradients"]
    assert match("intensity").is_used.sum() == 2
    assert asked == ["intensity"]
    answers["intensity"] = [0] * 10
    assert match("auto").is_used.sum() == 10
    assert asked == ["intensity"]
    # Where no point has data nothing is gained by looking again.
    answers["intensity"] = [REASONS.index("no data")] * 10
    match("auto")
    assert asked == ["intensity"]


def test_the_search_of_a_small_scene_fits_into_it():
    options = METHODS["tie-points"].complete({"search_px": 60.0, "window_px": 49})
    searches = [_plan(options, Grid((side, side), np.eye(3)))[0] for side in (24, 160, 10_000)]
    assert [int(step * most) for _, step, most in searches] == [3, 160 // 8, 60]
