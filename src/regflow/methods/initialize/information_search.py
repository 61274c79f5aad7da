"""Rotation and shift by mutual information at every shift at once, for each of some rotations.

A joint histogram over all shifts is a set of correlations: one for each pair of gray levels. So nothing
is climbed, and no start is too far. Times the number of samples, mutual information is the logarithm of
how much likelier the values are together than apart, which compares shifts of unequal overlap.

Source: Öfverstedt, Lindblad and Sladoje, Pattern Recognition Letters 159:196-203, 2022.
"""

import math

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.core.plain_areas import find_value_range
from regflow.methods.initialize.planar import Matrix
from regflow.methods.initialize.pose_search import (
    MIN_OVERLAP,
    Pose,
    choose_transform_shape,
    find_highest_shift,
    make_coarse_image,
    make_rotation,
    search_poses,
)

ACROSS = 64
LEVELS = 8
"""Pixels along the fixed picture's longest side, and gray levels."""
TURNS_DEGREES = tuple(range(-30, 31, 5))


def find_information_poses(fixed: Image, moving: Image, matrix: Matrix) -> list[Pose]:
    """Return the most promising maps, best first, among some rotations and all shifts.

    Args:
        fixed: a picture.
        moving: a picture.
        matrix: from fixed to moving world points, to which rotations and shifts are added.
    """
    plane = make_coarse_image(fixed, moving, matrix, ACROSS)
    still = _levels(plane)

    def compare(image: Image) -> tuple[float, NDArray[np.float64]]:
        return find_highest_shift(_information(still, _levels(image)), plane.grid.shape)

    turns = sorted(TURNS_DEGREES, key=abs)
    return search_poses(plane, moving, matrix, [make_rotation(math.radians(turn)) for turn in turns], compare)


def _levels(image: Image) -> NDArray[np.float32]:
    """Return where a picture has each gray level, ``(LEVELS, H, W)``."""
    assert image.mask is not None
    # As numbers of 64 bits, in which a level's border is not rounded to the samples' 32.
    low, high = np.array(find_value_range(image))
    scaled = (image.channel - low) * (LEVELS / max(float(high - low), 1e-12))
    level = np.clip(scaled, 0, LEVELS - 1).astype(np.intp)
    return np.asarray((level == np.arange(LEVELS)[:, None, None]) & image.mask, np.float32)


def _information(fixed: NDArray[np.float32], moving: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return mutual information times the overlap at all shifts; 0 where little overlaps."""
    from scipy import fft

    shape = choose_transform_shape(fixed.shape[1:], moving.shape[1:])
    first, second = (fft.rfft2(part, shape) for part in (fixed, moving))
    joint = fft.irfft2(np.conj(first)[:, None] * second[None], shape)
    joint = np.maximum(np.rint(joint), 0).astype(np.float64)
    count = joint.sum(axis=(0, 1))

    def spread(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return (counts * np.log(np.maximum(counts, 1))).reshape(-1, *shape).sum(axis=0)

    both = spread(joint) - spread(joint.sum(axis=0)) - spread(joint.sum(axis=1)) + spread(count[None])
    enough = count >= MIN_OVERLAP * min(fixed.sum(), moving.sum())
    return np.where(enough, both, 0.0)
