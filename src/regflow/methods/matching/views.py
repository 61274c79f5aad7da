"""An image as a small network sees it: the whole object in a cube or square of few samples."""

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.sampling import sample_channel
from regflow.core.transform import Affine

FILLED = 0.75
"""Part of the cube's side that the object takes up."""
LOW, HIGH = 1.0, 99.0
"""Percentiles of a view that are shown as 0 and 1."""


def make_cube(image: Image, side: int, filled: float = FILLED) -> Grid:
    """Return a cube or square about an image's object, along the world's axes.

    Args:
        image: its mask says where the object is; all of it without one.
        side: samples along each axis.
        filled: part of the side that the object takes up.

    Raises:
        RegistrationError: the image has no valid sample, or its object is a point.
    """
    inside = np.argwhere(np.ones(image.grid.shape, bool) if image.mask is None else image.mask)
    if not len(inside):
        raise RegistrationError("an image has no valid sample")
    corners = image.grid.to_world(inside[:, ::-1])
    low, high = corners.min(axis=0), corners.max(axis=0)
    spacing = float((high - low).max()) / filled / side
    if not spacing > 0:
        raise RegistrationError("an image's object is a point")
    affine = np.eye(image.grid.ndim + 1)
    affine[:-1, :-1] *= spacing
    affine[:-1, -1] = (low + high) / 2 - spacing * (side - 1) / 2
    return Grid((side,) * image.grid.ndim, affine, image.grid.crs)


def prepare_view(image: Image, cube: Grid) -> Image:
    """Return an image no finer than a cube, float32, with its darkest valid value outside its mask."""
    coarse = coarsen_image(image.with_data(image.data[:1].astype(np.float32)), float(cube.spacing[0]))
    values = coarse.channel
    if coarse.mask is not None and coarse.mask.any():
        values = np.where(coarse.mask, values, values[coarse.mask].min())
    return coarse.with_data(values.astype(np.float32)[None])


def sample_view(image: Image, cube: Grid, transform: Affine) -> NDArray[np.float32]:
    """Return a prepared image in a cube, percentiles brought to 0 and 1.

    Args:
        image: of :func:`prepare_view`.
        cube: where to look.
        transform: from the cube's world points to the image's.

    Raises:
        RegistrationError: it is constant there.
    """
    outside = float(image.channel.min())
    view = sample_channel(image.channel, image.grid, cube, transform, outside=outside)
    low, high = np.percentile(view, (LOW, HIGH))
    if not high > low:
        raise RegistrationError("an image is constant where it is seen")
    return np.clip((view - low) / (high - low), 0, 1).astype(np.float32)
