"""Phase correlation: how exact, whatever the contrast, mask and overlap; and what it refuses."""

from itertools import combinations

import numpy as np
import pytest
from linear_scenes import band, corner_error_px, moved, run

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.methods.initialize.phase_correlation import (
    CANDIDATES,
    CERTAIN,
    SAME_PEAK,
    _candidates,
    measure_phase_shift,
)
from regflow.methods.initialize.planar import average_valid_blocks, masked_image
from regflow.methods.initialize.spectra import compute_spectra, measure_common_shift, measure_window_shifts


def shift_of(fixed, moving):
    return measure_phase_shift(masked_image(fixed, "fixed"), masked_image(moving, "moving"), np.eye(3))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.37, -0.21), (13.4, -41.7), (-48.3, 2.6)])
def test_one_band_is_found_to_some_hundredths_of_a_pixel(shift):
    moving, truth = moved("B04", shift)
    found = run("phase-correlation", band("B04"), moving, model="translation")
    assert corner_error_px(found, truth, band("B04").grid) < 0.03


@pytest.mark.parametrize("shift", [(7.3, 22.6), (-30.8, -17.4)])
def test_infrared_to_red_repeats_to_some_hundredths(shift):
    """The bands' own offset is the product's; it is taken from the pair before it is moved."""
    own = shift_of(band("B04"), band("B08")).matrix[:2, 2]
    moving, truth = moved("B08", shift)
    found = shift_of(band("B04"), moving).matrix[:2, 2]
    assert np.linalg.norm(found - own - truth.translation) / 10 < 0.05
    assert np.linalg.norm(own) / 10 < 0.3


def test_inverted_contrast_is_found_as_well():
    moving, truth = moved("B04", (11.3, -8.6))
    inverted = moving.with_data(-moving.data)
    found = run("phase-correlation", band("B04"), inverted, model="translation")
    assert corner_error_px(found, truth, band("B04").grid) < 0.03


def test_masked_clouds_do_not_pull():
    moving, truth = moved("B04", (11.3, -8.6))
    fixed = band("B04")
    data, mask = fixed.data.copy(), fixed.mask.copy()
    data[:, 60:140, 100:220], mask[60:140, 100:220] = 20000.0, False
    found = run("phase-correlation", Image(data, fixed.grid, mask), moving, model="translation")
    assert corner_error_px(found, truth, fixed.grid) < 0.03


def test_nan_and_infinity_are_not_valid():
    moving, truth = moved("B04", (3.3, -8.6))
    data = moving.data.copy()
    data[0, 100:120, 50:90] = np.nan
    data[0, 5, 5] = np.inf
    found = run("phase-correlation", band("B04"), Image(data, moving.grid), model="translation")
    assert corner_error_px(found, truth, band("B04").grid) < 0.1


def test_scenes_that_share_a_third_are_found():
    fixed = band("B04")
    left, right = fixed.data[:, :, :210], fixed.data[:, :, 130:]
    grids = (Grid(left.shape[1:], np.eye(3)), Grid(right.shape[1:], np.eye(3)))
    found = shift_of(Image(left, grids[0]), Image(right, grids[1]))
    assert found.reliability > CERTAIN
    assert np.allclose(found.matrix[:2, 2], (-130, 0), atol=0.02)


def test_a_coarser_image_on_a_south_up_grid_is_found():
    moving, truth = moved("B04", (12.2, -8.4))
    coarse = average_valid_blocks(masked_image(moving, "moving"), 2)
    flip = np.array([[1, 0, 0], [0, -1, coarse.grid.shape[0] - 1], [0, 0, 1.0]])
    grid = Grid(coarse.grid.shape, coarse.grid.affine @ flip, coarse.grid.crs)
    turned = Image(coarse.data[:, ::-1].copy(), grid, coarse.mask[::-1].copy())
    found = run("phase-correlation", band("B04"), turned, model="translation")
    assert corner_error_px(found, truth, band("B04").grid) < 0.1


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.0, 4.0])
def test_unrelated_images_are_never_reliable(sigma):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(3)
    noise = [gaussian_filter(rng.normal(size=(300, 300)), sigma).astype(np.float32) for _ in range(4)]
    images = [Image(part[None], Grid(part.shape, np.eye(3))) for part in noise]
    assert shift_of(*images[:2]).reliability < CERTAIN
    assert shift_of(*images[2:]).reliability < CERTAIN


