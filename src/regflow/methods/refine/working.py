"""A pair of images brought together on one grid, which is what the methods in torch compute on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.memory import check_grid
from regflow.core.resample import filter_antialias, resample_aligned, resample_array
from regflow.core.sampling import sample_channel
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.preprocess import INTENSITY, load_filter


def make_working_grid(grid: Grid, spacing: float | None, multiple: int = 2) -> Grid:
    """Return a grid of EXACTLY the same extent whose spacing is near the wanted one.

    Because the outer borders are kept, a field converts between such grids by resizing alone.

    Args:
        grid: whose extent to keep.
        spacing: wanted between samples, in world units; None for the grid's own.
        multiple: each axis has a number of samples that this divides.
    """
    wanted = grid.spacing if spacing is None else np.full(grid.ndim, float(spacing))
    extent = np.array(grid.size) * grid.spacing
    return resize_grid(grid, np.maximum(1, np.rint(extent / wanted / multiple)).astype(int) * multiple)


def resize_grid(grid: Grid, size: NDArray[np.int_]) -> Grid:
    """Return a grid of exactly the same extent with another number of samples, ``(x, y, z)`` order."""
    extent = np.array(grid.size) * grid.spacing
    affine = np.array(grid.affine)
    affine[:-1, :-1] = grid.direction * (extent / size)
    corner = grid.to_world(np.full(grid.ndim, -0.5))
    affine[:-1, -1] = corner + affine[:-1, :-1] @ np.full(grid.ndim, 0.5)
    return Grid(tuple(size[::-1]), affine, grid.crs)


def resample_both(fixed: Image, moving: Image, initial: Transform, grid: Grid) -> tuple[Image, Image]:
    """Resample both images onto a grid of the fixed image's extent, without aliasing.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        initial: from fixed to moving world points.
        grid: of :func:`make_working_grid`.

    Returns:
        Fixed and moving, float32, on ``grid``. The moving image's mask is false also where it has
        no samples.

    Raises:
        InputError: the memory does not suffice.
    """
    # Both images and their masks.
    check_grid(grid, 10)
    spacing = np.broadcast_to(grid.spacing, (grid.ndim,))
    still = fixed if grid == fixed.grid else _onto(fixed, None, grid, spacing)
    has_samples = moving.mask if moving.mask is not None else np.ones(moving.grid.shape, dtype=bool)
    return still, _onto(moving.with_mask(has_samples), initial, grid, spacing)


def normalize_pair(image: Image, method: str, options: Mapping[str, Any]) -> Image:
    """Normalize intensities by a row of the preprocess stage's intensity table.

    Args:
        image: on a working grid.
        method: name of the row.
        options: of the method; those left out take their defaults.

    Raises:
        RegistrationError: no sample lies inside the mask: the images do not overlap.
        InputError: the table has no such method, or the image is constant inside its mask.
    """
    require_samples(image)
    normalize = load_filter("intensity", method)
    return (
        image
        if normalize is None
        else normalize(image, None, INTENSITY[method].complete(options), RunContext())
    )


def require_samples(image: Image) -> None:
    """Refuse an image of :func:`resample_both` without a sample in its mask.

    Raises:
        RegistrationError: so it is.
    """
    if image.mask is not None and not image.mask.any():
        raise RegistrationError(
            "the images have no sample in common; check the initial alignment and the masks"
        )


def _onto(image: Image, transform: Transform | None, grid: Grid, spacing: NDArray[Any]) -> Image:
    channels = []
    for channel in image.data:
        if transform is None:
            channels.append(resample_aligned(channel, image.grid, grid))
            continue
        smooth = filter_antialias(channel, image.grid, spacing)
        outside = float(smooth.min())
        channels.append(sample_channel(smooth, image.grid, grid, transform, outside=outside))
    mask, labels = (
        None if part is None else resample_array(part, image.grid, grid, transform, "nearest")
        for part in (image.mask, image.labels)
    )
    return replace(image, data=np.stack(channels), grid=grid, mask=mask, labels=labels)
