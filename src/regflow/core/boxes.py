"""Boxes around what counts and samples of it, so that empty surroundings cost nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image

Box = tuple[slice, ...]


def find_bounding_box(mask: NDArray[np.bool_], margin: int | Sequence[int] = 0) -> Box:
    """Return the smallest box around the true samples, with a margin inside the array.

    Args:
        mask: at least one sample is true.
        margin: samples to keep around, one number or one per axis.
    """
    box = []
    for axis, wide in enumerate(np.broadcast_to(margin, (mask.ndim,))):
        others = tuple(k for k in range(mask.ndim) if k != axis)
        used = np.flatnonzero(mask.any(axis=others))
        first, last = int(used[0]) - int(wide), int(used[-1]) + int(wide)
        box.append(slice(max(first, 0), min(last + 1, mask.shape[axis])))
    return tuple(box)


def make_whole_box(shape: Sequence[int]) -> Box:
    """Return the box that holds all of an array."""
    return tuple(slice(0, count) for count in shape)


def sample_indices_inside(mask: NDArray[np.bool_], most: int) -> NDArray[np.int32]:
    """Return the indices ``(n, d)`` of at most ``most`` true samples; always the same of them."""
    inside = np.argwhere(mask)
    picked = np.random.default_rng(0).choice(len(inside), min(most, len(inside)), replace=False)
    return inside[picked].astype(np.int32)


def crop_image(image: Image, box: Box) -> Image:
    """Return the part of an image inside a box; its samples stay where they are in the world."""
    affine = image.grid.affine.copy()
    affine[:-1, -1] = image.grid.to_world([part.start for part in reversed(box)])
    shape = tuple(part.stop - part.start for part in box)
    mask = None if image.mask is None else image.mask[box]
    labels = None if image.labels is None else image.labels[box]
    grid = Grid(shape, affine, image.grid.crs)
    return replace(image, data=image.data[(slice(None), *box)], grid=grid, mask=mask, labels=labels)


def measure_margins(box: Box, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return how many samples of an array lie before and after a box, along each axis."""
    return [(part.start, count - part.stop) for part, count in zip(box, shape, strict=True)]


def extend_field(field: NDArray[np.float32], box: Box, shape: Sequence[int]) -> NDArray[np.float32]:
    """Return a field ``(d, *box)`` on all of an array: outside the box it goes on as at its border."""
    return np.pad(field, [(0, 0), *measure_margins(box, shape)], mode="edge")
