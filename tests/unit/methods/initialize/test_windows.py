"""Windows that look for their partners: which agree, and what points unlike their neighbors are."""

import numpy as np
import pytest

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.features.keypoints import Keypoints
from regflow.methods.initialize.features.matching import pair_keypoints
from regflow.methods.initialize.windows import _neg_log10_p, find_consistent_windows, place_windows
from regflow.methods.matching.neighbors import normalized_median_test
from regflow.methods.refine.greedy import _box

LATTICE = np.stack(np.meshgrid(np.arange(8.0), np.arange(6.0)), axis=-1).reshape(-1, 2) * 20


def test_windows_that_move_like_their_neighbors_agree():
    shifts = np.tile([3.0, -2.0], (len(LATTICE), 1))
    assert find_consistent_windows(LATTICE, shifts).all()
    shifts[[9, 30]] += [[1.4, 0.0], [0.0, 1.6]]
    assert np.flatnonzero(~find_consistent_windows(LATTICE, shifts)).tolist() == [30]
    assert not find_consistent_windows(LATTICE[:3], shifts[:3]).any()


def test_surprise_is_chernoffs_bound():
    assert _neg_log10_p(3, 30, 0.1) == 0
    assert _neg_log10_p(30, 30, 0.1) == pytest.approx(30)
    half = 30 * (0.5 * np.log10(5) + 0.5 * np.log10(0.5 / 0.9))
    assert _neg_log10_p(15, 30, 0.1) == pytest.approx(half)


def test_windows_begin_where_enough_is_valid():
    valid = np.zeros((40, 60), bool)
    valid[:, 30:] = True
    starts, step = place_windows(valid, 10, 400, 0.6)
    counts = [valid[row : row + 10, col : col + 10].sum() for row, col in starts]
    assert min(counts) >= 60
    assert step == pytest.approx(2.5)
    assert starts.max(axis=0).tolist() == [30, 50]
    assert len(place_windows(valid, 41, 400, 0.6)[0]) == 0


def test_a_displacement_unlike_its_neighbors_is_told_also_on_a_slope():
    rng = np.random.default_rng(0)
    slope = LATTICE @ np.array([[0.02, -0.01], [0.03, 0.01]]) + rng.normal(0, 0.02, LATTICE.shape)
    assert not normalized_median_test(LATTICE, slope).any()
    slope[20] += [1.0, 0.0]
    # Even beside another wrong one: medians do not follow it.
    slope[21] += [0.0, -6.0]
    assert np.flatnonzero(normalized_median_test(LATTICE, slope)).tolist() == [20, 21]
    assert not normalized_median_test(LATTICE[:5], slope[:5] * 100).any()


def test_partners_are_each_others_nearest_and_clearly_so():
    here = np.array([[0.0, 0], [10, 0], [0, 10], [50, 50]], np.float32)
    there = np.array([[10.0, 1], [0, 1], [0, 9], [0, 11.5], [40, 40], [40, 61]], np.float32)
    points = np.zeros((6, 2))
    found = pair_keypoints(Keypoints(points[:4], here), Keypoints(points, there), 0.8)
    assert found.tolist() == [[0, 1], [1, 0], [2, 2]]
    loose = pair_keypoints(Keypoints(points[:4], here), Keypoints(points, there), 0.97)
    assert loose.tolist() == [[0, 1], [1, 0], [2, 2], [3, 4]]
    strict = pair_keypoints(Keypoints(points[:4], here), Keypoints(points, there), 0.3)
    assert strict.tolist() == [[0, 1], [1, 0]]
    assert pair_keypoints(Keypoints(points[:1], here[:1]), Keypoints(points, there), 0.8).shape == (0, 2)


@pytest.mark.parametrize(
    ("masks", "held", "whole"), [("auto", True, False), ("none", True, True), ("auto", False, True)]
)
def test_the_greedy_engine_looks_at_the_mask_and_a_margin(masks, held, whole):
    grid = Grid.from_geometry((60, 60, 60), (1.0, 1.0, 2.0), (0, 0, 0))
    mask = np.zeros(grid.shape, bool)
    mask[30, 30, 30] = held
    box = _box(Image(np.zeros((1, *grid.shape)), grid, mask), {"masks": masks, "margin": 4})
    assert [part.start <= 30 < part.stop for part in box] == [True] * 3
    assert (box == tuple(slice(0, 60) for _ in range(3))) == whole
    if not whole:
        assert box[1] == box[2]
        assert box[0].stop - box[0].start < box[1].stop - box[1].start
    bare = Image(np.zeros((1, *grid.shape)), grid)
    assert _box(bare, {"masks": "auto", "margin": 4}) == tuple(slice(0, 60) for _ in range(3))
