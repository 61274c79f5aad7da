import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import pearsonr

from regflow.core import similarity


@pytest.fixture(scope="module")
def pair(mni_4mm, mni6_4mm):
    rng = np.random.default_rng(0)
    a = mni_4mm.channel[10:30, 10:34, 8:28]
    return a, a * 0.5 + gaussian_filter(rng.normal(size=a.shape), 1).astype(np.float32) * a.std()


def test_ncc_is_pearsons_correlation_inside_the_mask(pair):
    a, b = pair
    mask = a > np.median(a)
    assert similarity.ncc(a, b, mask) == pytest.approx(pearsonr(a[mask], b[mask]).statistic, abs=1e-6)
    assert similarity.ncc(a, b) == pytest.approx(pearsonr(a.ravel(), b.ravel()).statistic, abs=1e-6)
    assert similarity.ncc(a, -2 * a + 3) == pytest.approx(-1)


def test_lncc_is_the_mean_of_the_squared_correlations_of_the_windows(pair):
    a, b = (part[:9, :10, :11] for part in pair)
    a = a + np.float32(10)
    mask = np.zeros(a.shape, bool)
    mask[2:7, 1:8, 3:9] = True
    expected = []
    for z, y, x in np.argwhere(mask):
        window = tuple(slice(max(c - 2, 0), c + 3) for c in (z, y, x))
        va, vb = a[window].ravel().astype(float), b[window].ravel().astype(float)
        flat = va.std() * vb.std() < 1e-12
        expected.append(0.0 if flat else pearsonr(va, vb).statistic ** 2)
    assert similarity.lncc(a, b, mask, radius=2) == pytest.approx(np.mean(expected), abs=2e-4)


def test_mutual_information_of_independent_and_of_equal_values():
    levels = np.repeat(np.arange(8.0), 4096).reshape(16, 32, 64)
    assert similarity.mutual_information(levels, levels, bins=8) == pytest.approx(math.log(8), rel=1e-6)
    assert similarity.mutual_information(levels, 7 - levels, bins=8) == pytest.approx(math.log(8), rel=1e-6)
    crossed = np.tile(np.arange(8.0), 4096).reshape(16, 32, 64)
    assert similarity.mutual_information(levels, crossed, bins=8) == pytest.approx(0, abs=1e-9)
    assert similarity.normalized_mutual_information(levels, levels, bins=8) == pytest.approx(2)
    assert similarity.normalized_mutual_information(levels, crossed, bins=8) == pytest.approx(1)


def test_ssim_is_one_for_equal_images_and_falls_with_noise(pair):
    a, _ = pair
    rng = np.random.default_rng(1)
    noise = rng.normal(size=a.shape).astype(np.float32) * a.std()
    found = [similarity.ssim(a, a + strength * noise) for strength in (0.0, 0.1, 0.3, 1.0)]
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.7


def test_ssim_knows_no_scale(pair):
    a, b = pair
    assert similarity.ssim(100 * a, 100 * b) == pytest.approx(similarity.ssim(a, b), rel=1e-4)
    assert similarity.ssim(a / 500, b / 500) == pytest.approx(similarity.ssim(a, b), rel=1e-4)


def test_ssim_of_two_flat_images_is_its_luminance_term():
    a, b = np.full((20, 20), 2.0, np.float32), np.full((20, 20), 3.0, np.float32)
    c1 = 0.01**2
    assert similarity.ssim(a, b) == pytest.approx((12 + c1) / (13 + c1), rel=1e-5)


@pytest.mark.parametrize("figure", ["ncc", "lncc", "mutual_information", "ssim"])
def test_figures_ignore_what_is_far_outside_the_mask(pair, figure):
    a, b = pair
    mask = np.zeros(a.shape, bool)
    mask[:6, :6, :6] = True
    spoiled = b.copy()
    spoiled[15:] = 1e4
    measure = getattr(similarity, figure)
    assert measure(a, spoiled, mask) == pytest.approx(measure(a, b, mask), rel=1e-6)


@pytest.mark.parametrize("figure", ["ncc", "lncc", "mutual_information", "ssim"])
def test_an_empty_mask_has_no_figure(pair, figure):
    a, b = pair
    assert math.isnan(getattr(similarity, figure)(a, b, np.zeros(a.shape, bool)))


@pytest.mark.parametrize("figure", ["ncc", "mutual_information"])
def test_a_constant_image_has_no_figure(pair, figure):
    assert math.isnan(getattr(similarity, figure)(pair[0], np.ones_like(pair[1])))


@pytest.mark.parametrize("figure", ["ncc", "lncc", "mutual_information", "ssim"])
def test_planes_work_like_volumes(pair, figure):
    plane = pair[0][8]
    measure = getattr(similarity, figure)
    assert measure(plane, plane) > measure(plane, pair[1][8])
