"""Noise reduction that keeps edges."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.boxes import find_bounding_box
from regflow.core.image import Image
from regflow.core.resample import to_sitk_image
from regflow.methods.context import RunContext

MAD_TO_SIGMA = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution."""


def curvature(
    image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext
) -> Image:
    """Smooth along level sets, so that edges stay (curvature flow, Sethian 1999)."""
    import SimpleITK as sitk

    step = min(options["time_step"], 0.5 ** (image.grid.ndim + 1))
    return _filtered(image, lambda channel: sitk.CurvatureFlow(channel, step, options["iterations"]))


def median(image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext) -> Image:
    """Replace each sample by the median of the box around it."""
    import SimpleITK as sitk

    radius = [options["radius"]] * image.grid.ndim
    return _filtered(image, lambda channel: sitk.Median(channel, radius))


def nonlocal_means(
    image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext
) -> Image:
    """Average samples whose patches look alike (Coupe et al. 2008).

    Patches are compared inside the mask's bounding box; outside it nothing changes.
    """
    box = tuple(slice(None) for _ in image.grid.shape)
    if image.mask is not None and image.mask.any():
        box = find_bounding_box(image.mask, margin=options["search"] + options["patch"])
    data = np.array(image.data, dtype=np.float32)
    for channel in data:
        channel[box] = _nonlocal_means(channel[box], options)
    return image.with_data(data)


def estimate_noise_level(data: NDArray[Any]) -> float:
    """Estimate the standard deviation of white noise from second differences (robust, any contrast)."""
    ndim = data.ndim
    core = tuple(slice(1, -1) for _ in range(ndim))
    residual = 2.0 * ndim * data[core].astype(np.float32)
    for axis in range(ndim):
        for start in (0, 2):
            window = tuple(
                slice(start, data.shape[k] - 2 + start) if k == axis else slice(1, -1) for k in range(ndim)
            )
            residual -= data[window]
    residual = residual[residual != 0]
    if residual.size == 0:
        return 0.0
    gain = np.sqrt(4.0 * ndim**2 + 2.0 * ndim)
    return float(MAD_TO_SIGMA * np.median(np.abs(residual)) / gain)


def _nonlocal_means(data: NDArray[np.float32], options: Mapping[str, Any]) -> NDArray[np.float32]:
    from scipy.ndimage import uniform_filter

    sigma = estimate_noise_level(data)
    if sigma == 0:
        return data
    width = 2 * options["patch"] + 1
    # Two noisy copies of one patch differ by 2 sigma^2 in the mean; more than that is structure.
    scale = np.float32(1 / (options["strength"] ** 2 * 2 * sigma**2))
    total = data.copy()
    weight = np.ones_like(data)
    for here, there in _half_shifts(data.shape, options["search"]):
        distance = uniform_filter((data[here] - data[there]) ** 2, width, mode="nearest")
        alike = np.exp(-distance * scale)
        total[here] += alike * data[there]
        total[there] += alike * data[here]
        weight[here] += alike
        weight[there] += alike
    return np.asarray(total / weight)


def _half_shifts(
    shape: tuple[int, ...], search: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield windows of the samples and of their neighbors, for one of each pair of opposite shifts."""
    for shift in product(range(-search, search + 1), repeat=len(shape)):
        if shift <= (0,) * len(shape):
            continue
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(shift, shape, strict=True))
        yield here, there


def _filtered(image: Image, run: Callable[[Any], Any]) -> Image:
    import SimpleITK as sitk

    channels = [
        sitk.GetArrayFromImage(run(to_sitk_image(np.asarray(channel, dtype=np.float32), image.grid)))
        for channel in image.data
    ]
    return image.with_data(np.stack(channels))
