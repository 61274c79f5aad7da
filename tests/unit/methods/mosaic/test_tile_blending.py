import numpy as np
import pytest

from regflow.methods.mosaic.blending import (
    PlacedTile,
    compute_border_weights,
    find_covered,
    merge_tiles,
    represent_samples,
    shift_pixels,
)
from regflow.methods.mosaic.placement import find_doubles, list_neighbors


def test_pixels_between_samples_of_a_parabola_are_exact():
    rows, columns = np.mgrid[:12.0, :15.0]
    values = (rows**2 + 3 * columns - 2 * rows * columns).astype(np.float32)
    found = shift_pixels(values[None], (0.25, 0.6))[0]
    y, x = rows[1:-2, 1:-2] + 0.25, columns[1:-2, 1:-2] + 0.6
    np.testing.assert_allclose(found, y**2 + 3 * x - 2 * y * x, atol=1e-4)


def test_a_tile_covers_the_pixels_between_its_first_and_last_sample():
    assert find_covered(2.5, 10, slice(0, 100)) == slice(3, 12)
    assert find_covered(2.0, 10, slice(0, 100)) == slice(2, 12)
    assert find_covered(2.0, 10, slice(5, 8)) == slice(5, 8)
    assert find_covered(2.0, 10, slice(12, 20)) is None


def test_weights_rise_from_the_border():
    weights = compute_border_weights(slice(10, 20), slice(30, 40), (10.0, 30.0), (10, 10), 4.0)
    assert weights[0, 5] == pytest.approx(0.25)
    assert weights[5, 5] == 1
    assert weights.min() > 0


@pytest.mark.parametrize(("blend", "middle"), [("feather", 15.0), ("first", 10.0)])
def test_overlaps_are_filled_as_asked(blend, middle):
    tiles = [
        PlacedTile(slice(0, 4), slice(0, 6), np.full((1, 4, 6), 10, np.float32), np.ones((4, 6), np.float32)),
        PlacedTile(slice(0, 4), slice(4, 9), np.full((1, 4, 5), 20, np.float32), np.ones((4, 5), np.float32)),
    ]
    values, covered = merge_tiles(iter(tiles), 1, (5, 10), blend)
    np.testing.assert_allclose(values[0, 0], [10] * 4 + [middle] * 2 + [20] * 3 + [0])
    assert covered.sum() == 4 * 9


def test_whole_numbers_are_rounded_and_kept_within_their_range():
    values = np.array([[-3.0, 1.5, 254.6, 400.0]], np.float32)
    assert represent_samples(values, np.dtype("uint8")).tolist() == [[0, 2, 255, 255]]


def test_neighbors_share_a_side():
    positions = np.array([[0, 0], [90, 2], [0, 91], [90, 90], [300, 300.0]])
    sizes = np.full((5, 2), 100.0)
    assert list_neighbors(positions, sizes, 5.0, 8.0) == [(0, 1), (0, 2), (1, 3), (2, 3)]


def test_tiles_in_one_place_are_found():
    positions = np.array([[0, 0], [90, 2], [0.4, 0.2]])
    assert find_doubles(positions, np.full((3, 2), 100.0)) == [(0, 2)]
