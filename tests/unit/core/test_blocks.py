"""Windows of images, and images made coarser by averaging."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regflow.core.blocks import decimate_data, load_block, read_block
from regflow.core.grid import Grid
from regflow.core.image import Image

GRID = Grid((61, 83), np.array([[10.0, 0, 400005], [0, -10, 5800005], [0, 0, 1]]))
VALUES = np.random.default_rng(1).normal(100, 20, (2, 61, 83)).astype(np.float32)
HOLES = np.random.default_rng(2).random((61, 83)) > 0.2
IMAGE = Image(VALUES, GRID, HOLES)

starts = st.integers(-20, 80)
sizes = st.integers(1, 60)


@given(starts, sizes, starts, sizes)
def test_a_window_is_a_cut_of_the_whole_and_empty_outside(top, height, left, width):
    rows, cols = slice(top, top + height), slice(left, left + width)
    padded = np.pad(np.where(HOLES, VALUES, 0), ((0, 0), (100, 100), (100, 100)))
    known = np.pad(HOLES, 100)
    block = read_block(IMAGE, rows, cols)
    place = slice(top + 100, top + 100 + height), slice(left + 100, left + 100 + width)
    np.testing.assert_array_equal(block.values, padded[:, *place])
    np.testing.assert_array_equal(block.valid, known[place])
    assert block.values.dtype == np.float32


def test_a_lazy_image_has_no_channel_in_memory_and_says_how_to_read_it():
    lazy = decimate_data(IMAGE, 20.0)
    assert lazy.is_lazy
    assert not IMAGE.is_lazy
    with pytest.raises(TypeError, match="read a window by read_block, or all by load"):
        _ = lazy.channel
    np.testing.assert_array_equal(load_block(lazy).channel, load_block(lazy).data[0])


def test_what_is_not_finite_is_invalid():
    values = VALUES.copy()
    values[1, 3, 4], values[0, 5, 6] = np.nan, np.inf
    block = read_block(Image(values, GRID), slice(0, 61), slice(0, 83))
    assert np.argwhere(~block.valid).tolist() == [[3, 4], [5, 6]]
    assert (block.values[:, ~block.valid] == 0).all()


@given(st.sampled_from([20.0, 25.0, 30.0, 34.7, 70.0]), starts, sizes, starts, sizes)
@settings(deadline=None)
def test_a_window_of_a_decimated_image_has_the_bits_of_the_whole(spacing, top, height, left, width):
    coarse = decimate_data(_lazy(), spacing)
    whole = load_block(coarse)
    block = read_block(coarse, slice(top, top + height), slice(left, left + width))
    again = read_block(whole, slice(top, top + height), slice(left, left + width))
    np.testing.assert_array_equal(block.values, again.values)
    np.testing.assert_array_equal(block.valid, again.valid)


def test_whole_factors_are_plain_means():
    whole = load_block(decimate_data(Image(VALUES[:, :60, :80], Grid((60, 80), GRID.affine)), 20.0))
    np.testing.assert_allclose(
        whole.data, VALUES[:, :60, :80].reshape(2, 30, 2, 40, 2).mean((2, 4)), rtol=1e-6
    )
    np.testing.assert_allclose(whole.grid.to_world([0, 0]), GRID.to_world([0.5, 0.5]))


@pytest.mark.parametrize("spacing", [13.0, 25.0, 30.004, 47.5])
def test_a_decimated_plane_stays_where_it_is(spacing):
    """Samples of a plane, averaged over areas, are the plane at the areas' centers."""
    index = np.stack(np.meshgrid(np.arange(83.0), np.arange(61.0)), axis=-1)
    x, y = np.moveaxis(GRID.to_world(index), -1, 0)
    plane = ((x - 400000) * 0.03 + (y - 5800000) * 0.02).astype(np.float32)
    coarse = decimate_data(Image(plane[None], GRID), spacing)
    assert coarse.grid.spacing.max() == pytest.approx(spacing, rel=1e-3)
    block = load_block(coarse)
    rows, cols = coarse.grid.shape
    x, y = np.moveaxis(
        coarse.grid.to_world(np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), -1)), -1, 0
    )
    expected = (x - 400000) * 0.03 + (y - 5800000) * 0.02
    # A sample's value stands for its whole area, so a cut sample weighs as if its middle were kept.
    slack = 0.25 * (0.3 + 0.2)
    inner = (slice(None, -1), slice(None, -1))
    np.testing.assert_allclose(block.data[0][inner], expected[inner], atol=slack)
    assert abs(np.mean(block.data[0][inner] - expected[inner])) < 0.1 * slack


def test_half_of_an_area_must_be_valid():
    mask = np.ones((4, 4), dtype=bool)
    mask[:2, 0] = False
    mask[0:2, 2:4] = [[False, False], [False, True]]
    image = Image(np.arange(16, dtype=np.float32).reshape(1, 4, 4), Grid((4, 4), np.eye(3)), mask)
    coarse = load_block(decimate_data(image, 2.0))
    assert coarse.mask.tolist() == [[True, False], [True, True]]
    assert coarse.data[0].tolist() == [[3.0, 0.0], [10.5, 12.5]]


def test_an_image_coarse_enough_stays_as_it_is():
    assert decimate_data(IMAGE, 10.004) is IMAGE


def _lazy() -> Image:
    class Source:
        shape = VALUES.shape

        def read(self, rows, cols):
            return read_block(IMAGE, rows, cols)

    return Image(Source(), GRID)
