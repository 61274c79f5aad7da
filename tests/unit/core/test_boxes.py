"""Boxes around masks, and images cut to them."""

import numpy as np
import pytest

from regflow.core.boxes import crop_image, find_bounding_box, measure_margins
from regflow.core.grid import Grid
from regflow.core.image import Image


def mask_of_one_block() -> np.ndarray:
    mask = np.zeros((9, 12, 15), bool)
    mask[2:5, 0:3, 10:14] = True
    return mask


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (0, (slice(2, 5), slice(0, 3), slice(10, 14))),
        (2, (slice(0, 7), slice(0, 5), slice(8, 15))),
        ([1, 0, 3], (slice(1, 6), slice(0, 3), slice(7, 15))),
    ],
)
def test_a_box_holds_the_mask_and_its_margin(margin: int | list[int], expected: tuple[slice, ...]) -> None:
    assert find_bounding_box(mask_of_one_block(), margin) == expected


def test_a_cut_image_lies_where_it_lay_and_is_completed_by_what_is_around() -> None:
    mask = mask_of_one_block()
    data = np.random.default_rng(0).random((1, *mask.shape), dtype=np.float32)
    image = Image(data, Grid.from_geometry(mask.shape, (2.0, 1.0, 3.0), (5.0, -7.0, 11.0)), mask)
    box = find_bounding_box(mask, 1)
    part = crop_image(image, box)
    assert part.mask is not None
    assert part.mask.sum() == mask.sum()
    zyx = np.argwhere(part.mask)
    world = part.grid.to_world(zyx[:, ::-1])
    there = np.rint(image.grid.to_index(world)).astype(int)
    np.testing.assert_array_equal(there[:, ::-1], np.argwhere(mask))
    np.testing.assert_array_equal(image.data[0][tuple(there.T[::-1])], part.data[0][tuple(zyx.T)])
    filled = np.pad(part.data[0], measure_margins(box, mask.shape))
    np.testing.assert_array_equal(filled[box], data[0][box])
    assert filled.shape == mask.shape
