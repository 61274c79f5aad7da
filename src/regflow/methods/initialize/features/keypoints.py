"""Keypoints with descriptors, drawn evenly over a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.methods.initialize.structure import erode_mask

TILES = 8
"""Tiles along the longer side that each give their share of the keypoints."""
TAIL_PERCENT = 0.5
LEAST_SIDE = 16
"""Pixels along a picture's shorter side: the detectors' pyramids and descriptors need some."""
MARGIN = 8
"""Pixels from what is not valid in which no keypoint is taken: the mask's outline is no landmark."""


@dataclass(frozen=True)
class Keypoints:
    """Places and what they look like.

    Attributes:
        points: ``(N, 2)`` positions ``(x, y)`` in pixels.
        descriptors: ``(N, D)``: uint8 strings of bits, or float32 vectors.
    """

    points: NDArray[np.float64]
    descriptors: NDArray[np.generic]

    @property
    def is_binary(self) -> bool:
        """Whether descriptors are compared by their differing bits."""
        return self.descriptors.dtype == np.uint8


def scale_to_eight_bit(image: Image, *, inverted: bool = False) -> NDArray[np.uint8]:
    """Return a picture's valid values from 0 to 255 between their outer half percents.

    Raises:
        RegistrationError: it is too small for keypoints, or has no valid pixel.
    """
    assert image.mask is not None
    if min(image.channel.shape) < LEAST_SIDE or not image.mask.any():
        rows, columns = image.channel.shape
        raise RegistrationError(
            f"{columns} x {rows} pixels, {int(image.mask.sum())} of them valid, are too few for keypoints"
        )
    low, high = np.percentile(image.channel[image.mask], [TAIL_PERCENT, 100 - TAIL_PERCENT])
    scaled = np.clip((image.channel - low) * (255 / max(float(high - low), 1e-12)), 0, 255)
    return np.asarray(np.rint(255 - scaled if inverted else scaled), np.uint8)


def find_usable_mask(image: Image) -> NDArray[np.bool_]:
    """Return where a picture may have keypoints; everywhere valid where the margin leaves nothing."""
    assert image.mask is not None
    inner = erode_mask(image.mask, MARGIN)
    return inner if inner.any() else image.mask


def spread_evenly(
    points: NDArray[np.float64], strengths: NDArray[np.float64], shape: tuple[int, ...], count: int
) -> NDArray[np.intp]:
    """Choose the strongest keypoints of each tile.

    Args:
        points: ``(N, 2)`` positions ``(x, y)``.
        strengths: ``(N,)``.
        shape: rows and columns of the picture.
        count: most keypoints in all; what a tile does not have, others give.

    Returns:
        Indices of the chosen, strongest first.
    """
    # Equal strengths keep an order that does not depend on how a detector lists its points.
    order = np.lexsort((points[:, 0], points[:, 1], -strengths))
    if len(order) <= count:
        return np.asarray(order)
    side = max(shape) / TILES
    tile = (points[order] // side).astype(np.int64) @ np.array([1, 1 << 20])
    rank = np.empty(len(order), np.int64)
    by_tile = np.argsort(tile, kind="stable")
    starts = np.flatnonzero(np.diff(tile[by_tile], prepend=-1))
    lengths = np.diff(np.append(starts, len(order)))
    rank[by_tile] = np.arange(len(order)) - np.repeat(starts, lengths)
    kept = np.lexsort((np.arange(len(order)), rank))[:count]
    return np.asarray(order[np.sort(kept)])
