"""Robust normalization of intensities inside the mask, what surrounds the object left out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.errors import InputError
from regflow.core.image import Image
from regflow.core.surroundings import measure_intensity_range, select_object_samples
from regflow.methods.context import RunContext
from regflow.methods.preprocess import INTENSITY


def percentile(
    image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext
) -> Image:
    """Bring two percentiles inside the mask, or a given window, to 0 and 1 and clip beyond.

    Padding and far air do not count, see :func:`~regflow.core.surroundings.select_object_samples`.

    Raises:
        InputError: nothing lies between the two.
    """
    scaled = []
    for channel in image.data:
        if options["window"] is not None:
            low, high = options["window"]
        else:
            low, high = measure_intensity_range(channel, image.mask, (options["low"], options["high"]))
        if not high > low:
            raise InputError(
                f"the image is constant inside its mask (both intensity limits are {low:g}); "
                "check the image and its mask"
            )
        unit = (np.asarray(channel, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
        scaled.append(np.clip(unit, 0, 1, out=unit))
    return image.with_data(np.stack(scaled))


def zscore(image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext) -> Image:
    """Subtract the mean and divide by the standard deviation inside the mask, far air left out.

    Raises:
        InputError: the image is constant inside its mask.
    """
    scaled = []
    for channel in image.data:
        inside = channel[select_object_samples(channel, image.mask)].astype(np.float64)
        mean, deviation = inside.mean(), inside.std()
        if not deviation > 0:
            raise InputError(
                f"the image is constant inside its mask ({mean:g} everywhere); check the image and its mask"
            )
        scaled.append(((channel - mean) / deviation).astype(np.float32))
    return image.with_data(np.stack(scaled))


def histogram(
    image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext
) -> Image:
    """Match the quantiles inside the mask to the reference's (Nyul et al. 2000), clipped to its range.

    The fixed image itself has no reference and is scaled by :func:`percentile`.
    """
    defaults = INTENSITY["percentile"].complete({})
    scaled = percentile(image, reference, defaults, context)
    if reference is None:
        return scaled
    steps = np.linspace(defaults["low"], defaults["high"], options["quantiles"])
    matched = []
    for channel, model in zip(scaled.data, reference.data, strict=True):
        have = np.percentile(channel[select_object_samples(channel, image.mask)], steps)
        want = np.percentile(model[select_object_samples(model, reference.mask)], steps)
        # Plateaus of equal quantiles have no inverse; their first value stands for all.
        have, first = np.unique(have, return_index=True)
        matched.append(np.interp(channel, have, want[first]).astype(np.float32))
    return image.with_data(np.stack(matched))
