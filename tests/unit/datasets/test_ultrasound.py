import numpy as np
import pytest

from regflow.core.grid import Grid
from regflow.datasets.ultrasound import (
    GLAND,
    PELVIS,
    Tissue,
    UltrasoundProbe,
    draw_pelvis,
    place_pelvis_probe,
    simulate_ultrasound,
)

GRID = Grid.from_geometry((50, 50, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
BOX = UltrasoundProbe(np.array([24.5, 47.0, 19.5]), 44.0, 30.0, 0.0, 40.0)
SOFT, DENSE, BONE = Tissue(0.5, 0.3, 1.5), Tissue(0.6, 0.3, 2.4), Tissue(0.1, 0.3, 4.5, 25.0)


def painted(labels: np.ndarray, tissues: tuple[Tissue, ...]) -> np.ndarray:
    return np.asarray(simulate_ultrasound(labels, GRID, tissues, BOX, GRID, seed=1).channel)


def test_a_border_across_the_beam_is_bright_and_one_along_it_is_lost():
    """The beams of the box go along y."""
    labels = np.zeros(GRID.shape, np.int16)
    labels[:, 25:, :] = 1
    across = painted(labels, (SOFT, DENSE))
    rows = across[10:30, :, 10:40].mean(axis=(0, 2))
    assert rows[23:27].max() > rows[32:40].max() + 5
    labels = np.zeros(GRID.shape, np.int16)
    labels[:, :, 25:] = 1
    along = painted(labels, (SOFT, DENSE))
    assert abs(along[10:30, 10:40, 24:27].mean() - along[10:30, 10:40, 32:38].mean()) < 2


def test_bone_casts_a_shadow_away_from_the_probe():
    labels = np.zeros(GRID.shape, np.int16)
    labels[:, 28:32, 15:35] = 1
    image = painted(labels, (SOFT, BONE))
    behind, beside = image[10:30, 8:22, 18:32], image[10:30, 8:22, 7:12]
    assert behind.mean() < beside.mean() - 15


def test_speckle_has_the_spread_of_a_rayleigh_amplitude():
    image = painted(np.zeros(GRID.shape, np.int16), (SOFT,))[10:30, 10:40, 10:40]
    # In decibels a Rayleigh amplitude has a standard deviation of 5.57; interpolation takes some away.
    assert 3.0 < image.std() < 6.0


@pytest.mark.parametrize("box", [False, True])
def test_the_pelvis_is_seen_through_a_small_field_of_view(box):
    grid = Grid.from_geometry((56, 52, 52), (2.0, 2.0, 2.0), (-55.0, -51.0, -51.0))
    labels = draw_pelvis(grid, 3)
    assert set(np.unique(labels)) == set(range(len(PELVIS)))
    image = simulate_ultrasound(labels, grid, PELVIS, place_pelvis_probe(grid, box=box), grid, seed=1)
    assert image.mask is not None
    assert 0.05 < image.mask.mean() < 0.5
    assert image.mask[np.isin(labels, GLAND)].mean() > 0.7
    assert np.all(image.channel[~image.mask] == 0)
    assert not np.array_equal(labels, draw_pelvis(grid, 4))
