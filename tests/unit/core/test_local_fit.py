import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from regflow.core.local_fit import compute_gain_sigmas, measure_local_fit

SHAPE = (40, 44, 42)
ALL = np.ones(SHAPE, bool)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    rng = np.random.default_rng(0)
    return gaussian_filter(rng.normal(size=SHAPE), 2.5)


def borders(image: np.ndarray) -> np.ndarray:
    """What an ultrasound shows of an image, without its speckle."""
    return np.sqrt(sum(part**2 for part in np.gradient(image)))


@pytest.mark.parametrize("shown", [lambda image: -3 * image, borders], ids=["inverted", "borders"])
def test_what_a_window_shows_otherwise_is_explained_where_it_belongs_and_not_elsewhere(tissue, shown):
    other = shown(tissue)
    right = measure_local_fit(tissue, other, ALL)
    wrong = measure_local_fit(tissue, shift(other, (7, 7, 7), mode="wrap"), ALL)
    assert right.min() >= 0
    assert right.max() <= 1
    assert right.mean() > 1.3 * wrong.mean()
    assert compute_gain_sigmas(wrong, right, ALL) > 4
    assert compute_gain_sigmas(right, wrong, ALL) < -4


def test_unrelated_speckle_gives_no_sure_gain(tissue):
    rng = np.random.default_rng(1)
    noise = [gaussian_filter(rng.normal(size=SHAPE), 1.0) for _ in range(8)]
    fits = [measure_local_fit(tissue, part, ALL) for part in noise]
    gains = [compute_gain_sigmas(one, other, ALL) for one, other in zip(fits[::2], fits[1::2], strict=True)]
    assert np.abs(gains).max() < 4


def test_gray_levels_and_flat_parts_do_not_matter(tissue):
    other = tissue**2
    np.testing.assert_allclose(
        measure_local_fit(tissue, other, ALL),
        measure_local_fit(5 * tissue + 3, 0.1 * other - 7, ALL),
        atol=1e-6,
    )
    assert measure_local_fit(tissue, np.full(SHAPE, 4.0), ALL).max() == 0


def test_what_is_not_seen_explains_nothing_and_too_little_says_nothing(tissue):
    seen = np.zeros(SHAPE, bool)
    seen[:20] = True
    fit = measure_local_fit(tissue, tissue, seen)
    assert fit[20:].max() == 0
    assert fit[3:17, 3:-3, 3:-3].min() > 0.9
    assert measure_local_fit(tissue, tissue, ~ALL).max() == 0
    corner = np.zeros(SHAPE, bool)
    corner[:6, :6, :6] = True
    assert math.isnan(compute_gain_sigmas(np.zeros(SHAPE), fit, corner))
    assert compute_gain_sigmas(fit, fit, ALL) == 0
