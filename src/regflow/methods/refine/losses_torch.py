"""Differentiable dissimilarities and regularizers in torch, in two and three dimensions.

Images are ``(N, C, *shape)``; a mask is ``(N, 1, *shape)`` weights from 0 to 1, or None for all
ones. Every dissimilarity is a scalar, lower is better. Sums run along rows first, so that a value
does not depend on the number of threads, and every backward pass is deterministic on a GPU too.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from regflow.methods.matching.self_similarity_torch import compute_mind, sum_box, sum_over_space

VARIANCE_FLOOR = 1e-4
"""Part of an image's own variance that is added to every local one: flat windows say nothing."""
PARZEN_CHUNK = 1 << 20
"""Samples whose Parzen weights are held at once; bounds the memory of mutual information."""


def compute_mean_squared_error(fixed: Tensor, warped: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared difference inside the mask."""
    return _masked_mean((fixed - warped).square(), mask)


def compute_local_correlation(
    fixed: Tensor, warped: Tensor, mask: Tensor | None = None, radius: int = 4, signed: bool = False
) -> Tensor:
    """Return one minus the mean local normalized cross-correlation (Avants et al., 2008).

    Local sums run over a box of ``2 radius + 1`` samples, over its samples inside the image and the
    mask only, and are divided by their true count.

    Args:
        fixed: ``(N, C, *shape)``.
        warped: of the same shape.
        mask: what may enter the sums.
        radius: of the box.
        signed: tell positive from negative correlation: 0 to 2. Otherwise the squared
            correlation is used, 0 to 1, and an inverted contrast is as good as the same one.
    """
    weight = torch.ones_like(fixed[:, :1]) if mask is None else mask.to(fixed.dtype)
    fixed, warped = _centered(fixed, weight), _centered(warped, weight)
    count = sum_box(weight, radius).clamp(min=torch.finfo(torch.float32).tiny)

    def local_mean(values: Tensor) -> Tensor:
        return sum_box(values * weight, radius) / count

    mean_f, mean_w = local_mean(fixed), local_mean(warped)
    covariance = local_mean(fixed * warped) - mean_f * mean_w
    variance_f = (local_mean(fixed.square()) - mean_f.square()).clamp(min=0) + _floor(fixed, weight)
    variance_w = (local_mean(warped.square()) - mean_w.square()).clamp(min=0) + _floor(warped, weight)
    if signed:
        correlation = covariance / (variance_f * variance_w).sqrt()
    else:
        correlation = covariance.square() / (variance_f * variance_w)
    return 1 - _masked_mean(correlation, weight)


def compute_mutual_information(
    fixed: Tensor,
    warped: Tensor,
    mask: Tensor | None = None,
    bins: int = 32,
    ranges: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Tensor:
    """Return minus the mutual information in nats, for one channel (Mattes et al., 2003).

    The warped image's intensities are spread over bins by cubic B-splines, the fixed image's fall
    into one bin each. Memory grows with the number of samples, not with samples times bins.

    Args:
        fixed: ``(1, 1, *shape)``; no gradient flows to it.
        warped: of the same shape.
        mask: samples that count.
        bins: of each image.
        ranges: lowest and highest intensity of the fixed and of the moving image; those of the
            given samples when None. Give them when the warped image changes from call to call.

    Raises:
        ValueError: more than one channel.
    """
    if fixed.shape[1] != 1:
        raise ValueError("mutual information compares images of one channel")
    weight = torch.ones_like(fixed) if mask is None else mask.to(fixed.dtype)
    used = weight.flatten() > 0
    ranges = ranges or (_extremes(fixed.flatten()[used]), _extremes(warped.detach().flatten()[used]))
    return -_ParzenInformation.apply(fixed, warped, weight, bins, ranges)


def compute_mind_difference(
    fixed: Tensor, warped: Tensor, mask: Tensor | None = None, radius: int = 1, dilation: int = 2
) -> Tensor:
    """Return the mean squared difference of the MIND-SSC descriptors of two images."""
    return compute_mean_squared_error(
        compute_mind(fixed, radius, dilation), compute_mind(warped, radius, dilation), mask
    )


def compute_label_overlap(fixed: Tensor, warped: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return one minus the mean soft Dice over labels (Milletari et al., 2016).

    Args:
        fixed: ``(N, labels, *shape)``, the part of each sample that bears each label, 0 to 1.
        warped: of the same shape.
        mask: samples that count.
    """
    weight = torch.ones_like(fixed[:, :1]) if mask is None else mask.to(fixed.dtype)
    tiny = torch.finfo(torch.float32).tiny
    common = sum_over_space(fixed * warped * weight)
    sizes = sum_over_space((fixed.square() + warped.square()) * weight)
    present = (sizes > tiny).to(fixed.dtype)
    dice = 2 * common / sizes.clamp(min=tiny)
    return 1 - (dice * present).sum() / present.sum().clamp(min=1)


def compute_bending(field: Tensor, spacing: Sequence[float]) -> Tensor:
    """Return the mean bending energy of a field, in 1 / mm^2 (Rueckert et al., 1999).

    Args:
        field: ``(N, d, *shape)`` in voxels, array order.
        spacing: millimeters per sample along each axis, array order.
    """
    millimeters = _in_millimeters(field, spacing)
    axes = range(2, field.ndim)
    energy = torch.zeros((), dtype=field.dtype, device=field.device)
    for axis in axes:
        if field.shape[axis] > 2:
            curve = _second_difference(millimeters, axis) / spacing[axis - 2] ** 2
            energy = energy + _per_sample(curve)
    for a, b in combinations(axes, 2):
        twist = _difference(_difference(millimeters, a), b) / (spacing[a - 2] * spacing[b - 2])
        energy = energy + 2 * _per_sample(twist)
    return energy


def compute_diffusion(field: Tensor, spacing: Sequence[float]) -> Tensor:
    """Return a field's mean squared gradient, mm per mm squared; arguments of :func:`compute_bending`."""
    millimeters = _in_millimeters(field, spacing)
    energy = torch.zeros((), dtype=field.dtype, device=field.device)
    for axis in range(2, field.ndim):
        energy = energy + _per_sample(_difference(millimeters, axis) / spacing[axis - 2])
    return energy


class _ParzenInformation(torch.autograd.Function):
    """Mutual information; the gradient costs one pass more and no memory for the histogram's graph."""

    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, warped: Tensor, weight: Tensor, bins: int, ranges: Sequence[Any]
    ) -> Tensor:
        rows = _bin_positions(fixed.flatten(), ranges[0], bins)[0].round().long()
        columns, scale, inside = _bin_positions(warped.flatten(), ranges[1], bins)
        flat = weight.flatten()
        joint = torch.zeros(bins * bins, dtype=torch.float64, device=fixed.device)
        for part in _chunks(flat.numel()):
            for index, spline, _ in _parzen(rows[part], columns[part], bins):
                joint.index_add_(0, index, (spline * flat[part]).double())
        total = joint.sum().clamp(min=torch.finfo(torch.float64).tiny)
        joint = (joint / total).view(bins, bins)
        independent = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
        ratio = torch.where(joint > 0, joint / independent.clamp(min=1e-300), 1.0).log()
        ctx.save_for_backward(rows, columns, flat * inside * (scale / float(total)), ratio)
        ctx.shape = warped.shape
        return (joint * ratio).sum().to(fixed.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None, None]:
        rows, columns, weight, ratio = ctx.saved_tensors
        bins = ratio.shape[0]
        # The marginals' own terms cancel: the joint histogram keeps its sum and its row sums.
        potential = ratio.flatten().to(weight.dtype)
        slope = torch.zeros_like(weight)
        for part in _chunks(weight.numel()):
            for index, _, derivative in _parzen(rows[part], columns[part], bins):
                slope[part] += derivative * potential[index]
        return None, (gradients[0] * weight * slope).view(ctx.shape), None, None, None


