"""What a network is shown: blocks as channels, and evidence of where neighborhoods match."""

from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional

from regflow.core.devices import limit_numba_threads
from regflow.methods.matching import matching_cpu, matching_torch
from regflow.methods.matching.matching_torch import count_evidence_channels
from regflow.methods.refine.network import fold_blocks
from regflow.training.deformations import draw_smooth_noise


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_folding_keeps_every_sample_and_can_be_undone(factor: int) -> None:
    image = torch.rand(2, 1, 12, 18)
    coarse = fold_blocks(image, factor)
    assert coarse.shape == (2, factor**2, 12 // factor, 18 // factor)
    assert torch.equal(functional.pixel_shuffle(coarse, factor), image)


def test_a_block_of_a_volume_becomes_channels_in_array_order() -> None:
    image = torch.rand(1, 1, 4, 6, 8)
    coarse = fold_blocks(image, 2)
    for number in range(8):
        z, y, x = number >> 2, number >> 1 & 1, number & 1
        assert torch.equal(coarse[0, number], image[0, 0, z::2, y::2, x::2])


@pytest.mark.parametrize("matching", [matching_cpu, matching_torch])
@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (1, 1), (0, 0, 1), (-1, 1, 0)])
def test_evidence_finds_a_shift_between_inverted_contrasts(
    shift: tuple[int, ...], matching: ModuleType
) -> None:
    shape = (48,) * len(shift) if len(shift) == 2 else (32,) * 3
    image = torch.from_numpy(draw_smooth_noise(shape, 4.0, np.random.default_rng(0)))[None, None]
    # A sample of the coarse grid is two of the image.
    moved = 1 - torch.roll(image, [2 * step for step in shift], dims=list(range(2, image.ndim)))
    descriptors = [matching.compute_coarse_descriptors(each, 2) for each in (image, moved)]
    evidence = matching.compute_matching_evidence(*descriptors, search=1)
    assert evidence.shape[1] == count_evidence_channels(len(shift))
    inner = evidence[(slice(None), slice(None), *[slice(3, -3)] * len(shift))]
    for axis, step in enumerate(shift):
        assert (inner[:, axis] - step).abs().mean() < 0.1
    assert (inner[:, len(shift)] > 0).all()


@pytest.mark.parametrize("matching", [matching_cpu, matching_torch])
@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (0, 0, 1), (-1, 0, 0)])
def test_fine_evidence_finds_a_shift_that_the_coarse_grid_does_not_hold(
    shift: tuple[int, ...], matching: ModuleType
) -> None:
    shape = (48,) * len(shift) if len(shift) == 2 else (32,) * 3
    image = torch.from_numpy(draw_smooth_noise(shape, 4.0, np.random.default_rng(0)))[None, None]
    moved = 1 - torch.roll(image, list(shift), dims=list(range(2, image.ndim)))
    descriptors = [matching.compute_coarse_descriptors(each, 1) for each in (image, moved)]
    evidence = matching.compute_matching_evidence(*descriptors, search=1, factor=2)
    assert evidence.shape[2:] == tuple(count // 2 for count in shape)
    inner = evidence[(slice(None), slice(None), *[slice(3, -3)] * len(shift))]
    for axis, step in enumerate(shift):
        assert (inner[:, axis] - step / 2).abs().mean() < 0.05


@pytest.mark.parametrize("matching", [matching_cpu, matching_torch])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 16)])
def test_constant_images_are_no_evidence_and_no_nan(shape: tuple[int, ...], matching: ModuleType) -> None:
    flat = matching.compute_coarse_descriptors(torch.full((1, 1, *shape), 0.5), 2)
    evidence = matching.compute_matching_evidence(flat, flat, search=1)
    assert torch.isfinite(evidence).all()
    assert evidence.abs().max() < 1e-3


@pytest.fixture(autouse=True)
def same_images_at_every_run() -> None:
    """Of a few random samples some are so alike that rounding shows: what is drawn must not vary."""
    torch.manual_seed(0)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("shape", [(14, 22), (2, 8), (10, 14, 18), (6, 8, 6)])
def test_the_cpu_kernels_compute_what_torch_computes(shape: tuple[int, ...], factor: int) -> None:
    images = torch.rand(2, 2, 1, *shape)
    described = [
        [torch.cat([m.compute_coarse_descriptors(one, factor) for one in image.split(1)]) for image in images]
        for m in (matching_cpu, matching_torch)
    ]
    for ours, theirs in zip(*described, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    if min(described[0][0].shape[2:]) < 2:
        return
    for search, blocks in ((1, 1), (2, 1), (1, 2)):
        if any(count % blocks for count in described[0][0].shape[2:]):
            continue
        found, expected = (
            m.compute_matching_evidence(*described[0], search, blocks) for m in (matching_cpu, matching_torch)
        )
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_evidence_has_the_same_bytes_whatever_the_number_of_threads() -> None:
    image = torch.rand(2, 1, 18, 20, 22)
    found = []
    for count in (1, 2):
        with limit_numba_threads(count):
            described = [matching_cpu.compute_coarse_descriptors(one, 1) for one in image.split(1)]
            found.append(matching_cpu.compute_matching_evidence(*described, 1, 2))
    assert torch.equal(*found)
