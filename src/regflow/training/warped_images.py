"""Pairs of two pictures of one place, hardly spoiled, each warped in a known way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regflow.methods.refine.velocity_torch import sample_channels
from regflow.training.deformations import DrawDeformations, draw_related_deformations
from regflow.training.images import AlignedImages
from regflow.training.pairs import TrainingPair

LONGEST = 10.0
"""Bound of a deformation's velocity, samples; few draws come near."""
ROOM = 16
"""Pixels about a patch, so that what is warped into it is there."""
NOISE = 0.03


@dataclass(frozen=True, eq=False)
class WarpedImages:
    """Draws pairs of pictures.

    Attributes:
        images: draws two pictures of one place.
        same: how often both show one band or contrast.
        deform: draws how the place is deformed for both.
    """

    images: AlignedImages
    same: float
    deform: DrawDeformations = draw_related_deformations

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> TrainingPair:
        """Draw a pair of two dimensions, its sides equal: its truth is known."""
        alike = bool(rng.random() < self.same)
        pictures = self.images.draw(shape[0] + 2 * ROOM, float(alike), rng)
        deformed = self.deform(shape, LONGEST * rng.uniform(0.2, 1.0), rng)
        sides = (ROOM,) * (2 * len(shape))
        seen = []
        for picture, field in zip(pictures, (deformed.fixed, deformed.moving), strict=True):
            wide = torch.nn.functional.pad(field, sides, mode="replicate")
            image = sample_channels(torch.from_numpy(picture)[None, None], wide)[0]
            inner = image[(slice(None), *(slice(ROOM, -ROOM) for _ in shape))]
            noise = rng.uniform(0, NOISE) * rng.standard_normal(inner.shape, dtype=np.float32)
            seen.append(inner + torch.from_numpy(noise))
        return TrainingPair(seen[0], seen[1], deformed.truth[0], torch.ones_like(seen[0]), alike=alike)
