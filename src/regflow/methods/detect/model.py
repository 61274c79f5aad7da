"""What a change method comes to: variates of two dates whose difference is noise where nothing changed."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChangeModel:
    """Affine variates of two dates; their difference has unit covariance where nothing changed.

    With ``x`` and ``y`` the bands (or the indices) of a pixel at both dates, the difference is
    ``before @ x + offset - after @ y``, ``p`` numbers. The statistic is the sum of their squares and
    follows a chi-square distribution with ``p`` degrees of freedom on pixels that did not change.

    Attributes:
        before: ``(p, c)`` matrix for the first date.
        after: ``(p, d)`` matrix for the second date.
        offset: ``(p,)``.
        back: ``(p, p)`` matrix from the difference to the units in which the magnitude is given.
        indices: pairs of band positions, from 0; when given, ``x`` and ``y`` are the normalized
            differences ``(first - second) / (first + second)`` of these bands.
        unit: of the magnitude, for people.
    """

    before: Array
    after: Array
    offset: Array
    back: Array
    indices: tuple[tuple[int, int], ...] = ()
    unit: str = "standard deviations"

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of the statistic."""
        return len(self.offset)

    def compute_variates(self, before: NDArray[Any], after: NDArray[Any]) -> tuple[Array, Array]:
        """Return the variates of both dates, ``(p, *S)`` each, from bands ``(c, *S)`` and ``(d, *S)``."""
        return (
            _projected(self._features(before), self.before, self.offset),
            _projected(self._features(after), self.after, np.zeros_like(self.offset)),
        )

    def compute_difference(self, before: NDArray[Any], after: NDArray[Any]) -> Array:
        """Return the difference of the variates, ``(p, *S)``."""
        first, second = self.compute_variates(before, after)
        return np.subtract(first, second, out=first)

    def compute_magnitude(self, difference: Array) -> Array:
        """Return how large a change is, ``(*S)`` in :attr:`unit`."""
        units = _projected(difference, self.back, np.zeros_like(self.offset))
        return np.sqrt(compute_statistic(units))

    def whiten(self, mean: Array, root: Array) -> "ChangeModel":
        """Return the model whose difference has no mean and unit covariance.

        Args:
            mean: ``(p,)`` of this model's difference where nothing changed.
            root: ``(p, p)`` lower Cholesky factor of its covariance there.
        """
        whiten = np.linalg.inv(root)
        return replace(
            self,
            before=whiten @ self.before,
            after=whiten @ self.after,
            offset=whiten @ (self.offset - mean),
            back=self.back @ root,
        )

    def _features(self, values: NDArray[Any]) -> Array:
        if not self.indices:
            return np.asarray(values, dtype=np.float64)
        found = np.empty((len(self.indices), *values.shape[1:]))
        for row, (first, second) in zip(found, self.indices, strict=True):
            a, b = np.asarray(values[first], np.float64), np.asarray(values[second], np.float64)
            total = a + b
            np.divide(a - b, total, out=row, where=total != 0)
            row[total == 0] = 0.0
        return found


@dataclass(frozen=True, eq=False)
class ChangeModelFit:
    """A fitted model and how it came about.

    Attributes:
        model: the change model.
        figures: what the gate and the report look at, by names that carry their units.
        history: one record per iteration.
    """

    model: ChangeModel
    figures: dict[str, float]
    history: list[dict[str, float]] = field(default_factory=list)


def compute_statistic(difference: Array) -> Array:
    """Return the sum of squares over the variates, ``(*S)`` from ``(p, *S)``."""
    total = np.zeros(difference.shape[1:])
    for variate in difference:  # one after the other: numpy's own order of sums depends on the layout
        total += variate * variate
    return total


def compute_no_change_probability(values: Array, freedom: int) -> Array:
    """Return the chance of a statistic at least as large where nothing changed, in 0..1."""
    from regflow.methods.detect.kernels import compute_chi_square_survival

    out = np.empty(values.shape)
    compute_chi_square_survival(np.ascontiguousarray(values).reshape(-1), freedom, out.reshape(-1))
    return out


def find_chi_square_limit(level: float, freedom: int) -> float:
    """Return the statistic that a share ``level`` (0..1) of the unchanged pixels stays below."""
    from scipy.special import chdtri

    return float(chdtri(freedom, 1.0 - level))


def _projected(values: NDArray[Any], matrix: Array, offset: Array) -> Array:
    from regflow.methods.detect.kernels import project_values

    flat = np.ascontiguousarray(values, dtype=np.float64).reshape(len(values), -1)
    out = np.empty((len(matrix), flat.shape[1]))
    project_values(flat, np.ascontiguousarray(matrix), np.ascontiguousarray(offset), out)
    return out.reshape(len(matrix), *values.shape[1:])
