"""The fixed image's mask carried over to the moving image."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.errors import InputError
from regflow.core.image import Image
from regflow.core.resample import antialias, resample_array
from regflow.core.transform import Affine, Transform
from regflow.methods.preprocess.masks import checked, dilated
from regflow.methods.table import find

COARSE_MM = 4.0
"""Spacing at which the coarse affine is sought: a mask needs no more."""


def atlas(image: Image, reference: Image | None, options: Mapping[str, Any]) -> Image:
    """Register coarsely, carry the fixed mask over, and dilate it by the margin.

    Raises:
        InputError: there is no fixed image, or it has no mask.
        RegistrationError: the coarse registration failed.
    """
    if reference is None or reference.mask is None:
        raise InputError(
            "preprocess: the mask method is 'atlas' but the fixed image has no mask; give one in the "
            "sheet or choose 'foreground'"
        )
    forward = _coarse_affine(image, reference, options)
    share = reference.mask.astype(np.float32)
    carried = resample_array(share, reference.grid, image.grid, forward.inverse()) >= 0.5
    mask = dilated(carried, image.grid, options["margin_mm"])
    return checked(image.with_mask(mask), "the mask carried over from the fixed image")


def _coarse_affine(image: Image, reference: Image, options: Mapping[str, Any]) -> Transform:
    from regflow.methods.initialize import METHODS

    method = find(METHODS, options["initializer"], "preprocess: mask")
    shared = {"threads": options["threads"], "seed": 0}
    fixed, moving = _coarse(reference), _coarse(image.with_mask(None))
    start = Affine.identity(image.grid.ndim)
    return method.load()(fixed, moving, start, {**method.complete({}), **shared})


def _coarse(image: Image) -> Image:
    spacing = np.maximum(image.grid.spacing, COARSE_MM)
    grid = image.grid.resampled(spacing.tolist())
    low = float(image.channel.min())
    data = resample_array(antialias(image.channel, image.grid, spacing), image.grid, grid, outside=low)
    mask = image.mask
    if mask is not None:
        mask = resample_array(antialias(mask, image.grid, spacing), image.grid, grid) >= 0.5
    return Image(data[None], grid, mask, modality=image.modality)
