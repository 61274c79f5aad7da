"""Patches around corners, seen in several bands from slightly different places: examples for descriptors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.methods.initialize.features.detectors import find_harris_corners
from regflow.methods.initialize.features.learned_patches import CORNER_SCALE
from regflow.training.images import BandImages
from regflow.training.painting import Array

ACROSS = 3
"""Sides of a patch along a picture that patches are cut from."""
MISSED = 1.0
"""By how many pixels a corner may be found elsewhere in another view, along each axis."""
NOISES = (0.0, 0.04)
"""Of a patch, in parts of its range."""


@dataclass(frozen=True, eq=False)
class PatchViews:
    """Draws patches of one place.

    Attributes:
        bands: that they are cut from.
        kinds: by name, numbers of the bands that a view may show; corners are found in the first.
        side: of a patch, pixels.
        points: corners of a place.
        scale: largest factor of size either way between views.
        turn: largest rotation either way between views, degrees.
    """

    bands: BandImages
    kinds: Mapping[str, list[int]]
    side: int
    points: int
    scale: float
    turn: float

    def draw(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        """Draw an example: by kind, patches ``(points, side, side)``; row k of all shows one corner."""
        pictures = self.bands.draw_looks(list(self.kinds.values()), ACROSS * self.side, rng)
        corners = self._choose_corners(pictures[0], rng)
        return {
            kind: torch.from_numpy(np.stack([self._see(picture, corner, rng) for corner in corners]))
            for kind, picture in zip(self.kinds, pictures, strict=True)
        }

    def _choose_corners(self, picture: Array, rng: np.random.Generator) -> NDArray[Any]:
        """Return corners away from the border; what it has not, random places give."""
        inside = np.zeros(picture.shape, bool)
        inside[self.side : -self.side, self.side : -self.side] = True
        corners, _ = find_harris_corners(picture, CORNER_SCALE, inside)
        corners = corners[rng.permutation(len(corners))[: self.points]]
        others = rng.integers(self.side, picture.shape[0] - self.side, (self.points - len(corners), 2))
        return np.concatenate([corners, others])

    def _see(self, picture: Array, corner: NDArray[Any], rng: np.random.Generator) -> Array:
        import cv2

        scale = self.scale ** rng.uniform(-1, 1)
        angle = np.deg2rad(rng.uniform(-self.turn, self.turn))
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        place = corner + rng.uniform(-MISSED, MISSED, 2)
        pose = np.column_stack([linear, place - linear @ np.full(2, self.side // 2)])
        seen = cv2.warpAffine(
            picture, pose, (self.side, self.side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        noise = rng.uniform(*NOISES) * float(np.ptp(seen)) * rng.standard_normal(seen.shape)
        return np.asarray(seen + noise, np.float32)
