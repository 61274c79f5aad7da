"""The kernels that compare windows, each against what plain arithmetic says."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d, gaussian_filter, map_coordinates, spline_filter

from regflow.methods.matching.tie_point_kernels import align_window, search_offsets
from regflow.methods.matching.tie_point_patches import filter_patch

SIDE, MOST = 17, 6


def texture(seed: int, side: int, sigma: float = 1.5) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), sigma)
    return (smooth / smooth.std()).astype(np.float32)


def everywhere(side: int) -> np.ndarray:
    return np.ones((side, side), bool)


def test_the_rival_is_the_highest_peak_elsewhere():
    window, wide = texture(0, SIDE), texture(1, SIDE + 2 * MOST)
    wide[MOST : MOST + SIDE, MOST : MOST + SIDE] = window
    # A second place that is alike to a half, away from the last shifts that the search looks at.
    corner = wide[:SIDE, :SIDE]
    corner[: SIDE // 2] = window[: SIDE // 2]
    x, y, best, rival = search_offsets(
        window[None], everywhere(SIDE), wide[None], everywhere(len(wide)), MOST
    )
    assert (x, y) == (0, 0)
    shifts = [(dy, dx) for dy in range(2 * MOST + 1) for dx in range(2 * MOST + 1)]
    alike = {
        (dy, dx): np.corrcoef(window.ravel(), wide[dy : dy + SIDE, dx : dx + SIDE].ravel())[0, 1]
        for dy, dx in shifts
    }
    others = [value for (dy, dx), value in alike.items() if max(abs(dy - MOST), abs(dx - MOST)) > 2]
    assert best == pytest.approx(alike[MOST, MOST], abs=1e-4)
    assert rival == pytest.approx(max(others), abs=1e-4)


@pytest.mark.parametrize(("known_columns", "compared"), [(2, False), (SIDE, True)])
def test_a_window_of_which_too_little_is_seen_is_not_compared(known_columns, compared):
    window = texture(2, SIDE)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[:, :known_columns] = True
    *_, best, rival = search_offsets(window[None], inside, window[None], everywhere(SIDE), 0)
    assert rival == -1.0
    assert best == pytest.approx(1.0 if compared else -1.0, abs=1e-4)


def aligned(window: np.ndarray, patch: np.ndarray, free: int = 2) -> tuple[float, float, float]:
    """Align the inside of a window with a patch of its size that begins where the window does."""
    side = len(window) - 2
    coefs = spline_filter(patch.astype(np.float64), 3, mode="mirror").astype(np.float32)[None]
    warp, sampled = np.eye(2, 3), np.empty((1, side, side), np.float32)
    weight = np.ones((side, side), np.float32)
    return align_window(window[None], weight, coefs, warp, free, 20, 1e-4, sampled)


def test_the_error_that_is_predicted_is_that_of_noise():
    sigma = 0.05
    window = texture(3, 33, 2.0)
    padded = np.pad(window, 4, mode="reflect")
    noise = np.random.default_rng(4).normal(scale=sigma, size=padded.shape).astype(np.float32)
    found, error_x, error_y = aligned(window, padded + noise)
    inner = window[1:-1, 1:-1]
    slopes = np.gradient(window)[::-1]
    # Of least squares: the noise over the root of the summed squared gradients.
    predicted = [sigma / np.sqrt((slope[1:-1, 1:-1] ** 2).sum()) for slope in slopes]
    assert found == pytest.approx(1 / np.sqrt(1 + (sigma / inner.std()) ** 2), abs=2e-3)
    assert [error_x, error_y] == pytest.approx(predicted, rel=0.3)


@pytest.mark.parametrize("window", [np.zeros((19, 19)), np.tile(np.sin(np.arange(19.0)), (19, 1))])
def test_what_has_no_texture_along_both_axes_is_not_aligned(window):
    window = window.astype(np.float32)
    assert aligned(window, np.pad(window, 4, mode="reflect")) == (-2.0, 0.0, 0.0)


@pytest.mark.parametrize("taps", [[1.0], [0.5, 0.25], [0.4, 0.2, 0.1], [0.34, 0.18, 0.1, 0.05]])
def test_a_patch_is_convolved_along_both_axes(taps):
    patch = texture(5, 24)
    reach = len(taps) - 1
    whole = np.array([*taps[:0:-1], *taps])
    expected = convolve1d(convolve1d(patch.astype(np.float64), whole, axis=0), whole, axis=1)
    inner = slice(reach, len(patch) - reach)
    result = filter_patch(patch, np.array(taps, np.float32))
    np.testing.assert_allclose(result, expected[inner, inner], atol=1e-5)


@pytest.mark.parametrize("shift", [(0.4, 0.0), (0.0, -0.4), (0.3, 0.35)])
def test_a_few_steps_find_a_part_of_a_pixel(shift):
    """Gradients along either axis lead there at once; wrong ones would take many steps, or none."""
    patch = texture(6, 41, 2.5)
    coefs = spline_filter(patch.astype(np.float64), 3, mode="mirror")
    rows, cols = np.mgrid[4:37, 4:37].astype(float)
    window = map_coordinates(coefs, (rows + shift[1], cols + shift[0]), order=3, prefilter=False)
    warp, side = np.eye(2, 3), 31
    found, *_ = align_window(
        window[None].astype(np.float32),
        np.ones((side, side), np.float32),
        coefs[None].astype(np.float32),
        warp,
        2,
        3,
        0.0,
        np.empty((1, side, side), np.float32),
    )
    assert warp[:, 2] == pytest.approx(shift, abs=5e-3)
    assert found > 0.999
