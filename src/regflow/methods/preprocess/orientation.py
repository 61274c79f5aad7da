"""Turning an image's axes to the canonical order, and choosing its working grid."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image

FINER_BY = 0.9
"""A spacing counts as finer than the reference's below this ratio: 0.95 mm stays as it is at 1 mm."""


def orient_image(image: Image) -> Image:
    """Permute and flip the array's axes so that they run nearest to the world's axes.

    For volumes that is left, posterior, superior. No sample changes and none moves in the world.
    """
    order, flips = _nearest_axes(image.grid)
    size = np.array(image.grid.size)
    affine = np.array(image.grid.affine)
    linear = affine[:-1, :-1]
    last = np.where(flips, size - 1, 0)
    affine[:-1, -1] += linear @ last
    signed = linear * np.where(flips, -1.0, 1.0)
    # Adding zero turns -0.0 into 0.0.
    affine[:-1, :-1] = signed[:, order] + 0.0
    shape = tuple(int(n) for n in size[list(order)])[::-1]
    ndim = image.grid.ndim
    # Array order is the reverse of index order.
    axes = [ndim - 1 - order[ndim - 1 - k] for k in range(ndim)]
    steps = tuple(slice(None, None, -1 if flips[ndim - 1 - k] else 1) for k in range(ndim))

    def turned(part: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.ascontiguousarray(part[steps].transpose(axes))

    return Image(
        np.stack([turned(channel) for channel in image.data]),
        Grid(shape, affine, image.grid.crs),
        None if image.mask is None else turned(image.mask).astype(bool),
        None if image.labels is None else turned(image.labels),  # type: ignore[arg-type]
        image.modality,
    )


def choose_working_spacing(
    grid: Grid, wanted: float | Sequence[float] | None, reference: Grid | None
) -> NDArray[np.float64] | None:
    """Return the spacing to resample to, ``(x, y, z)`` order, or None to keep the grid.

    Args:
        grid: the image's own grid.
        wanted: the configured spacing. None keeps the image's own, but along axes on which the
            image is finer than the reference's finest spacing it takes that: finer detail cannot
            steer a registration on the reference's grid, it can only alias.
        reference: the fixed image's working grid; None for the fixed image itself.
    """
    if wanted is not None:
        spacing = np.broadcast_to(np.asarray(wanted, dtype=np.float64), (grid.ndim,))
    elif reference is not None:
        finest = reference.spacing.min()
        spacing = np.where(grid.spacing < FINER_BY * finest, finest, grid.spacing)
    else:
        return None
    return None if np.allclose(spacing, grid.spacing, rtol=1e-3) else np.array(spacing)


def _nearest_axes(grid: Grid) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Return which index axis runs along each world axis, and which index axes run backwards."""
    cosines = grid.direction
    along = range(grid.ndim)
    order = max(permutations(along), key=lambda axes: sum(abs(cosines[k, axes[k]]) for k in along))
    flips = np.zeros(grid.ndim, dtype=bool)
    for world, axis in enumerate(order):
        flips[axis] = cosines[world, axis] < 0
    return order, flips
