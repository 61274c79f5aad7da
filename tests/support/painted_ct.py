"""Real brains repainted as CT, in air and padding, moved by a known warp."""

import numpy as np

from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.datasets.subjects import Truth, draw_affine, draw_truth, make_subject_grid

AIR = -1000.0
INTENSITY = [0.0, 0.25, 0.45, 0.7, 0.85, 1.0]
HOUNSFIELD = [0.0, 5.0, 25.0, 40.0, 30.0, 26.0]
"""Fluid, gray and white matter of a T1-weighted brain, and what they have in CT."""


def painted(t1: Image, padding: float | None = None, noise: float = 3.0, seed: int = 0) -> Image:
    """Give a stripped T1-weighted brain Hounsfield units in noisy air, its borders mixed with it.

    Args:
        t1: zero outside the brain.
        padding: value outside the round field of view; None for air there too.
        noise: standard deviation, HU.
        seed: of the noise.
    """
    unit = t1.channel / np.percentile(t1.channel[t1.channel > 0], 99)
    share = np.clip(unit / 0.1, 0, 1)
    values = share * np.interp(unit, INTENSITY, HOUNSFIELD) + (1 - share) * AIR
    noisy = values + np.random.default_rng(seed).normal(0, noise, values.shape)
    whole = np.rint(noisy).astype(np.float32)
    return Image(whole[None], t1.grid) if padding is None else padded(Image(whole[None], t1.grid), padding)


def padded(image: Image, padding: float) -> Image:
    """Replace what lies outside the cylinder that fits into the grid."""
    _, rows, columns = image.grid.shape
    y, x = (np.linspace(-1, 1, count) for count in (rows, columns))
    outside = np.hypot(*np.meshgrid(y, x, indexing="ij")) > 1
    return image.with_data(np.where(outside, np.float32(padding), image.channel))


def moved_ct(t1: Image, padding: float | None, seed: int = 3) -> tuple[Image, Truth]:
    """Return a brain as CT under a known warp and pose, and that truth."""
    pose = draw_affine(t1.grid.center, seed, 5.0, 5.0, 0.04, 0.02)
    truth = draw_truth(t1.grid, seed, 8.0, 18.0, pose)
    grid = make_subject_grid(t1.grid, truth, t1.grid.spacing.tolist())
    values = resample_array(t1.channel, t1.grid, grid, truth.backward, "cubic")
    brain = Image(np.maximum(values, 0)[None].astype(np.float32), grid)
    return painted(brain, padding, seed=seed), truth
