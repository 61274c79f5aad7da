"""Crops of one place whose corners were moved: examples of known truth for networks that align scenes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from regflow.methods.initialize.plane_maps_torch import CORNERS
from regflow.training.images import AlignedImages
from regflow.training.painting import Array

LEAST_DEPTH = 0.25
"""Of the corners by a map, in that of its middle: flatter views are drawn anew."""
SMOOTHED, BLURS = 0.3, (1.0, 5.0)
"""How often both crops lose their texture, and by what blur, pixels."""
RELIT = 0.6
NOISES = (0.0, 0.03)


@dataclass(frozen=True, eq=False)
class MovedCrops:
    """Draws examples.

    Attributes:
        images: what they are cut from.
        side: of a crop, pixels.
        same_band: how often both crops show one band.
        reach: by how much a corner moves, in sides of the crop.
    """

    images: AlignedImages
    side: int
    same_band: float
    reach: float

    def draw(self, rng: np.random.Generator) -> Mapping[str, Tensor]:
        """Draw an example.

        Returns:
            ``crops`` ``(2, side, side)``, fixed and moving, and ``shifts`` ``(4, 2)`` of the corners in
            normalized coordinates (:mod:`~regflow.methods.initialize.plane_maps_torch`).
        """
        import cv2

        wide = 2 * self.side
        places = self.images.draw(wide, self.same_band, rng)
        first = (wide - self.side) // 2
        fixed = places[0][first : first + self.side, first : first + self.side]
        shifts, back = self._draw_map(rng)
        offset = np.array([[1, 0, first], [0, 1, first], [0, 0, 1.0]])
        moving = cv2.warpPerspective(
            places[1],
            offset @ back,
            (self.side, self.side),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        crops = _change_looks(np.stack([fixed, moving]).astype(np.float32), rng)
        return {"crops": torch.from_numpy(crops), "shifts": torch.from_numpy(shifts.astype(np.float32))}

    def _draw_map(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw shifts of the corners, normalized, and the map of pixels from moving to fixed."""
        import cv2

        middle = (self.side - 1) / 2
        square = middle + self.side / 2 * np.array(CORNERS)
        while True:
            shifts = rng.uniform(-1, 1, square.shape) * self.reach * self.side
            moved = square + shifts
            back = cv2.getPerspectiveTransform(moved.astype(np.float32), square.astype(np.float32))
            depths = np.column_stack([np.concatenate([square, moved]), np.ones(8)]) @ back[2]
            depth = float(back[2] @ [middle, middle, 1])
            if (depths > LEAST_DEPTH * depth).all() and depth > 0:
                return shifts * (2 / self.side), np.asarray(back, np.float64)


def _change_looks(crops: Array, rng: np.random.Generator) -> Array:
    """Take texture away, give the crops light of their own, and noise."""
    if rng.random() < SMOOTHED:
        blur = rng.uniform(*BLURS)
        crops = np.stack([gaussian_filter(crop, blur) for crop in crops])
    if rng.random() < RELIT:
        crops = np.stack([_relight(crop, rng) for crop in crops])
    strength = rng.uniform(*NOISES) * np.ptp(crops, axis=(1, 2), keepdims=True)
    return np.asarray(crops + strength * rng.standard_normal(crops.shape), np.float32)


def _relight(crop: Array, rng: np.random.Generator) -> Array:
    """Give a crop another curve of brightness, a slope of light, and now and then a shadow's edge."""
    low, high = float(crop.min()), float(crop.max())
    scaled = ((crop - low) / max(high - low, 1e-6)) ** np.exp(rng.uniform(-0.9, 0.9))
    rows, columns = np.indices(crop.shape) / (len(crop) - 1.0) - 0.5
    angle, edge = rng.uniform(0, 2 * np.pi, 2)
    slope = 1 + rng.uniform(0, 0.7) * (np.cos(angle) * columns + np.sin(angle) * rows)
    across = np.cos(edge) * columns + np.sin(edge) * rows - rng.uniform(-0.4, 0.4)
    softness = rng.uniform(0.005, 0.05)
    lit = 1 - rng.uniform(0, 0.6) / (1 + np.exp(-np.clip(across / softness, -50, 50)))
    return np.asarray(scaled * slope * lit, np.float32)
