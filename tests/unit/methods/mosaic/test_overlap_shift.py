import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from regflow.methods.mosaic.overlap_shift import find_overlap_windows, measure_overlap_shift


def make_tiles(true, side=200, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    scene = gaussian_filter(rng.standard_normal((600, 600)), 1.5).astype(np.float32) * 1000 + 2000
    whole = np.floor(true).astype(int)
    moved = shift(scene, -(np.asarray(true) - whole)[::-1], order=5, mode="nearest")
    first = scene[200 : 200 + side, 200 : 200 + side]
    second = moved[200 + whole[1] : 200 + whole[1] + side, 200 + whole[0] : 200 + whole[0] + side]
    return [tile + rng.normal(0, noise, tile.shape).astype(np.float32) for tile in (first, second)]


def measure(tiles, expected, reach=12.0):
    expected = np.asarray(expected, float)
    windows = find_overlap_windows(tiles[0].shape, tiles[1].shape, expected, reach)
    assert windows is not None
    parts = [tile[window] for tile, window in zip(tiles, windows, strict=True)]
    origins = [np.array([window[1].start, window[0].start], float) for window in windows]
    return measure_overlap_shift(*parts, tuple(origins), expected, reach)


@pytest.mark.parametrize(
    "true", [(170.0, 3.0), (-4.3, 181.6), (176.45, -6.7), (-165.2, 2.1), (5.5, -170.25), (160.4, 158.7)]
)
def test_offsets_are_found_to_a_part_of_a_pixel(true):
    found = measure(make_tiles(true), (true[0] + 6.0, true[1] - 7.0))
    assert found is not None
    assert found.is_reliable
    np.testing.assert_allclose(found.offset, true, atol=0.05)
    assert found.sigma < 0.1


def test_noise_widens_the_uncertainty_by_as_much_as_the_error():
    true = (172.3, 4.6)
    errors, sigmas = [], []
    for seed in range(6):
        found = measure(make_tiles(true, noise=120.0, seed=seed), true)
        errors.append(found.offset - true)
        sigmas.append(found.sigma)
    assert 0.3 < np.sqrt(np.mean(np.square(errors))) / np.mean(sigmas) < 2.5


@pytest.mark.parametrize("kind", ["even", "noise", "stranger"])
def test_overlaps_without_common_texture_are_not_reliable(kind):
    rng = np.random.default_rng(1)
    first, _ = make_tiles((170.0, 0.0))
    second = {
        "even": np.full_like(first, 2000),
        "noise": rng.normal(2000, 100, first.shape).astype(np.float32),
        "stranger": make_tiles((170.0, 0.0), seed=9)[0],
    }[kind]
    found = measure([first, second], (170.0, 0.0), reach=30.0)
    assert found is None or not found.is_reliable


def test_repeated_texture_is_not_reliable():
    rows, columns = np.mgrid[:200, :200]
    tile = (1000 + 200 * np.sin(columns / 1.5) + 200 * np.sin(rows / 1.5)).astype(np.float32)
    found = measure([tile, tile], (170.0, 0.0), reach=25.0)
    assert found is None or not found.is_reliable


def test_what_cannot_overlap_has_no_windows():
    assert find_overlap_windows((100, 100), (100, 100), np.array([140.0, 0.0]), 20.0) is None


def test_windows_hold_every_overlap_within_reach():
    ours, theirs = find_overlap_windows((100, 120), (100, 120), np.array([100.0, 4.0]), 10.0)
    assert (ours[1], theirs[1]) == (slice(90, 120), slice(0, 30))
    assert (ours[0], theirs[0]) == (slice(0, 100), slice(0, 100))
