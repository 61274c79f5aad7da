"""A real band as a series: small windows of one place that drift by known shifts."""

from collections.abc import Sequence

import numpy as np
from support import linear_scenes

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.datasets.modalities import make_linear_truth, move_linearly

SIDE = 96


def window() -> Image:
    """Return a part of a real band, 96 x 96 pixels of 10 m."""
    band = linear_scenes.band("B04")
    data = np.ascontiguousarray(band.data[:, 40 : 40 + SIDE, 40 : 40 + SIDE])
    return Image(data, Grid((SIDE, SIDE), band.grid.affine, band.grid.crs), np.ones((SIDE, SIDE), bool))


def drift(shifts: Sequence[Sequence[float]]) -> dict[str, Image]:
    """Return the window moved by shifts ``(x, y)`` in pixels, under the names t1, t2 ..."""
    still = window()
    return {
        f"t{number}": move_linearly(still, make_linear_truth(still.grid, shift))
        for number, shift in enumerate(shifts, 1)
    }


def cloud() -> Image:
    """Return a date that shows nothing but a cloud."""
    still = window()
    noise = np.random.default_rng(4).normal(3000, 200, (SIDE, SIDE)).astype(np.float32)
    return Image(noise[None], still.grid, np.ones((SIDE, SIDE), bool))


def measure_shifts(transforms) -> np.ndarray:
    """Return by how many pixels maps shift the window's middle, less their mean, ``(N, 2)`` as drawn."""
    grid = window().grid
    center = grid.center[None]
    found = np.array([(each.apply(center) - center)[0] for each in transforms.values()])
    pixels = found / grid.spacing
    return pixels - pixels.mean(axis=0)
