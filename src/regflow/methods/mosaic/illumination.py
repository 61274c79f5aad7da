"""The uneven light of a camera, from the tiles themselves: what all of them have in common is no scene.

A polynomial of the fourth degree holds vignetting and a tilted lamp, and nothing finer; it is fitted to the
median of the tiles' logarithms on a coarse grid, so bright objects and empty tiles do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

DEGREE = 4
CELLS = 24
"""Cells along a side of the coarse grid on which tiles are summarized."""
FEWEST_TILES = 8
"""Below, what tiles have in common may well be the scene."""
LEAST_AGREEMENT = 0.8
"""Correlation of the lights that either half of the tiles tells, below which there is none in common."""
DARKEST = 0.2
"""Lowest light that is corrected for, as a part of the mean."""


@dataclass(frozen=True)
class Illumination:
    """How bright a camera sees an even scene, over its field: 1 on average.

    Attributes:
        coefficients: of the logarithm, of the products of powers of x and y from -1 to 1; empty for even
            light.
    """

    coefficients: tuple[float, ...] = ()

    def compute(self, rows: ArrayLike, columns: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return the light at rows and columns of a tile of some shape, ``(len(rows), len(columns))``."""
        y, x = _scale(np.asarray(rows, float), shape[0]), _scale(np.asarray(columns, float), shape[1])
        light = np.zeros((len(y), len(x)))
        for value, (i, j) in zip(self.coefficients, _list_powers(), strict=False):
            light += value * np.outer(y**j, x**i)
        return np.asarray(np.maximum(np.exp(light), DARKEST), np.float32)

    @property
    def falloff(self) -> float:
        """How much darker the darkest place is than the brightest one, as a part of it."""
        if not self.coefficients:
            return 0.0
        light = self.compute(np.arange(CELLS), np.arange(CELLS), (CELLS, CELLS))
        return float(1 - light.min() / light.max())


def summarize_tile(values: NDArray[np.generic]) -> Array:
    """Return the means of a tile's cells, ``(CELLS, CELLS)``, of values ``(rows, columns)``."""
    sums = np.asarray(values, np.float64)
    for axis, size in enumerate(values.shape):
        edges = np.linspace(0, size, CELLS + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, size))
        sums = np.add.reduceat(sums, edges, axis=axis) / np.expand_dims(counts, 1 - axis)
    return sums


def estimate_illumination(summaries: Sequence[Array]) -> Illumination:
    """Estimate the light from tiles' summaries: even where they are few, dark, or have none in common."""
    usable = [each for each in summaries if float(np.median(each)) > 0]
    if len(usable) < FEWEST_TILES:
        return Illumination()
    floor = 1e-3 * float(np.median([np.median(each) for each in usable]))
    logs = np.log(np.maximum(np.stack(usable), floor))
    logs -= np.median(logs, axis=(1, 2), keepdims=True)
    place = _scale(np.arange(CELLS, dtype=float), CELLS)
    x, y = np.meshgrid(place, place)
    design = np.stack([(x**i * y**j).ravel() for i, j in _list_powers()], axis=1)
    halves = [design @ _fit_common(design, logs[start::2]) for start in (0, 1)]
    if np.asarray(np.corrcoef(np.stack(halves)))[0, 1] < LEAST_AGREEMENT:
        return Illumination()
    found = _fit_common(design, logs)
    light = np.exp(design @ found)
    found[0] -= np.log(light.mean())
    return Illumination(tuple(found.tolist()))


def _fit_common(design: Array, logs: Array) -> Array:
    """Return the coefficients of what tiles ``(N, CELLS, CELLS)`` have in common."""
    common = np.median(logs, axis=0)
    found, *_ = np.linalg.lstsq(design, common.ravel() - common.mean(), rcond=None)
    return np.asarray(found)


def _list_powers() -> list[tuple[int, int]]:
    """Return the exponents of x and y, those of the constant first."""
    return [(i, total - i) for total in range(DEGREE + 1) for i in range(total + 1)]


def _scale(places: Array, size: int) -> Array:
    """Return places in pixels as numbers from -1 to 1."""
    return (2 * places + 1) / size - 1
