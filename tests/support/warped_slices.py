"""Pairs of real brain slices with a known smooth warp between them: 3-D's questions at 2-D's price."""

import numpy as np
import torch
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.transform import DisplacementField
from regflow.methods.refine import velocity_torch

SPACING_MM = 4.0


def slices(image: Image) -> list[NDArray[np.float32]]:
    """Axial slices of the brain at 4 mm, 56x48, 0 to 1."""
    data = image.channel[10:38, 1:57, :48] / image.channel.max()
    return [np.ascontiguousarray(part, dtype=np.float32) for part in data]


def random_velocity(shape: tuple[int, ...], seed: int, longest: float = 2.5) -> torch.Tensor:
    """A smooth velocity at half resolution, ``(1, d, *shape / 2)``; ``longest`` in whole samples."""
    generator = torch.Generator().manual_seed(seed)
    knots = torch.randn(1, len(shape), *[max(2, n // 12) for n in shape], generator=generator)
    velocity = velocity_torch.resize_channels(knots, [n // 2 for n in shape])
    return velocity * (longest / 2 / velocity.norm(dim=1).max())


def warped_pair(image: Image, seed: int) -> tuple[Image, Image, DisplacementField]:
    """A slice, the same warped, and the true field from fixed to moving points."""
    data = slices(image)[13]
    grid = Grid.from_geometry(data.shape, (SPACING_MM,) * 2, (10.0, -20.0))
    velocity = random_velocity(data.shape, seed)
    forward, backward = (
        velocity_torch.to_displacement_field(velocity_torch.integrate_velocity(sign * velocity), grid)
        for sign in (1, -1)
    )
    moving = resample_array(data, grid, grid, backward)
    return Image(data[None], grid, data > 0.05), Image(moving[None], grid, moving > 0.05), forward