def _bin_positions(values: Tensor, extremes: Sequence[float], bins: int) -> tuple[Tensor, float, Tensor]:
    """Continuous bin of each value, bins per intensity, and 1 where the value was in range.

    One bin is kept free below and two above: a spline reaches that far.
    """
    low, high = extremes
    scale = (bins - 4) / max(high - low, torch.finfo(torch.float32).tiny)
    position = (values - low) * scale
    kept = position.clamp(0, bins - 4)
    return kept + 1, scale, (kept == position).to(values.dtype)


def _parzen(rows: Tensor, columns: Tensor, bins: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Index into the flat joint histogram, cubic B-spline and its derivative, for each of 4 bins."""
    lower = columns.floor()
    t = columns - lower
    base = rows * bins + lower.long() - 1
    values = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    slopes = (-((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (-3 * t**2 + 2 * t + 1) / 2, t**2 / 2)
    return [(base + k, value, slope) for k, (value, slope) in enumerate(zip(values, slopes, strict=True))]


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + PARZEN_CHUNK) for start in range(0, count, PARZEN_CHUNK)]


def _extremes(values: Tensor) -> tuple[float, float]:
    if values.numel() == 0:
        return 0.0, 1.0
    return float(values.min()), float(values.max())


def _total(values: Tensor) -> Tensor:
    return sum_over_space(values).sum()


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return _total(values) / values.numel()
    weight = mask.to(values.dtype)
    count = _total(weight) * values.shape[1]
    return _total(values * weight) / count.clamp(min=1)


def _centered(image: Tensor, weight: Tensor) -> Tensor:
    """Take the overall mean away, so that local variances do not drown in rounding."""
    mean = sum_over_space(image * weight) / sum_over_space(weight).clamp(min=1)
    return image - mean.detach().view(*mean.shape, *[1] * (image.ndim - 2))


def _floor(image: Tensor, weight: Tensor) -> Tensor:
    variance = sum_over_space(image.square() * weight) / sum_over_space(weight).clamp(min=1)
    # Where both images are constant, the product of two floors must not vanish.
    floor = (VARIANCE_FLOOR * variance).clamp(min=torch.finfo(torch.float32).tiny ** 0.5).detach()
    return floor.view(*floor.shape, *[1] * (image.ndim - 2))


def _in_millimeters(field: Tensor, spacing: Sequence[float]) -> Tensor:
    scale = torch.tensor(list(spacing), dtype=field.dtype, device=field.device)
    return field * scale.view(1, -1, *[1] * (field.ndim - 2))


def _difference(field: Tensor, axis: int) -> Tensor:
    count = field.shape[axis] - 1
    return field.narrow(axis, 1, count) - field.narrow(axis, 0, count)


def _second_difference(field: Tensor, axis: int) -> Tensor:
    count = field.shape[axis] - 2
    ends = field.narrow(axis, 2, count) + field.narrow(axis, 0, count)
    return ends - 2 * field.narrow(axis, 1, count)


def _per_sample(vectors: Tensor) -> Tensor:
    """Mean squared length of vectors ``(N, d, *shape)``."""
    samples = vectors.numel() // vectors.shape[1]
    return _total(vectors.square()) / max(1, samples)
