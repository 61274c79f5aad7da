import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regflow.core.fields import to_voxels
from regflow.core.grid import Grid

OBLIQUE = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])


def oblique_grid() -> Grid:
    return Grid.from_geometry((5, 7, 9), (0.9, 1.1, 3.0), (-10.0, 20.0, 5.0), OBLIQUE)


def test_index_and_world_are_inverse_and_ordered_x_y_z():
    grid = oblique_grid()
    index = np.array([[0, 0, 0], [8, 6, 4], [2.5, 1.25, 3.75]])
    assert np.allclose(grid.to_index(grid.to_world(index)), index)
    assert np.allclose(grid.to_world([1, 0, 0]) - grid.origin, 0.9 * OBLIQUE[:, 0])
    assert np.allclose(grid.spacing, (0.9, 1.1, 3.0))
    assert grid.size == (9, 7, 5)
    assert np.allclose(grid.direction, OBLIQUE)


def test_geometry_agrees_with_simpleitk():
    import SimpleITK as sitk

    grid = oblique_grid()
    image = sitk.Image(*grid.size, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.origin.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    for index in [(0, 0, 0), (3, 2, 1), (8, 6, 4)]:
        assert np.allclose(image.TransformIndexToPhysicalPoint(index), grid.to_world(index))


@given(
    spacing=st.floats(0.3, 6.0),
    size=st.tuples(*[st.integers(1, 40)] * 3),
    native=st.tuples(*[st.floats(0.4, 5.0)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_resampled_grid_keeps_center_axes_and_covers_the_extent(spacing, size, native):
    grid = Grid.from_geometry(size[::-1], native, (1.0, 2.0, 3.0), OBLIQUE)
    coarse = grid.with_spacing(spacing)
    assert np.allclose(coarse.center, grid.center)
    assert np.allclose(coarse.direction, grid.direction)
    assert np.allclose(coarse.spacing, spacing)
    extent, covered = np.array(grid.size) * grid.spacing, np.array(coarse.size) * spacing
    assert np.all(covered > extent - 0.0011 * spacing)
    assert np.all(covered < extent + spacing)


def test_resampling_to_the_same_spacing_changes_nothing():
    grid = oblique_grid()
    assert grid.with_spacing(grid.spacing).matches(grid)


def test_matches_tolerates_header_rounding_but_not_half_a_voxel():
    grid = oblique_grid()
    near = np.array(grid.affine)
    near[:3, 3] += 1e-5
    far = np.array(grid.affine)
    far[0, 3] += 0.45
    assert grid.matches(Grid(grid.shape, near))
    assert not grid.matches(Grid(grid.shape, far))
    assert not grid.matches(Grid((5, 7, 8), grid.affine))


def test_equality_hash_and_dictionary_round_trip():
    grid = oblique_grid()
    again = Grid.from_dict(grid.to_dict())
    assert again == grid
    assert hash(again) == hash(grid)
    assert grid != Grid(grid.shape, grid.affine, "EPSG:32633")


def test_a_two_dimensional_grid_speaks_the_same_words():
    grid = Grid((3, 4), np.array([[10.0, 0, 500], [0, -10.0, 900], [0, 0, 1]]), "EPSG:32633")
    assert grid.ndim == 2
    assert np.allclose(grid.to_world([[3, 2]]), [[530, 880]])


def test_an_affine_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match="4x4"):
        Grid((2, 2, 2), np.eye(3))


def test_vectors_in_samples_are_differences_of_indices():
    grid = oblique_grid()
    rng = np.random.default_rng(0)
    points, vectors = rng.normal(size=(2, 4, 5, 3))
    assert np.allclose(
        grid.to_index_vectors(vectors), grid.to_index(points + vectors) - grid.to_index(points)
    )
    assert np.allclose(grid.to_index_vectors(grid.affine[:3, 1]), [0, 1, 0])
    field = np.moveaxis(vectors, -1, 0)[:, None]
    there = np.moveaxis(grid.to_index_vectors(vectors)[None], -1, 0)[::-1]
    assert np.allclose(to_voxels(field, grid), there, atol=1e-6)
