"""Landmarks: named points of one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points of one image.

    Attributes:
        names: one for each point.
        points: ``(N, 3)`` LPS millimeters, or ``(N, 2)`` world units of a plane; float64.
        weights: ``(N,)`` above 0, how much each counts in a fit; None when all count alike.
    """

    names: tuple[str, ...]
    points: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        points = np.array(self.points, dtype=np.float64)
        if points.ndim != 2:
            points = points.reshape(-1, 3)
        if len(points) != len(self.names):
            raise ValueError(f"{len(self.names)} names for {len(points)} points")
        object.__setattr__(self, "points", points)
        if self.weights is not None and len(self.weights) != len(points):
            raise ValueError(f"{len(self.weights)} weights for {len(points)} points")

    def __len__(self) -> int:
        return len(self.names)

    def take(self, places: ArrayLike) -> "Landmarks":
        """Return the landmarks at some places, in that order."""
        chosen = np.asarray(places, dtype=np.intp)
        weights = None if self.weights is None else self.weights[chosen]
        return Landmarks(tuple(self.names[place] for place in chosen), self.points[chosen], weights)
