"""What structures say of a fit beyond their overlap, on boxes whose figures are known."""

import numpy as np
import pytest

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.metrics.distances import ErrorScale
from regflow.metrics.overlap import dice
from regflow.metrics.structures import (
    compute_dice_table,
    estimate_dice_noise,
    find_exchanges,
    label_places,
    measure_structures,
)

GRID = Grid.from_geometry((30, 40, 50), (2.0, 2.0, 2.0), (-49.0, -39.0, -29.0))
"""Centered on the origin, 50 samples along x."""
IDENTITY = Affine.identity(3)


def boxes(**corners: tuple[int, int, int]) -> np.ndarray:
    """Return a map with a box of 6 samples a side for each label, ``l3=(z, y, x)`` its first corner."""
    labels = np.zeros(GRID.shape, np.uint8)
    for name, (z, y, x) in corners.items():
        labels[z : z + 6, y : y + 6, x : x + 6] = int(name[1:])
    return labels


SIDES = boxes(l1=(12, 10, 8), l2=(12, 10, 36), l3=(12, 26, 8), l4=(12, 26, 36), l5=(20, 18, 22))
"""Two pairs of sides and a structure in the middle, none at the border."""


def image(labels: np.ndarray, grid: Grid = GRID) -> Image:
    mask = np.zeros(grid.shape, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    return Image(np.zeros((1, *grid.shape), np.float32), grid, mask, labels)


def measure(moving: np.ndarray, fixed: np.ndarray = SIDES, transform: Affine = IDENTITY, grid: Grid = GRID):
    return measure_structures(image(fixed), image(moving, grid), {"end": transform}, surfaces=False)


def recoded(labels: np.ndarray, **codes: int) -> np.ndarray:
    out = labels.copy()
    for name, code in codes.items():
        out[labels == int(name[1:])] = code
    return out


def test_places_are_those_of_boxes():
    found = label_places(SIDES, GRID)
    assert found[1].center == pytest.approx(GRID.to_world([[10.5, 12.5, 14.5]])[0])
    assert found[1].radius_mm == pytest.approx(2 * np.sqrt(3 * (6**2 - 1) / 12))
    assert not found[1].cut
    assert label_places(boxes(l7=(0, 10, 10)), GRID)[7].cut
    assert label_places(np.zeros(GRID.shape, np.uint8), GRID) == {}


def test_the_table_holds_the_dice_of_every_two_labels():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 6, 7, 8))
    rows, columns, scores = compute_dice_table(first, second)
    assert rows.tolist() == columns.tolist() == [1, 2, 3]
    for row in rows:
        for column in columns:
            expected = dice(np.where(first == row, 1, 0), np.where(second == column, 1, 0))[1]
            assert scores[row - 1, column - 1] == pytest.approx(expected)
    high = 1 << 23
    assert compute_dice_table(first * high, second * high)[2] == pytest.approx(scores)


def test_the_right_labels_have_nothing_against_them():
    found = measure(SIDES)
    assert [record["dice"]["end"] for record in found.records] == [1.0] * 5
    assert not any(record["out_of_place"] for record in found.records)
    assert found.exchanged == found.swapped == []
    assert found.only_fixed == found.only_moving == ()


def test_swapped_sides_are_found_in_codes_and_in_a_mirrored_file():
    swapped = recoded(SIDES, l1=2, l2=1, l3=4, l4=3)
    for moving in (swapped, SIDES[:, :, ::-1]):
        found = measure(moving)
        assert [one.label for one in found.swapped] == [1, 2, 3, 4]
        assert {(one.label, one.partner, one.dice, one.dice_exchanged) for one in found.exchanged} == {
            (1, 2, 0.0, 1.0), (2, 1, 0.0, 1.0), (3, 4, 0.0, 1.0), (4, 3, 0.0, 1.0),
        }  # fmt: skip
    assert measure(SIDES[:, :, ::-1]).dice_mirrored == 1.0


def test_front_and_back_exchanged_are_numbered_otherwise_not_swapped_sides():
    found = measure(recoded(SIDES, l1=3, l3=1, l2=4, l4=2))
    assert len(found.exchanged) == 4
    assert found.swapped == []
    others = measure(recoded(SIDES, l1=11, l2=12, l3=13, l4=14, l5=15))
    assert others.records == []
    assert [(one.label, one.partner) for one in others.exchanged] == [(k, k + 10) for k in range(1, 6)]


def test_a_one_sided_structure_in_a_mirrored_file_is_seen_in_the_mirror():
    fixed = boxes(l1=(12, 10, 8))
    found = measure(fixed[:, :, ::-1], fixed)
    assert found.records[0]["dice"]["end"] == 0
    assert found.dice_mirrored == 1.0


def test_labels_of_one_map_are_named_and_not_compared():
    found = measure(np.where(np.isin(SIDES, (1, 2)), SIDES, boxes(l9=(4, 4, 4))))
    assert [record["label"] for record in found.records] == [1, 2]
    assert found.only_fixed == (3, 4, 5)
    assert found.only_moving == (9,)


def test_out_of_place_is_beyond_a_voxel_the_structures_size_and_a_part_of_the_objects():
    extent = ErrorScale.from_images(image(SIDES), image(SIDES))
    assert extent.spacing_mm == 2.0
    assert extent.radius_mm == pytest.approx((26 * 36 * 46 * 8 * 0.75 / np.pi) ** (1 / 3))
    radius = label_places(SIDES, GRID)[1].radius_mm
    assert 0.08 * extent.radius_mm + 2.0 < radius < 6.0
    for shift, expected in ((4.0, False), (8.0, True)):
        moved = Affine.from_parts(np.eye(3), (0.0, shift, 0.0))
        found = measure(SIDES, transform=moved)
        assert [record["out_of_place"] for record in found.records] == [expected] * 5


def test_what_the_moving_field_of_view_does_not_hold_is_marked():
    part = Grid.from_geometry((30, 40, 20), (2.0, 2.0, 2.0), (-49.0, -39.0, -29.0))
    found = measure(SIDES[:, :, :20], grid=part)
    assert [record["label"] for record in found.records] == [1, 3]
    cut = Grid.from_geometry((30, 40, 38), (2.0, 2.0, 2.0), (-49.0, -39.0, -29.0))
    seen = {record["label"]: record["seen"] for record in measure(SIDES[:, :, :38], grid=cut).records}
    assert seen == pytest.approx({1: 1.0, 2: 1 / 3, 3: 1.0, 4: 1 / 3, 5: 1.0})


def test_empty_maps_compare_nothing():
    empty = np.zeros(GRID.shape, np.uint8)
    assert find_exchanges(empty, SIDES) == []
    found = measure(empty)
    assert (found.records, found.only_fixed) == ([], (1, 2, 3, 4, 5))


def test_chance_counts_less_the_more_samples_and_structures():
    assert estimate_dice_noise([100]) == pytest.approx(0.1)
    assert estimate_dice_noise([100] * 4) == pytest.approx(0.05)
    assert estimate_dice_noise([10_000]) == pytest.approx(0.01)
