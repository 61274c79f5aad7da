"""Landmarks: named points of one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points of one image.

    Attributes:
        names: one for each point.
        points: ``(N, 3)`` LPS millimeters, float64.
    """

    names: tuple[str, ...]
    points: NDArray[np.float64]

    def __post_init__(self) -> None:
        points = np.array(self.points, dtype=np.float64).reshape(-1, 3)
        if len(points) != len(self.names):
            raise ValueError(f"{len(self.names)} names for {len(points)} points")
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        return len(self.names)
