"""A real brain moved by a known affine, for tests of initializers."""

import numpy as np
from scipy.spatial.transform import Rotation

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_image
from regflow.core.transform import Affine, Transform


def known_affine(fixed: Image, degrees: float, shift_mm: float, stretch: float = 1.0) -> Affine:
    """Return a turn about a fixed oblique axis, a stretch and a shift; the truth of :func:`moved`."""
    axis = np.array([0.48, -0.6, 0.64])
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()
    shift = shift_mm * np.array([0.6, 0.64, -0.48])
    return Affine.from_parts(turn @ np.diag([stretch, 1.0, 1 / stretch]), shift, fixed.grid.center)


def moved(fixed: Image, truth: Affine) -> Image:
    """Return the image that ``truth`` maps ``fixed`` into, on a grid that holds all of it."""
    size = np.array([70, 70, 70])
    spacing = fixed.grid.spacing
    origin = truth.apply(fixed.grid.center[None])[0] - (size - 1) / 2 * spacing
    grid = Grid.from_geometry(size.tolist(), spacing.tolist(), origin.tolist())
    image = resample_image(fixed, grid, truth.inverse())
    return image.with_mask(image.channel > 0.05 * image.channel.max())


def inverted(image: Image) -> Image:
    """Return the image in a contrast where bright is dark inside the mask."""
    data = np.where(image.mask, image.channel.max() * 1.05 - image.channel, 0).astype(np.float32)
    return image.with_data(data)


def error_mm(fixed: Image, found: Transform, truth: Transform) -> float:
    """Return the mean distance between two transforms inside the fixed mask."""
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::10, ::-1])
    return float(np.linalg.norm(found.apply(points) - truth.apply(points), axis=1).mean())
