"""Where a picture shows something, and what plain areas surround it."""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from regflow.core.image import Image

Mask = NDArray[np.bool_]

FLAT, FLAT_SIDE, RANGE_PERCENT = 0.03, 5, 1.0
"""Values that differ by less than this part of their range, within so many pixels, show nothing; the
range leaves out so much at either end."""
LARGE, RIM = 0.02, 8
"""Plain surroundings are at least this part of a picture, and the outline in them is so many pixels wide."""


def find_plain_surroundings(image: Image) -> Mask:
    """Return the large plain areas that reach the picture's border, and some pixels around them.

    The outline of what lies in them is an edge as long as any, and where two fields of view have the same
    outline it would outvote all that they show.

    Args:
        image: 2-D, with a mask; its first channel counts.
    """
    plain = ~find_variation(image)
    labels, count = ndimage.label(plain, structure=np.ones((3, 3), bool))
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    large = np.bincount(labels.ravel(), minlength=count + 1) > LARGE * labels.size
    large[0] = False
    reached = np.zeros(count + 1, bool)
    reached[border] = True
    found = (large & reached)[labels].astype(np.uint8)
    return np.asarray(_over_squares(found, 2 * RIM + 1, np.maximum) > 0)


def find_variation(image: Image) -> Mask:
    """Return where values differ from their neighbors'."""
    assert image.mask is not None
    low, high = find_value_range(image)
    filled = np.where(image.mask, image.channel, np.float32(low))
    spread = _over_squares(filled, FLAT_SIDE, np.maximum) - _over_squares(filled, FLAT_SIDE, np.minimum)
    return np.asarray(spread > FLAT * (high - low))


def find_value_range(image: Image) -> tuple[float, float]:
    """Return the range of the valid values without their ends; zeros where there are none."""
    assert image.mask is not None
    if not image.mask.any():
        return 0.0, 0.0
    low, high = np.percentile(image.channel[image.mask], [RANGE_PERCENT, 100 - RANGE_PERCENT])
    return float(low), float(high)


def _over_squares(values: NDArray[Any], side: int, extreme: np.ufunc) -> NDArray[Any]:
    """Return the extreme value in the square around each pixel; ten times as fast as scipy's filters."""
    values = np.pad(values, side // 2, mode="edge")
    for _ in (0, 1):
        rows = len(values) - side + 1
        values = reduce(extreme, (values[k : k + rows] for k in range(side))).T
    return values
