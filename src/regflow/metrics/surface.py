"""How far the surfaces of two structures lie apart, in millimeters.

A structure's surface is made of its samples that have a face neighbor outside it. Distances run
between sample centers, from every sample of one surface to the nearest of the other. A search tree
over the surfaces gives the same numbers as a distance transform of the volume, and its cost grows
with the surfaces alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import InputError
from regflow.metrics.overlap import count_labels

Labels = NDArray[np.integer[Any]]
PERCENTILE = 95.0


@dataclass(frozen=True)
class SurfaceDistance:
    """Distances between two surfaces; NaN when either structure is missing.

    Attributes:
        hd95_mm: the larger of the two directed 95th percentiles (robust Hausdorff distance,
            Maier-Hein et al., 2024).
        asd_mm: mean over the samples of both surfaces (average symmetric surface distance).
    """

    hd95_mm: float
    asd_mm: float


MISSING = SurfaceDistance(float("nan"), float("nan"))


def measure_surface_distances(
    first: Labels,
    second: Labels,
    spacing: ArrayLike,
    labels: Iterable[int] | None = None,
    threads: int = 1,
) -> dict[int, SurfaceDistance]:
    """Return the surface distances of each structure.

    Args:
        first: label map, 0 = background.
        second: label map on the same grid.
        spacing: of the samples in mm, ``(x, y, z)`` order, the reverse of the array's axes.
        labels: which structures; all nonzero ones of either map when None.
        threads: most threads to use; the result does not depend on it.

    Raises:
        InputError: the two maps differ in shape.
    """
    if first.shape != second.shape:
        raise InputError(f"label maps of shape {first.shape} and {second.shape} cannot be compared")
    wanted = sorted({*count_labels(first), *count_labels(second)} if labels is None else set(labels))
    steps = np.asarray(spacing, dtype=np.float64)[::-1]
    surfaces = [_surfaces(part, wanted, steps) for part in (first, second)]
    return {label: _compare(surfaces[0][label], surfaces[1][label], threads) for label in wanted}


def _compare(first: NDArray[np.float64], second: NDArray[np.float64], threads: int) -> SurfaceDistance:
    from scipy.spatial import cKDTree

    if not len(first) or not len(second):
        return MISSING
    there, _ = cKDTree(second).query(first, workers=threads)
    back, _ = cKDTree(first).query(second, workers=threads)
    hd95 = max(float(np.percentile(way, PERCENTILE)) for way in (there, back))
    return SurfaceDistance(hd95, float((there.sum() + back.sum()) / (len(there) + len(back))))


def _surfaces(
    labels: Labels, wanted: list[int], steps: NDArray[np.float64]
) -> dict[int, NDArray[np.float64]]:
    """Return each structure's surface samples, ``(N, d)`` in mm along the array's axes."""
    padded = np.pad(labels, 1)
    inner = tuple(slice(1, -1) for _ in steps)
    border = np.zeros(labels.shape, dtype=bool)
    for axis in range(labels.ndim):
        for side in (slice(None, -2), slice(2, None)):
            neighbor = padded[tuple(side if a == axis else s for a, s in enumerate(inner))]
            border |= neighbor != labels
    border &= labels != 0
    index = np.argwhere(border)
    of_label = labels[border]
    order = np.argsort(of_label, kind="stable")
    ordered, points = of_label[order], index[order] * steps
    starts = np.searchsorted(ordered, wanted, side="left")
    ends = np.searchsorted(ordered, wanted, side="right")
    return {label: points[a:b] for label, a, b in zip(wanted, starts, ends, strict=True)}
