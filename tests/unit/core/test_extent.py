"""Nothing depends on how many millimeters an object measures: a mouse and a whale are prepared as a man."""

from dataclasses import replace

import numpy as np
import pytest

from regflow.core.extent import measure_ball_diameter, measure_longest_side, resolve_length
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmarks import Landmarks
from regflow.core.plausibility import check_landmark_places
from regflow.core.resample import coarsen_image
from regflow.methods.context import RunContext
from regflow.methods.preprocess import MASKS, load_filter
from regflow.methods.preprocess.masks import foreground, measure_object_size
from regflow.methods.refine.voxelmorph import USUAL_ACROSS, measure_world_unit
from regflow.stages.volumes.preprocess import prepare_volume

FACTORS = (1 / 40, 1.0, 30.0)
"""From a mouse's brain to a whale's head."""


def enlarged(image: Image, factor: float) -> Image:
    return replace(image, grid=Grid(image.grid.shape, np.diag([factor] * 3 + [1.0]) @ image.grid.affine))


@pytest.fixture(scope="module")
def noisy_head(mni_3mm):
    """A brain in noisy air, which only a threshold parts."""
    noise = np.random.default_rng(0).rayleigh(0.03, mni_3mm.grid.shape) * mni_3mm.channel.max()
    return Image((mni_3mm.channel + noise.astype(np.float32))[None], mni_3mm.grid, modality="T1w")


def test_a_ball_is_as_large_as_its_mask():
    grid = Grid.from_geometry((40, 60, 80), (0.5, 0.75, 1.5), (0, 0, 0))
    middle = grid.center
    places = grid.to_world(np.moveaxis(np.indices(grid.shape)[::-1], 0, -1))
    ball = np.linalg.norm(places - middle, axis=-1) < 15
    assert measure_ball_diameter(ball, grid) == pytest.approx(30, rel=0.01)
    assert measure_longest_side(grid) == 60
    flat = Grid.from_geometry((40, 60), (2.0, 1.0), (0, 0))
    assert measure_ball_diameter(None, flat) == pytest.approx(2 * np.sqrt(40 * 60 * 2 / np.pi))
    assert (resolve_length(None, 0.02, 200.0), resolve_length(3, 0.02, 200.0)) == (4.0, 3.0)


def test_the_mask_of_an_object_is_the_same_at_any_size(noisy_head, mni_3mm):
    options = MASKS["foreground"].complete({})
    masks = [foreground(enlarged(noisy_head, factor), None, options, RunContext()).mask for factor in FACTORS]
    overlap = 2 * (masks[1] & mni_3mm.mask).sum() / (masks[1].sum() + mni_3mm.mask.sum())
    assert overlap > 0.93
    for mask in masks:
        assert (mask != masks[1]).mean() < 1e-4


@pytest.mark.parametrize("factor", FACTORS)
def test_the_size_of_an_object_is_told_without_a_mask(noisy_head, mni_3mm, factor):
    true = measure_ball_diameter(mni_3mm.mask, mni_3mm.grid) * factor
    assert measure_object_size(enlarged(noisy_head, factor)) == pytest.approx(true, rel=0.08)


@pytest.mark.parametrize("factor", [1 / 40, 30.0])
def test_a_bias_field_and_intensities_are_the_same_at_any_size(mni_4mm, factor):
    short = {"bias": {"options": {"n4": {"iterations": [5]}}}}
    usual, scaled = (prepare_volume(enlarged(mni_4mm, size), short)[0] for size in (1.0, factor))
    assert np.allclose(scaled.channel, usual.channel, atol=2e-3)


@pytest.mark.slow
def test_an_atlas_mask_is_the_same_at_any_size(mni_4mm, colin_4mm):
    carry, options = load_filter("mask", "atlas"), MASKS["atlas"].complete({})
    found = [
        carry(enlarged(colin_4mm, size), enlarged(mni_4mm, size), options, RunContext()).mask
        for size in (1.0, 1 / 40)
    ]
    assert 2 * (found[0] & found[1]).sum() / (found[0].sum() + found[1].sum()) > 0.99


def test_landmarks_of_a_small_object_are_plausible(mni_4mm):
    small = enlarged(coarsen_image(mni_4mm, 8.0), 1 / 400).grid
    points = small.center + np.array([[0.1, 0, 0], [-0.1, 0.05, 0], [0, -0.1, 0.1], [0.05, 0.1, -0.1]])
    assert check_landmark_places(Landmarks(tuple("abcd"), points), small) is None
    outside = small.center + np.array([[0.0, 0, 0], [0, 0, measure_longest_side(small)]])
    assert "lie outside the image" in check_landmark_places(Landmarks(("a", "b"), outside), small)


def test_a_network_sees_objects_of_other_sizes_as_large_as_it_knows(mni_4mm):
    assert measure_world_unit(mni_4mm, 2.0) == 1.0
    for factor in (1 / 40, 30.0):
        large = enlarged(mni_4mm, factor)
        sides = np.ptp(np.argwhere(large.mask), axis=0) + 1
        seen = (sides[::-1] * large.grid.spacing).max() / (2.0 * measure_world_unit(large, 2.0))
        assert seen == pytest.approx(USUAL_ACROSS)
