"""Weighted mean and covariance of a scene, from those of its tiles."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Sum of weights, weighted mean and scatter of ``m`` variables.

    Attributes:
        weight: sum of the weights.
        mean: ``(m,)``.
        scatter: ``(m, m)`` sum of ``w (x - mean)(x - mean)'``.
    """

    weight: float
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> "Moments":
        """Take the moments of ``rows (n, m)`` with ``weights (n,)``, all 1 when not given."""
        from regflow.methods.detect.kernels import sum_weighted_moments

        weights = np.ones(len(rows)) if weights is None else weights
        return cls(*sum_weighted_moments(np.ascontiguousarray(rows), weights))

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The weighted covariance ``(m, m)``, normalized by the sum of weights."""
        return self.scatter / self.weight

    def __add__(self, other: "Moments") -> "Moments":
        """Merge by the update of Chan, Golub and LeVeque (1983), which keeps the digits."""
        total = self.weight + other.weight
        if total == 0.0:
            return self
        share = other.weight / total
        step = other.mean - self.mean
        mean = self.mean + step * share
        return Moments(
            total, mean, self.scatter + other.scatter + np.outer(step, step) * (self.weight * share)
        )


def merge_moments(parts: Iterable[Moments]) -> Moments:
    """Merge moments in the order given.

    Raises:
        ValueError: there are none.
    """
    total: Moments | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise ValueError("no moments to merge")
    return total
