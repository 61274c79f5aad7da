"""How alike two images are inside a mask, by four measures, for several states of one of them.

Correlation and mutual information look at every sample. The local measures (LNCC, SSIM) look at
copies shrunk to a common spacing: so their windows have the same size in every cohort, noise counts
less, and they cost an eighth.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from regflow.core import similarity
from regflow.core.boxes import Box, crop_image, find_bounding_box, make_whole_box
from regflow.core.errors import InputError
from regflow.core.image import Image
from regflow.core.resample import coarsen_image

MARGIN_MM = 20.0
"""Kept around the mask's box, more than any window reaches."""

Volumes = Mapping[str, NDArray[np.float32]]


def measure_similarity(
    fixed: Image, moved: Volumes, *, bins: int, radius: int, local_mm: float, threads: int = 1
) -> dict[str, dict[str, float]]:
    """Measure how alike the fixed image and each state of the moving image are.

    Args:
        fixed: with its mask, where the measures look.
        moved: the moving image on the fixed image's grid, by state.
        bins: per image of the histogram behind mutual information.
        radius: of the window of the local correlation, in samples of the shrunk copies.
        local_mm: least spacing of the copies for the local measures.
        threads: most threads to use; no figure depends on it.

    Returns:
        ``{measure: {state: value}}`` for ``ncc``, ``lncc``, ``mi`` (nats) and ``ssim``.

    Raises:
        InputError: the mask is empty.
    """
    box = _box(fixed)
    target = crop_image(Image(fixed.channel[None], fixed.grid, fixed.mask), box)
    mask = target.mask
    local_target = coarsen_image(target, local_mm)

    def measure(values: NDArray[np.float32]) -> dict[str, float]:
        own = Image(values[box][None], target.grid)
        near = coarsen_image(own, local_mm).channel
        there, region = local_target.channel, local_target.mask
        return {
            "ncc": similarity.ncc(target.channel, own.channel, mask),
            "lncc": similarity.lncc(there, near, region, radius),
            "mi": similarity.mutual_information(target.channel, own.channel, mask, bins),
            "ssim": similarity.ssim(there, near, region),
        }

    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(moved, pool.map(measure, moved.values()), strict=True))
    names = next(iter(found.values())) if found else ()
    return {name: {state: figures[name] for state, figures in found.items()} for name in names}


def _box(image: Image) -> Box:
    """Return the bounding box of an image's mask with a margin."""
    if image.mask is None:
        return make_whole_box(image.grid.shape)
    if not image.mask.any():
        raise InputError("the fixed mask is empty, so there is nowhere to compare the images")
    return find_bounding_box(image.mask, np.ceil(MARGIN_MM / image.grid.spacing[::-1]).astype(int).tolist())
