"""The fixed image's mask carried over to the moving image."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.extent import measure_ball_diameter, resolve_length
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.preprocess.masks import (
    check_mask,
    close_gaps,
    coarsen_masked,
    dilate_mask,
    erode_mask,
    fill_holes,
    keep_largest_piece,
)
from regflow.methods.table import find_method, list_methods_of_kind, run_method

log = logging.getLogger(__name__)

COARSE = 0.025
"""Spacing at which the coarse affine is sought, as a part of the organ's size (here and below, the diameter
of a ball of its volume): some 4 mm for a brain. A mask needs no more."""
COARSE_OPTIONS = {"mutual-information": {"samples_across": [16, 48], "starts": 8}}
"""Options of the initializers, where their defaults are finer than a mask needs."""
FITTING = 0.0125
"""Spacing at which the carried mask is fitted to the image, likewise."""
REACH = 0.05
"""How far the carried mask's border may retreat, likewise."""
TISSUE = (0.6, 1.6)
"""Intensities that count as the same organ, as multiples of the median well inside the mask (above the
background): between them lies brain, beyond them skull, cerebrospinal fluid and fat."""
NECK = 0.02
"""Radius of the opening that cuts what hangs on by thin bridges, likewise: meninges, vessels, nerves."""
SULCUS = 0.03
"""Radius of the closing that takes sulci back in, likewise."""
GROWTH = 0.0125
"""How far, likewise, a fit may take a carried mask's border outward. It may retreat farther: outside lies the
skull's marrow, skin and fat, whose intensities are the organ's in some contrasts."""
KEPT = (0.8, 1.05)
"""A fit whose volume leaves this range of the carried mask's volume is not trusted."""

BLANK_SHARE = 0.99
"""An image is blank outside its mask when this share of those samples has one value."""


def atlas(image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext) -> Image:
    """Register coarsely, carry the fixed mask over, fit it to the image's edges, and dilate it.

    Where the fixed image is blank outside its mask, the image becomes so too.

    Raises:
        InputError: there is no fixed image, or it has no mask.
        RegistrationError: the coarse registration failed.
    """
    if reference is None or reference.mask is None:
        raise InputError(
            "preprocess: the mask method is 'atlas' but the fixed image has no mask; give one in the "
            "sheet or choose 'foreground'"
        )
    forward = _coarse_affine(image, reference, options["initializer"], context.threads)
    share = reference.mask.astype(np.float32)
    mask = resample_array(share, reference.grid, image.grid, forward.inverse()) >= 0.5
    mask = _fitted(image, mask, options["refine_mm"])
    mask = dilate_mask(mask, image.grid, options["margin_mm"])
    check_mask(image.with_mask(mask), "the mask carried over from the fixed image")
    data = image.data
    if options["strip"] and _blank(reference.channel[~reference.mask]):
        data = np.where(mask, data, data.min())
    return image.with_mask(mask).with_data(data)


def _blank(outside: NDArray[Any]) -> bool:
    """Tell whether practically all samples outside a mask have one value."""
    return outside.size > 0 and float(np.mean(outside == np.median(outside))) > BLANK_SHARE


def _fitted(image: Image, mask: NDArray[np.bool_], reach_mm: float | None) -> NDArray[np.bool_]:
    """Move the border of a carried mask inward by at most a reach, to where the organ ends.

    Samples of the organ's intensities near the mask are opened, so that only what hangs together
    broadly stays, then closed and filled.
    """
    size = measure_ball_diameter(mask, image.grid)
    reach = resolve_length(reach_mm, REACH, size)
    coarse = coarsen_masked(image.with_mask(mask), FITTING * size)
    data, grid, carried = coarse.channel, coarse.grid, coarse.mask
    assert carried is not None
    core = erode_mask(carried, grid, reach)
    if reach <= 0 or not core.any():
        return mask
    background = float(np.percentile(data, 1))
    low, high = background + np.multiply(TISSUE, np.median(data[core]) - background)
    organ = core | (dilate_mask(carried, grid, min(GROWTH * size, reach)) & (data > low) & (data < high))
    organ = dilate_mask(keep_largest_piece(erode_mask(organ, grid, NECK * size)), grid, NECK * size)
    organ = fill_holes(close_gaps(organ, grid, SULCUS * size))
    ratio = organ.sum() / carried.sum()
    if not KEPT[0] <= ratio <= KEPT[1]:
        log.info("mask: kept as carried over, because the fit changed its volume by a factor of %.2f", ratio)
        return mask
    return resample_array(organ.astype(np.float32), grid, image.grid) >= 0.5


def _coarse_affine(image: Image, reference: Image, name: str, threads: int) -> Transform:
    from regflow.methods.initialize import METHODS

    method = find_method(list_methods_of_kind(METHODS, "volumes"), name, "preprocess: mask")
    options = method.complete(COARSE_OPTIONS.get(name, {}))
    spacing = COARSE * measure_ball_diameter(reference.mask, reference.grid)
    fixed, moving = (coarsen_masked(part, spacing) for part in (reference, image.with_mask(None)))
    start = Affine.identity(image.grid.ndim)
    return run_method(method, fixed, moving, start, options, RunContext(threads=threads)).transform
