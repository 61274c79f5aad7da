import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from regflow.core.grid import Grid
from regflow.metrics.sharpness import measure_gradient_energy

GRID = Grid.from_geometry((6, 7, 8), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def test_a_slope_has_its_own_square_per_world_unit():
    slope = np.broadcast_to(np.arange(8, dtype=np.float32), GRID.shape)
    assert measure_gradient_energy(slope, GRID, None) == pytest.approx(0.25)


def test_blur_lowers_it_and_the_mask_says_where():
    noise = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    mask = np.zeros(GRID.shape, bool)
    mask[2:4, 2:5, 2:6] = True
    assert measure_gradient_energy(gaussian_filter(noise, 1.0), GRID, mask) < 0.5 * measure_gradient_energy(
        noise, GRID, mask
    )
    assert measure_gradient_energy(noise, GRID, np.zeros_like(mask)) == 0
