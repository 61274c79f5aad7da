"""Correction of a smooth multiplicative shading."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.extent import measure_ball_diameter, resolve_length
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.resample import to_sitk_image
from regflow.methods.context import RunContext

SAMPLE = 0.025
"""Spacing at which the field is sought, as a part of the mask's size: it is smooth."""

MOST_NEGATIVE_SHARE = 0.01
"""Above this share of negative samples in the mask the intensities are no product of a field: CT."""


def describe_unsuitability(image: Image) -> str | None:
    """Return why a multiplicative field makes no sense for this image, or None when it does."""
    if image.modality is not None and image.modality.upper() == "CT":
        return "CT has no coil shading"
    inside = image.data if image.mask is None else image.data[:, image.mask]
    share = float(np.mean(inside < 0))
    if share > MOST_NEGATIVE_SHARE:
        return f"{share:.0%} of the samples are negative"
    return None


def n4(image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext) -> Image:
    """Divide each channel by the field that N4 finds inside the mask (Tustison et al. 2010).

    The field is found on a shrunken image, which loses nothing because it is smooth, and evaluated
    at full resolution. It is scaled to leave the mean log intensity inside the mask as it is.
    """
    spacing = resolve_length(options["sample_mm"], SAMPLE, measure_ball_diameter(image.mask, image.grid))
    factors = _shrink_factors(image.grid, spacing)
    corrected = [_corrected(channel, image, factors, options) for channel in image.data]
    return image.with_data(np.stack(corrected))


def _corrected(
    data: NDArray[Any], image: Image, factors: Sequence[int], options: Mapping[str, Any]
) -> NDArray[np.float32]:
    import SimpleITK as sitk

    data = np.asarray(data, dtype=np.float32)
    usable = data > 0 if image.mask is None else image.mask & (data > 0)
    centers = _block_centers(data.shape, factors)
    picks = np.ix_(*centers)
    small, small_mask = data[picks], usable[picks]
    if not small_mask.any():
        return data
    coarse = Grid(small.shape, image.grid.affine @ np.diag([*factors, 1.0]))
    with limit_itk_threads(1):
        correction = sitk.N4BiasFieldCorrectionImageFilter()
        correction.SetMaximumNumberOfIterations(list(options["iterations"]))
        correction.SetConvergenceThreshold(options["convergence"])
        shrunken = to_sitk_image(small, coarse)
        correction.Execute(shrunken, to_sitk_image(small_mask, coarse))
        log_field = sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(shrunken))
    log_field -= log_field[small_mask].mean()
    return np.asarray(data * np.exp(-_expand(log_field, centers, data.shape)), dtype=np.float32)


def _shrink_factors(grid: Grid, sample_mm: float) -> list[int]:
    """Return how many samples become one, in (x, y, z) order; at least 8 stay along each axis."""
    factors = np.maximum(1, np.rint(sample_mm / grid.spacing)).astype(int)
    return [int(min(f, max(1, n // 8))) for f, n in zip(factors, grid.size, strict=True)]


def _block_centers(shape: Sequence[int], factors: Sequence[int]) -> list[NDArray[np.intp]]:
    return [
        np.arange(factor // 2, length, factor) for length, factor in zip(shape, factors[::-1], strict=True)
    ]


def _expand(
    field: NDArray[Any], centers: Sequence[NDArray[np.intp]], shape: Sequence[int]
) -> NDArray[np.float32]:
    """Interpolate linearly from the samples at ``centers`` to all, the border's value beyond them."""
    full = np.asarray(field, dtype=np.float32)
    for axis, (known, length) in enumerate(zip(centers, shape, strict=True)):
        weights = np.stack([np.interp(np.arange(length), known, unit) for unit in np.eye(len(known))], axis=1)
        full = np.moveaxis(np.tensordot(weights.astype(np.float32), full, axes=(1, axis)), 0, axis)
    return full
