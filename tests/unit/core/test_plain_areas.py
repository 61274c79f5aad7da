"""Plain surroundings of what a picture shows, and what they must not decide."""

import numpy as np
import pytest

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.plain_areas import RIM, find_plain_surroundings, find_variation
from regflow.core.transform import Affine
from regflow.stages.rasters.probes import ComparisonWindows

SIDE = 300
ROWS, COLS = np.indices((SIDE, SIDE)) - SIDE / 2
FROM_CENTER = np.hypot(ROWS, COLS)


def texture(shift: int = 0) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE + 40))
    return 100 + 200 * gaussian_filter(noise, 1.5)[:, shift : shift + SIDE]


def picture(values: np.ndarray) -> Image:
    grid = Grid(values.shape, np.eye(3))
    return Image(values.astype(np.float32)[None], grid, np.ones(values.shape, bool))


def disc(values: np.ndarray, radius: float = 120) -> np.ndarray:
    return np.where(radius > FROM_CENTER, values, 3)


def test_the_field_around_a_disc_and_its_outline_are_surroundings():
    values = disc(texture())
    values[SIDE // 2 - 30 : SIDE // 2 + 30, SIDE // 2 - 30 : SIDE // 2 + 30] = 100
    found = find_plain_surroundings(picture(values))
    assert found[FROM_CENTER > 125].all()
    assert not found[FROM_CENTER < 120 - RIM - 3].any()
    assert found[(FROM_CENTER > 120 - 3) & (FROM_CENTER < 120)].all()


@pytest.mark.parametrize("values", [texture(), np.full((SIDE, SIDE), 7.0)])
def test_a_picture_that_is_full_has_none_and_an_empty_one_is_all(values):
    found = find_plain_surroundings(picture(values))
    assert found.all() if np.ptp(values) == 0 else not found.any()


def test_values_vary_where_neighbors_differ():
    values = np.zeros((SIDE, SIDE))
    values[:, SIDE // 2 :] = 10
    found = find_variation(picture(values))
    assert found[:, SIDE // 2 - 2 : SIDE // 2 + 2].all()
    assert found.sum() == 4 * SIDE


def test_outlines_in_common_do_not_make_scenes_alike():
    """Two views through one aperture: the texture lies 12 pixels aside, the outline does not."""
    fixed, moving = picture(disc(texture())), picture(disc(texture(12)))
    truth = Affine.from_parts(np.eye(2), (-12.0, 0.0), np.zeros(2))
    probes = ComparisonWindows.read(fixed, moving, truth)
    alike = [probes.measure_similarity(each)["ncc"] for each in (Affine.identity(2), truth)]
    assert alike[0] < 0.2
    assert alike[1] > 0.9
