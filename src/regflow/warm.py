"""``python -m regflow.warm``: compile the kernels once, so that no first run waits for it.

Numba keeps what it compiled beside the sources. The methods run here on a small pair as they run on
a large one, so that every kernel is compiled for the types it will meet.
"""

import numpy as np

from regflow.config import defaults
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.methods.refine.greedy_options import GREEDY
from regflow.presets import merged
from regflow.stages.initialize import align
from regflow.stages.rasters.refine import refine_scene
from regflow.stages.refine import deform

SAMPLES = 32
"""Along each axis of the small pair."""
PIXELS = 200
"""Along each axis of the small scenes."""


def blob(center: float) -> Image:
    """Return a smooth bright spot with a mask, ``(1, 32, 32, 32)`` float32 at 4 mm."""
    axis = (np.arange(SAMPLES) - SAMPLES / 2 - center) / SAMPLES
    radius = axis[:, None, None] ** 2 + 2 * axis[None, :, None] ** 2 + 3 * axis[None, None, :] ** 2
    data = np.exp(-20 * radius, dtype=np.float32)
    grid = Grid.from_geometry(data.shape, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    return Image(data[None], grid, data > 0.02)


def scene(shift: int) -> Image:
    """Return random texture, ``(1, 200, 200)`` float32, that lies ``shift`` pixels to the left."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(size=(PIXELS, 2 * PIXELS))
    data = gaussian_filter(noise, 1.5)[:, shift : shift + PIXELS].astype(np.float32)
    return Image(data[None], Grid(data.shape, np.eye(3)), np.ones(data.shape, bool))


def warm() -> None:
    """Run every method that has kernels of its own, with every metric, on a small pair."""
    warm_volumes()
    refine_scene(scene(0), scene(1), Affine.identity(2), {"methods": ["tie-points"]}, threads=2)


def warm_volumes() -> None:
    """Run what volumes need, and the greedy engine of both kinds."""
    fixed, moving = blob(0.0), blob(1.0)
    settings = defaults()
    align(fixed, moving, merged(settings["initialize"], {"methods": ["mutual-information"]}), threads=2)
    for metric in GREEDY["metric"]["enum"]:
        greedy = {"metric": metric, "iterations": [2, 2, 2]}
        options = {"methods": ["greedy"], "options": {"greedy": greedy}}
        deform(fixed, moving, Affine.identity(3), merged(settings["refine"], options), threads=2)


if __name__ == "__main__":
    warm()
