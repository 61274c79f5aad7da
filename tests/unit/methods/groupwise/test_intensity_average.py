import numpy as np
import pytest

from regflow.core.errors import SettingError
from regflow.methods.groupwise.intensity_average import apply_sharpening, average_intensities

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(10, 1, (7, 5, 6, 4)).astype(np.float32)


def test_equal_weights_give_numpys_own_statistics():
    assert average_intensities(IMAGES, [1] * 7) == pytest.approx(IMAGES.mean(0, np.float64))
    assert average_intensities(IMAGES, [2] * 7, "median") == pytest.approx(np.median(IMAGES, 0), abs=1e-6)
    even = average_intensities(IMAGES[:6], [1] * 6, "median")
    assert even == pytest.approx(np.median(IMAGES[:6], 0), abs=1e-6)


def test_a_whole_number_for_a_weight_counts_an_image_so_often():
    often = np.concatenate([IMAGES[:3], IMAGES[:1], IMAGES[:1]])
    for how in ("mean", "median", "trimmed"):
        weighted = average_intensities(IMAGES[:3], [3, 1, 1], how, 0.2)
        assert weighted == pytest.approx(average_intensities(often, [1] * 5, how, 0.2), abs=1e-6)


def test_a_trimmed_mean_and_a_median_shrug_off_an_outlier_and_a_mean_does_not():
    spoiled = IMAGES.copy()
    spoiled[3] = 1000
    clean = average_intensities(IMAGES, [1] * 7)
    assert np.abs(average_intensities(spoiled, [1] * 7) - clean).min() > 100
    for how in ("median", "trimmed"):
        assert np.abs(average_intensities(spoiled, [1] * 7, how, 0.2) - clean).max() < 3


@pytest.mark.parametrize("how", ["mean", "median", "trimmed"])
def test_what_an_image_does_not_see_does_not_count(how):
    partly = IMAGES.copy()
    partly[0, :2] = np.nan
    found = average_intensities(partly, [1] * 7, how)
    assert found[:2] == pytest.approx(average_intensities(IMAGES[1:, :2], [1] * 6, how))
    assert found[2:] == pytest.approx(average_intensities(IMAGES[:, 2:], [1] * 7, how))
    partly[:, 0] = np.nan
    assert np.isnan(average_intensities(partly, [1] * 7, how)[0]).all()


def test_sharpening_raises_edges_within_the_range_and_leaves_flat_parts():
    edge = np.zeros((8, 8, 12), np.float32)
    edge[..., 5:] = np.float32(0.4)
    edge[..., 6:] = 1
    for how in ("laplacian", "unsharp"):
        sharp = apply_sharpening(edge, how, 0.5)
        assert sharp.min() == 0
        assert sharp.max() == 1
        assert (sharp[..., 5] < edge[..., 5]).all()
        assert (sharp[..., :2] == 0).all()
    assert apply_sharpening(edge, "none") is edge


def test_unknown_names_are_told():
    with pytest.raises(SettingError, match="choose one of mean, median, trimmed"):
        average_intensities(IMAGES, [1] * 7, "mode")
    with pytest.raises(SettingError, match="choose one of none, laplacian, unsharp"):
        apply_sharpening(IMAGES[0], "much")
