"""Maps of the plane as matrices, and where an image's mass lies."""

import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, DisplacementField, Homography
from regflow.methods.initialize.linear_refinement import _moved
from regflow.methods.initialize.moments import measure_mass
from regflow.methods.initialize.planar import average_valid_blocks, find_matrix, make_transform, map_points

POINTS = np.array([[10.0, 20.0], [-5.0, 3.0], [40.0, -8.0]])
BENT = Homography(np.array([[1.1, 0.1, 2.0], [-0.05, 0.9, -3.0], [1e-3, -2e-3, 1.0]]), (12.0, -7.0))
STRAIGHT = Affine.from_parts(np.array([[0.8, -0.6], [0.6, 0.8]]), [4.0, 1.0])


@pytest.mark.parametrize(
    "transform", [BENT, STRAIGHT, Composite((STRAIGHT, BENT)), Composite((BENT, STRAIGHT))]
)
def test_matrices_map_as_their_transforms_do(transform):
    matrix = find_matrix(transform)
    assert map_points(matrix, POINTS) == pytest.approx(transform.apply(POINTS))
    again = make_transform(5 * matrix, (3.0, 4.0))
    assert again.apply(POINTS) == pytest.approx(transform.apply(POINTS))
    assert isinstance(again, Affine) == (transform is STRAIGHT)


def test_what_bends_freely_is_no_matrix():
    field = DisplacementField(np.zeros((2, 4, 4), np.float32), Grid((4, 4), np.eye(3)))
    with pytest.raises(RegistrationError, match="neither affine nor"):
        find_matrix(field)


def test_how_far_a_corner_moves_is_told_in_pixels_and_of_the_farthest():
    grid = Grid((11, 21), np.diag([10.0, -10.0, 1.0]))
    still = np.eye(3)
    assert _moved(grid, still, find_matrix(Affine.from_parts(np.eye(2), [30.0, -40.0]))) == pytest.approx(5.0)
    wide = Affine.from_parts(np.diag([1.1, 1.0]), [0.0, 0.0], grid.to_world((0, 0)))
    assert _moved(grid, still, find_matrix(wide)) == pytest.approx(2.0, abs=0.11)


def test_mass_is_that_of_the_mask_or_else_of_the_intensities():
    grid = Grid.from_geometry((10, 12, 30), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0))
    data = np.full(grid.shape, -7.0, np.float32)
    data[4, 5, 6:9] = 3.0
    data[2, 5, 7] = 13.0
    center, axes = measure_mass(Image(data[None], grid))
    # 3 samples of 10 above the darkest, and one of 20.
    assert center == pytest.approx(grid.to_world([[7.0, 5.0, (3 * 4 + 2 * 2) / 5]])[0])
    mask = np.zeros(grid.shape, bool)
    mask[5, 4:8, 3:25] = True
    center, axes = measure_mass(Image(data[None], grid, mask))
    assert center == pytest.approx(grid.to_world([[13.5, 5.5, 5.0]])[0])
    assert np.abs(axes[:, -1]) == pytest.approx([1.0, 0, 0], abs=1e-9)
    assert np.abs(axes[:, 1]) == pytest.approx([0, 1.0, 0], abs=1e-9)
    for empty in (Image(data[None], grid, np.zeros_like(mask)), Image(np.ones((1, *grid.shape)), grid)):
        with pytest.raises(RegistrationError, match="no mass"):
            measure_mass(empty)


def test_means_of_blocks_are_those_of_valid_pixels():
    values = np.full((20, 30), 7.0, np.float32)
    mask = np.ones(values.shape, bool)
    mask[:, 9:12] = mask[5, 20] = False
    values[~mask] = -1000
    coarse = average_valid_blocks(Image(values[None], Grid((20, 30), np.eye(3)), mask), 4)
    assert coarse.grid.shape == (5, 7)
    assert coarse.mask is not None
    assert coarse.mask.sum() == 5 * 6
    assert np.allclose(coarse.channel[coarse.mask], 7.0)
