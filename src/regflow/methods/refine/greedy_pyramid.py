"""The images of the greedy scheme: scaled, cut to what matters, and shrunk level by level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.boxes import find_bounding_box
from regflow.core.errors import RegistrationError
from regflow.core.resample import compute_antialias_sigma
from regflow.methods.refine import greedy_kernels as kernels
from regflow.methods.refine.greedy_level import WHOLLY, GreedyLevel, make_half_gaussian

Array = NDArray[np.float32]

MARGIN_SAMPLES = 12
"""Samples kept around the mask: the field dies out there, and windows and steps reach into it."""
SMALLEST_AXIS = 8
"""A level does not shrink an axis below this many samples."""
PER_LEVEL = ("iterations", "radius", "update_sigma", "field_sigma")
"""Options with one value per level."""


@dataclass(frozen=True, eq=False)
class LevelImages:
    """Both images, scaled to about [0, 1] and cut to ``window``, as float32 volumes of three axes.

    Attributes:
        fixed: the fixed image.
        moving: the moving one, sampled where the initial transform leads.
        weights: 1 where samples count: in the mask and a margin about it.
        inside: 1 in the mask itself.
        valid: 1 where the moving image has samples; None for everywhere.
        spacing: of the samples, relative to the finest axis.
        window: of the fixed image.
        guides: further channels of the fixed and of the moving image, ``(C, Z, Y, X)`` each, which are
            matched by squared differences beside them; None without any.
    """

    fixed: Array
    moving: Array
    weights: Array
    inside: Array
    valid: Array | None
    spacing: NDArray[np.float64]
    window: tuple[slice, ...]
    guides: tuple[Array, Array] | None = None


def prepare_pyramid(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    valid: NDArray[np.bool_] | None,
    spacing: NDArray[np.float64],
    options: Mapping[str, Any],
    guides: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> LevelImages:
    """Scale both images, grow the mask and cut all to its box; arguments as of ``refine_field``.

    Raises:
        RegistrationError: no sample counts, or an image is constant where they count.
    """
    inside = np.ones(fixed.shape, bool) if mask is None else np.asarray(mask, bool)
    common = inside if valid is None else inside & valid
    if not common.any():
        raise RegistrationError(
            "no sample of the fixed mask meets the moving image; check masks and initial alignment"
        )
    ranges = [_range(image, common, name) for image, name in ((fixed, "fixed"), (moving, "moving"))]
    if options["metric"] == "mse":
        ranges[1] = ranges[0]
    counted = inside if mask is None else grow_mask(inside, options["margin"], spacing)
    window = find_bounding_box(counted, MARGIN_SAMPLES)
    shape = _volume_shape([s.stop - s.start for s in window])

    def cut(values: NDArray[Any]) -> Array:
        return np.ascontiguousarray(values[window], np.float32).reshape(shape)

    scaled = [
        (cut(image) - np.float32(low)) / np.float32(high - low)
        for image, (low, high) in zip((fixed, moving), ranges, strict=True)
    ]
    spoken = None if valid is None or valid[window].all() else cut(valid)
    widths = spacing if len(spacing) == 3 else np.array([spacing[0], 1.0, spacing[1]])
    beside = None
    if guides is not None:
        beside = np.stack([cut(one) for one in guides[0]]), np.stack([cut(one) for one in guides[1]])
    return LevelImages(scaled[0], scaled[1], cut(counted), cut(inside), spoken, widths, window, beside)


def _range(image: NDArray[Any], inside: NDArray[np.bool_], name: str) -> tuple[float, float]:
    values = image[inside]
    low, high = (float(v) for v in np.percentile(values[:: max(1, values.size // 200_000)], (1.0, 99.0)))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        raise RegistrationError(f"the {name} image is constant inside the mask; nothing to match")
    return low, high


def grow_mask(mask: NDArray[np.bool_], samples: int, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Grow a mask by a number of samples of the finest axis, axis after axis."""
    from scipy.ndimage import maximum_filter1d

    grown = mask.astype(np.uint8)
    for axis, width in enumerate(spacing):
        reach = round(samples / width)
        if reach > 0:
            grown = maximum_filter1d(grown, 2 * reach + 1, axis=axis, mode="nearest")
    return grown.astype(bool)


def build_level(pair: LevelImages, number: int, options: Mapping[str, Any]) -> GreedyLevel:
    """Shrink a pair for level ``number`` of the options."""
    shrink = float(options["shrink"][number])
    full = np.array(pair.weights.shape)
    wanted = np.maximum(1.0, shrink / pair.spacing)
    shape = np.maximum(np.rint(full / wanted), np.minimum(full, SMALLEST_AXIS)).astype(int)
    spacing = pair.spacing * full / shape
    fixed, moving, weights = (_shrunk(part, shape) for part in (pair.fixed, pair.moving, pair.weights))
    valid = None if pair.valid is None else _shrunk(pair.valid, shape) > WHOLLY
    finest = spacing[full > 1].min() if (full > 1).any() else 1.0
    chosen = {name: options[name][number] for name in PER_LEVEL}
    channels = [_channels(image, spacing / finest, options["metric"]) for image in (fixed, moving)]
    if pair.guides is not None:
        channels = [
            np.concatenate([image, *(_shrunk(one, shape)[None] for one in side)])
            for image, side in zip(channels, pair.guides, strict=True)
        ]
    return GreedyLevel(
        fixed=channels[0],
        moving=channels[1],
        weights=weights,
        valid=None if valid is None else valid.astype(np.float32),
        spacing=spacing / finest,
        correlation=options["metric"] == "lncc",
        step=float(options["step"]),
        momentum=float(options["momentum"]),
        tolerance=float(options["tolerance"]),
        **chosen,
    )


def _channels(image: Array, spacing: NDArray[np.float64], metric: str) -> Array:
    if metric != "mind":
        return image[None]
    from regflow.methods.refine.mind import compute_descriptors

    return compute_descriptors(image, spacing)


def _shrunk(volume: Array, shape: NDArray[np.int_]) -> Array:
    """Bring a volume to a coarser grid of the same extent, without aliasing.

    The filter of :func:`regflow.core.resample.resample_aligned`, by the scheme's own parallel kernels:
    another order of the sums, so not the same bytes.
    """
    ratio = np.array(volume.shape) / shape
    if np.all(ratio == 1):
        return volume
    taps = [make_half_gaussian(compute_antialias_sigma(r)) for r in ratio]
    blurred, coarse = np.empty((1, *volume.shape), np.float32), np.empty((1, *shape), np.float32)
    kernels.smooth_channels(volume[None], *taps, kernels.make_full_spans(volume.shape), blurred)
    offsets = np.empty((3, *shape), np.float32)
    for axis, (count, step) in enumerate(zip(shape, ratio, strict=True)):
        line = (np.arange(count) + 0.5) * step - 0.5 - np.arange(count)
        offsets[axis] = line.reshape([-1 if k == axis else 1 for k in range(3)])
    kernels.pull_channels(blurred, offsets, kernels.make_full_spans(coarse.shape[1:]), coarse)
    return np.asarray(coarse[0])


def _volume_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """A 2-D image's columns become the third axis: loops are parallel over the first."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])
