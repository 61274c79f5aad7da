"""Climbs of mutual information from many maps between two pictures, which are prepared once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.methods.initialize.agreement import find_content
from regflow.methods.initialize.information import InformationLevel, InformationMetric, prepare_levels
from regflow.methods.initialize.planar import Matrix, PixelPair
from regflow.methods.initialize.poses import optimize_pose, to_2d, to_3d

ACROSS = (96, 192)
"""Pixels along the fixed picture's longest side at which whole pictures are climbed, coarse to fine."""
SHOWN_ACROSS = 256
"""The same of what both pictures show, at the end."""
ITERATIONS = 40


@dataclass(frozen=True, eq=False)
class InformationClimber:
    """Climbs from maps of a pair's pixels.

    Whole pictures are climbed first, as outlines lead from afar; then what they show, without plain
    surroundings, tells where it ends.

    Attributes:
        pair: both pictures.
        bins: of the joint histogram.
    """

    pair: PixelPair
    bins: int

    def __call__(self, pixels: Matrix, transform: str) -> Matrix | None:
        """Return the map that a climb from an affine map of pixels ends at; None where there is no overlap.

        Args:
            pixels: ``(3, 3)`` from fixed to moving pixels.
            transform: what may change: ``rigid``, ``similarity`` or ``affine``.
        """
        for levels in (self._whole, self._shown):
            for level in levels:
                pose = to_3d(pixels)
                pose[:3, 3] += pose[:3, :3] @ level.center
                found = optimize_pose(
                    InformationMetric(level), pose, np.eye(4), 2, transform=transform, iterations=ITERATIONS
                )
                if not found.value > 0:
                    return None
                back = np.array(found.pose)
                back[:3, 3] -= back[:3, :3] @ level.center
                pixels = to_2d(back, 2)
        return pixels

    @cached_property
    def _whole(self) -> list[InformationLevel]:
        return self._prepare((self.pair.fixed, self.pair.moving), ACROSS)

    @cached_property
    def _shown(self) -> list[InformationLevel]:
        """Return the pictures where they show something; none where that is too little."""
        parts = []
        for image in (self.pair.fixed, self.pair.moving):
            shown = find_content(image)
            parts.append(image.with_mask(shown) if shown.any() else image)
        try:
            return self._prepare((parts[0], parts[1]), (SHOWN_ACROSS,))
        except RegistrationError:
            return []

    def _prepare(self, images: tuple[Image, Image], across: Sequence[int]) -> list[InformationLevel]:
        with ThreadPoolExecutor(1) as workers:
            return prepare_levels(*images, across, self.bins, workers)
