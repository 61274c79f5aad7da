"""Dissimilarities and regularizers: gradients by finite differences, known values, traps avoided."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_bytes import across_threads

from regflow.core.image import Image
from regflow.methods.matching.self_similarity_torch import compute_mind
from regflow.methods.refine import losses_torch as losses

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def brain(image: Image, *cut: slice) -> Tensor:
    data = image.channel[cut] / image.channel.max()
    return torch.tensor(data[None, None].copy(), dtype=torch.float32)


@pytest.fixture
def slab(mni_4mm: Image) -> Tensor:
    return brain(mni_4mm, slice(14, 34), slice(12, 40), slice(12, 36))


LOSSES: dict[str, Loss] = {
    "mse": losses.compute_mean_squared_error,
    "lncc": lambda f, w, m: losses.compute_local_correlation(f, w, m, radius=2),
    "lncc signed": lambda f, w, m: losses.compute_local_correlation(f, w, m, radius=2, signed=True),
    "mi": lambda f, w, m: losses.compute_mutual_information(f, w, m, bins=16, ranges=((0, 1), (0, 1))),
    "mind": losses.compute_mind_difference,
    "dice": losses.compute_label_overlap,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_gradient_agrees_with_finite_differences(name: str, masked: bool, ndim: int) -> None:
    generator = torch.Generator().manual_seed(5)
    shape = (1, 1, 6, 7, 5)[: 2 + ndim]
    fixed, warped = (torch.rand(shape, generator=generator, dtype=torch.float64) * 0.9 for _ in range(2))
    mask = (torch.rand(shape, generator=generator) > 0.3).double() if masked else None
    variable = warped.clone().requires_grad_()
    LOSSES[name](fixed, variable, mask).backward()
    assert variable.grad is not None
    direction = torch.randn(shape, generator=generator, dtype=torch.float64)
    step = 1e-5
    rise = LOSSES[name](fixed, warped + step * direction, mask) - LOSSES[name](
        fixed, warped - step * direction, mask
    )
    slope = float((variable.grad * direction).sum())
    assert slope != 0
    assert float(rise) / (2 * step) == pytest.approx(slope, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_every_dissimilarity_is_lowest_for_the_same_image(name: str, slab: Tensor) -> None:
    shifted = torch.roll(slab, 2, dims=3)
    mask = (slab > 0.02).float()
    assert LOSSES[name](slab, slab, mask) < LOSSES[name](slab, shifted, mask)


@pytest.mark.parametrize("signed", [False, True])
def test_two_constant_images_have_a_local_correlation_of_none(signed: bool) -> None:
    flat, warped = torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 12, requires_grad=True)
    loss = losses.compute_local_correlation(flat, warped, signed=signed)
    loss.backward()
    assert float(loss) == 1
    assert warped.grad is not None
    assert bool(warped.grad.isfinite().all())


def test_local_correlation_equals_a_direct_sum_over_windows() -> None:
    # At the border the window has fewer samples; zeros standing in for the missing ones would show.
    rng = np.random.default_rng(0)
    fixed, warped = rng.random((2, 9, 8)) + 5.0
    mask = rng.random((9, 8)) > 0.2
    radius, total, floor_f, floor_w = (
        2,
        0.0,
        *(losses.VARIANCE_FLOOR * np.var(a[mask]) for a in (fixed, warped)),
    )
    for row, column in np.argwhere(mask):
        window = np.s_[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
        a, b = fixed[window][mask[window]], warped[window][mask[window]]
        covariance = np.mean((a - a.mean()) * (b - b.mean()))
        total += covariance**2 / ((a.var() + floor_f) * (b.var() + floor_w))
    given = [torch.tensor(x[None, None], dtype=torch.float32) for x in (fixed, warped, mask)]
    assert float(losses.compute_local_correlation(*given, radius=radius)) == pytest.approx(
        1 - total / mask.sum(), abs=1e-4
    )


def test_signed_correlation_tells_an_inverted_image(slab: Tensor) -> None:
    mask = (slab > 0.02).float()
    assert float(losses.compute_local_correlation(slab, 1 - slab, mask, 2)) < 0.1
    assert float(losses.compute_local_correlation(slab, 1 - slab, mask, 2, signed=True)) > 1.9


def test_what_lies_outside_the_mask_does_not_count(slab: Tensor) -> None:
    mask = torch.zeros_like(slab)
    mask[..., 4:14] = 1
    other = torch.where(mask > 0, torch.roll(slab, 1, 3), torch.rand_like(slab))
    same = torch.where(mask > 0, torch.roll(slab, 1, 3), torch.zeros_like(slab))
    for name in ("mse", "lncc", "lncc signed", "mi", "dice"):
        assert float(LOSSES[name](slab, other, mask)) == pytest.approx(
            float(LOSSES[name](slab, same, mask)), rel=1e-5
        ), name


def test_mutual_information_of_an_image_with_itself_is_near_its_entropy() -> None:
    # Four equally frequent gray levels: log 4 nats, above 1, where a clamp to [0, 1] would stop.
    levels = torch.arange(4.0).repeat(2500).view(1, 1, 100, 100)
    information = -float(losses.compute_mutual_information(levels, levels, bins=48))
    assert information == pytest.approx(math.log(4), rel=0.01)
    shuffled = levels.flatten()[torch.randperm(10000, generator=torch.Generator().manual_seed(0))]
    assert -float(losses.compute_mutual_information(levels, shuffled.view_as(levels), bins=48)) < 0.01


def test_mutual_information_refuses_several_channels() -> None:
    with pytest.raises(ValueError, match="one channel"):
        losses.compute_mutual_information(torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8))


def test_mutual_information_in_chunks_equals_the_whole(slab: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def both() -> tuple[float, Tensor]:
        warped = torch.roll(slab, 1, 2).requires_grad_()
        value = losses.compute_mutual_information(slab, warped)
        value.backward()
        assert warped.grad is not None
        return float(value.detach()), warped.grad

    whole = both()
    monkeypatch.setattr(losses, "PARZEN_CHUNK", 1000)
    parts = both()
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    torch.testing.assert_close(parts[1], whole[1])


@pytest.mark.parametrize("ndim", [2, 3])
def test_mind_ignores_how_intensity_is_drawn(ndim: int, slab: Tensor) -> None:
    image = slab if ndim == 3 else slab[:, :, 10]
    channels = compute_mind(image)
    assert channels.shape[1] == (12 if ndim == 3 else 4)
    assert 0 <= float(channels.min()) <= float(channels.max()) == 1
    inverted = compute_mind(3 - 2 * image)
    torch.testing.assert_close(inverted, channels, rtol=1e-3, atol=1e-3)


def test_dice_of_half_overlapping_blocks() -> None:
    fixed, warped = torch.zeros(2, 1, 2, 8, 8).unbind(0)
    fixed[:, 0, :4], warped[:, 0, 2:6] = 1, 1
    # The second label is nowhere: it counts neither for nor against.
    assert float(losses.compute_label_overlap(fixed, warped)) == pytest.approx(0.5)


def polynomial(
    shape: tuple[int, ...], spacing: tuple[float, ...], expression: Callable[..., np.ndarray]
) -> Tensor:
    """A field whose first component, in mm, is a polynomial of the place in mm; others zero."""
    axes = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    field = np.zeros((1, len(shape), *shape))
    field[0, 0] = expression(*axes) / spacing[0]
    return torch.tensor(field)


def test_bending_and_diffusion_are_in_millimeters() -> None:
    shape, spacing = (6, 7, 8), (3.0, 2.0, 0.5)
    # u = z^2 / 2 + y x: second derivatives u_zz = 1 and u_yx = 1 (counted twice).
    curved = polynomial(shape, spacing, lambda z, y, x: z**2 / 2 + y * x)
    assert float(losses.compute_bending(curved, spacing)) == pytest.approx(1 + 2)
    # u = 0.3 z - 0.2 x: squared gradient 0.09 + 0.04, no bending.
    linear = polynomial(shape, spacing, lambda z, y, x: 0.3 * z - 0.2 * x)
    assert float(losses.compute_diffusion(linear, spacing)) == pytest.approx(0.13)
    assert float(losses.compute_bending(linear, spacing)) == pytest.approx(0, abs=1e-9)
    flat = polynomial((6, 7), (3.0, 2.0), lambda z, y: z**2 / 2 + z * y)
    assert float(losses.compute_bending(flat, (3.0, 2.0))) == pytest.approx(3)


@pytest.mark.parametrize("name", LOSSES)
def test_bytes_do_not_depend_on_threads(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    fixed, warped = torch.rand(2, 1, 1, 50, 60, 44, generator=generator).unbind(0)
    mask = (fixed > 0.1).float()

    def work() -> list[Tensor]:
        variable = warped.clone().requires_grad_()
        value = LOSSES[name](fixed, variable, mask)
        value.backward()
        assert variable.grad is not None
        return [value.detach(), variable.grad]

    assert len(across_threads(work)) == 1


def test_mind_of_a_batch_is_that_of_each_image(slab: Tensor) -> None:
    other = 5 * slab.flip(2) ** 2
    both = compute_mind(torch.cat([slab, other]))
    torch.testing.assert_close(both[:1], compute_mind(slab))
    torch.testing.assert_close(both[1:], compute_mind(other))
