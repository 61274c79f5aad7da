"""Small images moved by several times the size of their structures, for the methods that seek such motion."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from regflow.core import fields
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import DisplacementField, Transform

SHAPES = {2: (120, 136), 3: (32, 40, 36)}
LONGEST = {2: 12.0, 3: 7.0}
"""Of the displacements, in samples; the finest structures are 3 samples wide."""


def make_texture(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """Blobs of several sizes, 0 to 1."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=shape), sigma, mode="nearest") for sigma in (1.5, 3.0)]
    image = sum(layer / layer.std() for layer in layers)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def make_bump(shape: tuple[int, ...], longest: float) -> NDArray[np.float32]:
    """A smooth voxel field that fades out towards the border."""
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    fade = np.prod(np.cos(places * np.pi / 2), axis=0)
    direction = np.array([0.6, -0.8, 0.5])[: len(shape)]
    field = direction.reshape(-1, *[1] * len(shape)) * fade
    return (field * longest / np.linalg.norm(field, axis=0).max()).astype(np.float32)


def make_pair(ndim: int, other_contrast: bool = False) -> tuple[Image, Image, NDArray[np.float32]]:
    """Return the fixed and the moving image, and the true voxel field: fixed(x) = moving(x + u(x))."""
    moving = make_texture(SHAPES[ndim])
    truth = make_bump(moving.shape, LONGEST[ndim])
    fixed = fields.warp_channels(moving, truth)
    if other_contrast:
        moving = np.square(moving - 0.45)
    if ndim == 2:
        grid = Grid(moving.shape, np.array([[10.0, 0, 5e5], [0, -10.0, 5.8e6], [0, 0, 1]]), "EPSG:32633")
    else:
        grid = Grid.from_geometry(moving.shape, (2.0, 2.0, 2.0), (5.0, -3.0, 8.0))
    return Image(fixed[None], grid), Image(moving[None], grid), truth


def measure_error(found: Transform, fixed: Image, truth: NDArray[np.float32], margin: int = 6) -> float:
    """Return the mean error in samples, but for a margin, of which the moving image may lack the partners."""
    true = DisplacementField(fields.to_world(truth, fixed.grid), fixed.grid)
    axes = [np.arange(margin, n - margin, 3) for n in fixed.grid.size]
    points = fixed.grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, len(axes)))
    error = np.linalg.norm(found.apply(points) - true.apply(points), axis=1)
    return float(error.mean() / fixed.grid.spacing.min())
