"""Label maps as a few smooth channels, which images can be matched by: signed distances, clipped.

Up to eight structures have a channel each. More of them share channels: each is added to all, with the signs
of a code of its own, so that squared differences of the channels are, but for what codes have in common,
those of all structures' distances.

Sources: Maurer, Qi and Raghavan, IEEE Trans. Pattern Analysis and Machine Intelligence 25(2):265-270, 2003
(distances); Achlioptas, J. Computer and System Sciences 66(4):671-687, 2003 (codes of random signs).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.boxes import find_bounding_box
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image

Labels = NDArray[np.integer[Any]]

MOST_CHANNELS = 8
SMOOTHED = 0.7
"""Standard deviation in samples of the blur of distances, which have edges halfway between structures."""
CODE_SEED = 20030601
"""Of the signs: the same for all pairs, as nothing of a pair is in them."""


def list_shared_labels(fixed: Image, moving: Image) -> NDArray[np.int64]:
    """Return the structures that both label maps have, in order.

    Raises:
        RegistrationError: an image has no label map, or they have no value in common but 0.
    """
    if fixed.labels is None or moving.labels is None:
        missing = " and ".join(
            name for name, image in (("fixed", fixed), ("moving", moving)) if image.labels is None
        )
        raise RegistrationError(f"segmentation: the {missing} image has no label map")
    one, other = (np.unique(labels).astype(np.int64) for labels in (fixed.labels, moving.labels))
    shared = np.intersect1d(one, other)
    shared = shared[shared != 0]
    if not len(shared):
        told = " and ".join(_listed(values[values != 0]) for values in (one, other))
        raise RegistrationError(f"segmentation: the label maps have no structure in common ({told})")
    return shared


def encode_labels(
    labels: Labels, grid: Grid, values: Sequence[int] | NDArray[np.int64], reach: float
) -> NDArray[np.float32]:
    """Return the channels of a label map.

    Args:
        labels: ``grid.shape``.
        grid: of the label map.
        values: the structures, in the order that both images of a pair have.
        reach: distance in world units from a structure's border at which its ramp ends, on either side.

    Returns:
        ``(C, *grid.shape)`` float32: of one structure 0 far outside, a half on its border, 1 deep inside.
    """
    codes = make_codes(len(values))
    channels = np.zeros((codes.shape[1], *grid.shape), np.float32)
    widths = grid.spacing[::-1]
    around = [int(np.ceil(reach / width)) + 3 for width in widths]
    for value, code in zip(values, codes, strict=True):
        inside = labels == value
        if not inside.any():
            continue
        box = find_bounding_box(inside, around)
        ramp = _ramp(inside[box], widths, reach)
        for channel, share in zip(channels, code, strict=True):
            if share:
                channel[box] += share * ramp
    return channels


def measure_labeled_extent(image: Image) -> float:
    """Return the longest side of what is labeled, in world units."""
    box = find_bounding_box(np.asarray(image.labels) != 0)
    return float((np.array([part.stop - part.start for part in box[::-1]]) * image.grid.spacing).max())


def make_codes(count: int) -> NDArray[np.float32]:
    """Return how much of each channel a structure adds to, ``(count, C)``; rows have length 1."""
    if count <= MOST_CHANNELS:
        return np.eye(count, dtype=np.float32)
    signs = np.random.default_rng(CODE_SEED).integers(0, 2, (count, MOST_CHANNELS)) * 2 - 1
    return np.asarray(signs / np.sqrt(MOST_CHANNELS), np.float32)


def _ramp(inside: NDArray[np.bool_], widths: NDArray[np.float64], reach: float) -> NDArray[np.float32]:
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    half = float(widths.min()) / 2
    if inside.all():
        return np.ones(inside.shape, np.float32)
    outward, inward = (distance_transform_edt(part, sampling=widths) for part in (~inside, inside))
    distance = np.where(inside, inward - half, half - outward)
    ramp = np.clip(distance / reach, -1, 1) / 2 + 0.5
    return np.asarray(gaussian_filter(ramp, SMOOTHED, mode="nearest"), np.float32)


def _listed(values: NDArray[Any]) -> str:
    more = ", ..." if len(values) > 6 else ""
    return ", ".join(str(int(value)) for value in values[:6]) + more if len(values) else "none"