def test_a_turned_scene_is_refused_not_guessed():
    moving, _ = moved("B04", (4.0, 9.0), turn=25.0)
    with pytest.raises(RegistrationError, match="no shift stands out"):
        run("phase-correlation", band("B04"), moving)


def test_the_standard_deviation_means_something():
    """Noise of its own in each of many pairs scatters the shifts about as much as is said."""
    rng = np.random.default_rng(0)
    fixed = masked_image(band("B04"), "fixed")
    noise = 2 * float(fixed.channel.std())
    shifts, sigmas = [], []
    for _ in range(12):
        pair = [
            fixed.with_data(fixed.channel + rng.normal(0, noise, fixed.grid.shape).astype(np.float32))
            for _ in range(2)
        ]
        found = measure_common_shift(compute_spectra(*pair, 64, 200))
        shifts.append(found.pixels)
        sigmas.append(found.sigma)
    scatter = np.sqrt(np.mean(np.square(shifts), axis=0))
    assert np.all(scatter < 4 * np.mean(sigmas, axis=0))
    assert np.all(scatter > np.mean(sigmas, axis=0) / 4)


def test_windows_tell_their_own_shifts():
    fixed = masked_image(band("B04"), "fixed")
    moving, _ = moved("B04", (0.3, -0.4))
    shifts, fits = measure_window_shifts(compute_spectra(fixed, masked_image(moving, "moving"), 64, 100))
    # World y is up: rows move the other way than the truth's second coordinate says.
    assert np.abs(np.median(shifts, axis=0) - (0.3, -0.4)).max() < 0.03
    assert np.median(fits) > 0.9


@pytest.mark.parametrize("model", ["auto", "similarity", "affine"])
def test_windows_find_what_a_translation_cannot(model):
    moving, truth = moved("B04", (6.0, -3.0), turn=0.4)
    found = run("phase-correlation", band("B04"), moving, model=model)
    assert corner_error_px(found, truth, band("B04").grid) < 0.05


def test_a_pure_shift_stays_a_translation():
    moving, _ = moved("B04", (6.3, -3.1))
    found = run("phase-correlation", band("B04"), moving)
    assert isinstance(found, Affine)
    assert np.array_equal(found.linear, np.eye(2))


def test_the_same_bits_every_time():
    moving, _ = moved("B08", (6.3, -3.1))
    first, second = (run("phase-correlation", band("B04"), moving).matrix for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data, mask: (data * 0 + 7, mask), "the moving image is constant"),
        (lambda data, mask: (data, mask & False), "the moving image has no valid pixel"),
        (lambda data, mask: (data * np.nan, mask), "the moving image has no valid pixel"),
    ],
)
def test_an_empty_image_is_told(change, sentence):
    moving = band("B08")
    data, mask = change(moving.data, moving.mask)
    with pytest.raises(RegistrationError, match=sentence):
        run("phase-correlation", band("B04"), Image(data, moving.grid, mask))


def test_the_likeliest_starts_are_places_of_their_own():
    moving, truth = moved("B04", (60.0, -45.0))
    planes = masked_image(band("B04"), "fixed"), masked_image(moving, "moving")
    grid = band("B04").grid
    for guess in ((0.0, 0.0), (400.0, 250.0)):
        start = np.array([[1.0, 0, guess[0]], [0, 1, guess[1]], [0, 0, 1]])
        shifts = np.array([each[:2, 2] for each in _candidates(*planes, start)])
        assert np.abs(shifts[0] - truth.translation).max() / 10 < 1
        apart = [grid.spacing[0] * SAME_PEAK < np.abs(a - b).max() for a, b in combinations(shifts, 2)]
        assert len(shifts) == CANDIDATES
        assert all(apart)
