"""What the intensities of one image say of another's."""

import numpy as np
import pytest

from regflow.core.contrast import (
    DEPTH,
    average_by_intensity,
    correlation_ratio,
    erode_deeply,
    map_intensities,
)
from regflow.core.image import Image


def test_a_function_of_the_intensities_explains_all_and_noise_nothing(mni_4mm: Image) -> None:
    values = mni_4mm.channel[mni_4mm.mask] / mni_4mm.channel.max()
    noise = np.random.default_rng(0).standard_normal(values.shape, dtype=np.float32)
    curve = np.square(values - np.float32(0.6))
    assert correlation_ratio(values, curve) > 0.98
    assert correlation_ratio(values, noise) < 0.01
    assert correlation_ratio(values, curve + curve.std() * noise) == pytest.approx(0.5, abs=0.03)
    assert correlation_ratio(values, np.ones_like(values)) == 0


def test_means_follow_a_curve_that_is_not_monotone() -> None:
    given = np.random.default_rng(1).uniform(0, 1, 200_000).astype(np.float32)
    means = average_by_intensity(given, np.sin(6 * given))
    asked = np.linspace(0.1, 0.9, 9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_allclose(map_intensities(means, asked), np.sin(6 * asked), atol=0.02)


def test_the_depth_of_a_mask_leaves_its_border_out_unless_nothing_were_left() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[4:16, 4:16, 4:16] = True
    deep = erode_deeply(mask)
    assert deep.sum() == (12 - 2 * DEPTH) ** 3
    assert not (deep & ~mask).any()
    thin = np.zeros_like(mask)
    thin[10] = True
    assert (erode_deeply(thin) == thin).all()


def test_a_single_slice_has_depth_within_its_plane() -> None:
    assert erode_deeply(np.ones((1, 9, 9), bool)).any()
