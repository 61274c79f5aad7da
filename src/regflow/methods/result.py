"""What a method hands back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.transform import Transform

if TYPE_CHECKING:
    from regflow.methods.matching.tie_point_set import TiePoints


@dataclass(frozen=True, eq=False)
class LandmarkErrors:
    """How far landmarks lie from a map that was fitted to them.

    Attributes:
        left_out: by name, the distance from where the fit of all others puts it, in moving world units.
        outliers: names of those that contradict the others, which the fit left out altogether.
    """

    left_out: Mapping[str, float]
    outliers: tuple[str, ...] = ()

    @classmethod
    def from_pairs(
        cls, pairs: LandmarkPairs, left_out: NDArray[np.float64], used: NDArray[np.bool_]
    ) -> "LandmarkErrors":
        """Name the errors ``(N,)`` of landmarks, and those that were not used."""
        named = zip(pairs.fixed.names, left_out.tolist(), used.tolist(), strict=True)
        records = list(named)
        return cls(
            {name: error for name, error, _ in records}, tuple(name for name, _, kept in records if not kept)
        )

    def list_figures(self, unit: str, size: float = 1.0) -> dict[str, float]:
        """Return how far those lie that were used, root mean square and most, and how many contradict them.

        Args:
            unit: of the figures, for their names: ``mm``, ``px``.
            size: of that unit in moving world units.
        """
        used = np.array([error for name, error in self.left_out.items() if name not in self.outliers]) / size
        return {
            f"left_out_rms_{unit}": float(np.sqrt(np.mean(used**2))),
            f"left_out_max_{unit}": float(used.max()),
            "landmarks_used": float(len(used)),
            "landmarks_outliers_percent": 100.0 * len(self.outliers) / len(self.left_out),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {"left_out": dict(self.left_out), "outliers": list(self.outliers)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "LandmarkErrors":
        """Rebuild from :meth:`to_dict`."""
        return cls(dict(content["left_out"]), tuple(content["outliers"]))


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What a method found, for those that have more to tell than a transform.

    Attributes:
        transform: from fixed to moving world points.
        tie_points: the correspondences behind it; None for methods that measure none.
        landmarks: how far given landmarks lie from it; None for methods that are not driven by them.
        labels_used: whether it was driven by both images' label maps.
    """

    transform: Transform
    tie_points: "TiePoints | None" = None
    landmarks: LandmarkErrors | None = None
    labels_used: bool = False
