"""Simulated pairs: the fixed image of a registered pair, moved as was found, in the moving one's contrast.

What a registration finds is wrong by some part of a sample. Between the fixed image and this one it is the
truth by construction, and contrast, noise, shading and the size of the deformation are the pair's own.
"""

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from regflow.core.contrast import (
    BLUR_SIGMA,
    EXPLAINED,
    average_by_intensity,
    correlation_ratio,
    erode_deeply,
    map_intensities,
)
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.sampling import sample_channel
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.preprocess import INTENSITY
from regflow.methods.preprocess.denoise import estimate_noise_level
from regflow.methods.preprocess.intensity import histogram, percentile

log = logging.getLogger(__name__)

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

SHADING = 20.0
"""Standard deviation of the Gaussian that leaves of a difference what counts as shading, world units."""


def simulated_pair(
    fixed: Image, moving: Image, forward: Transform, inverse: Transform, rng: np.random.Generator
) -> Image | None:
    """Simulate a pair's moving image.

    Args:
        fixed: one channel.
        moving: the same.
        forward: found, from fixed to moving world points.
        inverse: back.
        rng: of the noise.

    Returns:
        An image on the moving one's grid, whose mask is the moved mask of the fixed image; None where
        the intensities of both hardly relate, so that one cannot stand for the other.

    Raises:
        InputError: the fixed image is constant.
    """
    fixed = percentile(fixed, None, INTENSITY["percentile"].complete({}), RunContext())
    seen, has_samples = (np.ones(i.grid.shape, bool) if i.mask is None else i.mask for i in (fixed, moving))
    common = seen & resample_array(has_samples, moving.grid, fixed.grid, forward, "nearest")
    darkest = float(moving.channel.min())
    moved = sample_channel(moving.channel, moving.grid, fixed.grid, forward, outside=darkest)
    recolored = _recolored(fixed.channel, moved, seen, common)
    if recolored is None:
        return None
    inner, outer = recolored
    there = resample_array(seen, fixed.grid, moving.grid, inverse, "nearest")
    inner = resample_array(inner, fixed.grid, moving.grid, inverse, "cubic")
    inner = _acquired(inner, moving, there & has_samples, rng)
    outer = resample_array(outer, fixed.grid, moving.grid, inverse, outside=darkest)
    made = np.where(there, inner, outer).clip(darkest, moving.channel.max())
    return Image(made[None], moving.grid, there, None, moving.modality)


def _recolored(fixed: Array, moved: Array, seen: Mask, common: Mask) -> tuple[Array, Array] | None:
    """Return the fixed image in the contrast of the moved one, inside and outside the object.

    Args:
        fixed: the fixed image.
        moved: the moving one on its grid.
        seen: the object in the fixed image.
        common: where the moving image has samples of it.
    """
    deep = erode_deeply(seen)
    border = _means(fixed, moved, common & ~deep)
    given, wanted = (gaussian_filter(image, BLUR_SIGMA)[common & deep] for image in (fixed, moved))
    explained = correlation_ratio(given, wanted) if given.size else 0.0
    if explained < EXPLAINED:
        log.info("no pair simulated: fixed intensities explain %.2f of the moving ones", explained)
        return None
    # Samples at the border mix with what is outside; but some intensities are met nowhere else.
    inner = map_intensities(average_by_intensity(given, wanted, border), fixed)
    if border is not None:
        inner = np.where(deep, inner, map_intensities(border, fixed))
    around = _means(fixed, moved, ~seen)
    return inner, inner if around is None else map_intensities(around, fixed)


def _means(fixed: Array, moved: Array, where: Mask) -> Array | None:
    return average_by_intensity(fixed[where], moved[where]) if where.any() else None


def _acquired(clean: Array, moving: Image, inside: Mask, rng: np.random.Generator) -> Array:
    """Give a clean image the quantiles, the shading and the noise of the moving one.

    A mean over the samples of one intensity has less contrast than they; hence the quantiles.
    """
    options = INTENSITY["histogram"].complete({})
    made = histogram(
        Image(clean[None], moving.grid, inside), moving.with_mask(inside), options, RunContext()
    ).channel
    made = made + _shading(moving.channel - made, inside, SHADING / moving.grid.spacing[::-1])
    darkest = moving.channel.min()
    had, has = (estimate_noise_level(np.where(inside, image, darkest)) for image in (moving.channel, made))
    sigma = np.float32(np.sqrt(max(0.0, had**2 - has**2)))
    return np.asarray(made + sigma * rng.standard_normal(made.shape, dtype=np.float32))


def _shading(difference: Array, inside: Mask, sigma: NDArray[np.floating]) -> Array:
    """Return what is smooth of a difference inside a mask."""
    weights = inside.astype(np.float32)
    sums, counts = (gaussian_filter(part, sigma) for part in (difference * weights, weights))
    return np.asarray(sums / np.maximum(counts, 1e-3), np.float32)
