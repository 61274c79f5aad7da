"""The rest of a shift between two images, and what is said of its uncertainty."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from support.drifting_scenes import cloud, drift

from regflow.methods.groupwise.link_shift import measure_link_shift


def make_windows(images):
    """Return two images as one window."""
    one, other = images
    return [(one.channel, other.channel, one.mask & other.mask)]


@pytest.mark.parametrize("known", [(0.0, 0.0), (0.3, -0.4), (1.2, 0.9)])
def test_a_known_shift_of_a_real_band_is_found_to_hundredths(known):
    found = measure_link_shift(make_windows(drift([(0, 0), known]).values()))
    assert np.abs(found.pixels - known).max() < 0.02
    assert found.correlation > 0.99


def test_noise_makes_a_shift_as_unsure_as_it_is():
    still = gaussian_filter(np.random.default_rng(0).normal(size=(64, 64)), 1.5)
    moved = shift(still, (-0.4, 0.3), order=5, mode="mirror")
    errors, sigmas = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        noisy = [image + rng.normal(0, 0.5 * still.std(), still.shape) for image in (still, moved)]
        found = measure_link_shift([(*noisy, np.ones(still.shape, bool))])
        errors.append(found.pixels - [0.3, -0.4])
        sigmas.append(found.sigma)
    assert 0.5 < np.sqrt(np.square(errors).mean()) / np.mean(sigmas) < 2


def test_nothing_is_said_of_clouds_or_of_nothing():
    one = drift([(0, 0)])["t1"]
    assert measure_link_shift(make_windows((one, cloud()))) is None
    assert measure_link_shift([]) is None
