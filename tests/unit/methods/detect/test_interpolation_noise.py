"""Detail that a kernel loses: told where it is, measured where a date was resampled, and no change."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from regflow.core.chunks import open_workers
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.detect.interpolation_noise import (
    HALO,
    MOST,
    compute_lost_detail,
    measure_interpolation_noise,
)
from regflow.methods.detect.maps import CHANGED, ChangeRule, measure_change
from regflow.methods.detect.model import ChangeModel, find_chi_square_limit
from regflow.methods.detect.scene_pair import DatedScenePair

SIDE = 320
NOISE = 2.0
MODEL = ChangeModel(*(np.array([[1 / NOISE]]),) * 2, np.zeros(1), np.eye(1))
LIMIT = find_chi_square_limit(0.999, 1)


def texture() -> np.ndarray:
    """Ground with detail in half of it."""
    rng = np.random.default_rng(3)
    rough, smooth = (gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma) for sigma in (1.0, 6.0))
    rough[:, SIDE // 2 :] = 0
    return 100 * smooth / smooth.std() + 30 * rough / rough.std()


def pair_of(before: np.ndarray, after: np.ndarray) -> DatedScenePair:
    rng = np.random.default_rng(4)
    grid = Grid(before.shape, np.eye(3))
    noisy = (values + rng.normal(0, NOISE / np.sqrt(2), values.shape) for values in (before, after))
    return DatedScenePair(*(Image(values.astype(np.float32)[None], grid) for values in noisy))


def moved_and_back(scene: np.ndarray) -> np.ndarray:
    there = shift(scene, (0.5, 0.4), order=3, mode="nearest")
    return shift(there, (-0.5, -0.4), order=3, mode="nearest")


def measure(pair: DatedScenePair) -> float:
    with open_workers(threads=1) as workers:
        return measure_interpolation_noise(pair, MODEL, workers)


def count_changed(pair: DatedScenePair, interpolation: float) -> int:
    rule = ChangeRule(MODEL, LIMIT, 0.0, interpolation, 1.0)
    whole = (slice(0, SIDE), slice(0, SIDE))
    return int((measure_change(whole, pair, rule).classes == CHANGED).sum())


def test_smooth_ground_loses_nothing_and_detail_does():
    rows, cols = np.indices((40, 50)).astype(float)
    plane = 3 * rows - 2 * cols + 0.01 * rows * cols
    valid = np.ones(plane.shape, bool)
    assert compute_lost_detail((plane[None],) * 2, valid).max() < 1e-18
    stripes = np.where(cols % 2 == 0, 1.0, -1.0)
    lost = compute_lost_detail((stripes[None],) * 2, valid)
    assert lost.shape == (1, 40 - 2 * HALO, 50 - 2 * HALO)
    # Half a pixel's shift leaves nothing of stripes one pixel wide.
    assert np.allclose(lost, 1.0)


def test_beside_what_is_not_valid_nothing_is_said():
    stripes = np.where(np.indices((30, 30))[1] % 2 == 0, 1.0, -1.0)
    valid = np.ones(stripes.shape, bool)
    valid[:, 15] = False
    lost = compute_lost_detail((stripes[None],) * 2, valid)[0]
    near = slice(15 - 2 * HALO, 15 + 1)
    assert (lost[:, near] == 0).all()
    assert (np.delete(lost, range(30)[near], axis=1) > 0.9).all()


def test_the_order_of_the_dates_does_not_matter():
    rng = np.random.default_rng(0)
    both = rng.normal(size=(2, 2, 30, 30))
    valid = rng.random((30, 30)) > 0.01
    forth, back = (compute_lost_detail(tuple(part), valid) for part in (both, both[::-1]))
    assert np.array_equal(forth, back)


def test_a_resampled_date_shows_it_and_its_false_alarms_go():
    ground = texture()
    plain, resampled = pair_of(ground, ground), pair_of(ground, moved_and_back(ground))
    assert measure(plain) < 0.02
    noise = measure(resampled)
    assert 0.1 < noise <= MOST
    before, after = (count_changed(resampled, part) for part in (0.0, noise))
    untouched = count_changed(plain, 0.0)
    assert before > 10 * untouched
    assert after - untouched < 0.15 * (before - untouched)


@pytest.mark.parametrize("there", ["smooth", "rough"])
def test_a_true_change_stays(there):
    ground = texture()
    changed = moved_and_back(ground)
    place = (slice(100, 110), slice(250, 260) if there == "smooth" else slice(60, 70))
    changed[place] += 150
    pair = pair_of(ground, changed)
    found = measure_change((slice(0, SIDE),) * 2, pair, ChangeRule(MODEL, LIMIT, 0.0, measure(pair), 1.0))
    assert (found.classes[place] == CHANGED).mean() > 0.95


def test_scenes_far_apart_do_not_hide_behind_it():
    ground = texture()
    assert measure(pair_of(ground, np.roll(ground, (3, 2), axis=(0, 1)))) == MOST
