import numpy as np
from scipy.ndimage import gaussian_filter

from regflow.methods.mosaic.gains import estimate_gains
from regflow.methods.mosaic.illumination import (
    FEWEST_TILES,
    Illumination,
    estimate_illumination,
    summarize_tile,
)


def make_tiles(count, falloff, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    light = 1 - falloff * (x**2 + y**2) / 2
    scenes = [gaussian_filter(rng.standard_normal((128, 128)), 6) * 3000 + 2000 for _ in range(count)]
    return [scene * light for scene in scenes], light / light.mean()


def test_vignetting_is_what_tiles_have_in_common():
    tiles, light = make_tiles(40, 0.3)
    found = estimate_illumination([summarize_tile(tile) for tile in tiles])
    rows = np.arange(128)
    np.testing.assert_allclose(found.compute(rows, rows, (128, 128)), light, atol=0.04)
    assert 0.2 < found.falloff < 0.4
    part = found.compute(rows[10:20], rows[50:90], (128, 128))
    np.testing.assert_array_equal(part, found.compute(rows, rows, (128, 128))[10:20, 50:90])


def test_even_light_and_few_tiles_are_left_as_they_are():
    tiles, _ = make_tiles(20, 0.0)
    assert estimate_illumination([summarize_tile(tile) for tile in tiles]).falloff < 0.1
    few, _ = make_tiles(FEWEST_TILES - 1, 0.3)
    assert estimate_illumination([summarize_tile(tile) for tile in few]) == Illumination()
    assert estimate_illumination([np.zeros((24, 24))] * 20) == Illumination()


def test_means_of_cells_are_those_of_their_pixels():
    values = np.arange(24 * 48, dtype=float).reshape(24, 48)
    np.testing.assert_allclose(summarize_tile(values), values.reshape(24, 24, 2).mean(axis=2))


def test_gains_make_overlaps_equally_bright():
    true = np.array([1.0, 0.8, 1.25, 1.1])
    pairs = [(0, 1), (1, 2), (2, 3), (3, 0)]
    ratios = [float(np.log(true[a] / true[b])) for a, b in pairs]
    gains = estimate_gains(5, pairs, ratios)
    np.testing.assert_allclose((gains[:4] * true) / (gains[0] * true[0]), 1, atol=0.01)
    assert abs(gains[4] - 1) < 1e-6
    wild = estimate_gains(5, [*pairs, (0, 4)], [*ratios, 5.0])
    np.testing.assert_allclose(wild, gains)
