"""What a network is shown: blocks as channels, and evidence of where neighborhoods match."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from regflow.methods.refine.matching_torch import (
    channels_of_evidence,
    coarse_descriptors,
    matching_evidence,
)
from regflow.methods.refine.network import folded
from regflow.training.deformations import smooth_noise


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_folding_keeps_every_sample_and_can_be_undone(factor: int) -> None:
    image = torch.rand(2, 1, 12, 18)
    coarse = folded(image, factor)
    assert coarse.shape == (2, factor**2, 12 // factor, 18 // factor)
    assert torch.equal(functional.pixel_shuffle(coarse, factor), image)


def test_a_block_of_a_volume_becomes_channels_in_array_order() -> None:
    image = torch.rand(1, 1, 4, 6, 8)
    coarse = folded(image, 2)
    for number in range(8):
        z, y, x = number >> 2, number >> 1 & 1, number & 1
        assert torch.equal(coarse[0, number], image[0, 0, z::2, y::2, x::2])


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (1, 1), (0, 0, 1), (-1, 1, 0)])
def test_evidence_finds_a_shift_between_inverted_contrasts(shift: tuple[int, ...]) -> None:
    shape = (48,) * len(shift) if len(shift) == 2 else (32,) * 3
    image = torch.from_numpy(smooth_noise(shape, 4.0, np.random.default_rng(0)))[None, None]
    # A sample of the coarse grid is two of the image.
    moved = 1 - torch.roll(image, [2 * step for step in shift], dims=list(range(2, image.ndim)))
    descriptors = [coarse_descriptors(each, 2) for each in (image, moved)]
    evidence = matching_evidence(*descriptors, search=1)
    assert evidence.shape[1] == channels_of_evidence(len(shift))
    inner = evidence[(slice(None), slice(None), *[slice(3, -3)] * len(shift))]
    for axis, step in enumerate(shift):
        assert (inner[:, axis] - step).abs().mean() < 0.1
    assert (inner[:, len(shift)] > 0).all()


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (0, 0, 1), (-1, 0, 0)])
def test_fine_evidence_finds_a_shift_that_the_coarse_grid_does_not_hold(shift: tuple[int, ...]) -> None:
    shape = (48,) * len(shift) if len(shift) == 2 else (32,) * 3
    image = torch.from_numpy(smooth_noise(shape, 4.0, np.random.default_rng(0)))[None, None]
    moved = 1 - torch.roll(image, list(shift), dims=list(range(2, image.ndim)))
    descriptors = [coarse_descriptors(each, 1) for each in (image, moved)]
    evidence = matching_evidence(*descriptors, search=1, factor=2)
    assert evidence.shape[2:] == tuple(count // 2 for count in shape)
    inner = evidence[(slice(None), slice(None), *[slice(3, -3)] * len(shift))]
    for axis, step in enumerate(shift):
        assert (inner[:, axis] - step / 2).abs().mean() < 0.05


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 16)])
def test_constant_images_are_no_evidence_and_no_nan(shape: tuple[int, ...]) -> None:
    flat = coarse_descriptors(torch.full((1, 1, *shape), 0.5), 2)
    evidence = matching_evidence(flat, flat, search=1)
    assert torch.isfinite(evidence).all()
    assert evidence.abs().max() < 1e-3
