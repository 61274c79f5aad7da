"""Which sections lie out of order: those that look like sections elsewhere, and not like their neighbors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regflow.methods.stack.section_picture import Plane

Array = NDArray[np.float64]

ACROSS = 40
"""Pixels along the longer side at which all sections are compared with all."""
NEAR = 2
"""Places within which a section may lie off unseen."""
CLEARLY = 0.04
DEVIATIONS = 4.0
"""By how much more alike, in correlation, the sections around another place must be, and by how many times the
usual scatter a section must be less alike to its neighbors than others are to theirs."""


def compare_all(planes: Sequence[Plane]) -> Array:
    """Return the correlation of all sections on the block's plane with one another, ``(N, N)``."""
    import cv2

    rows, columns = planes[0].shape
    scale = min(1.0, ACROSS / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA).ravel() for plane in planes]
    values = np.array(small, np.float64)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.sqrt((values**2).sum(axis=1, keepdims=True)), 1e-12)
    # Not by a product of matrices, whose last bits depend on the threads.
    return np.array([(values * row).sum(axis=1) for row in values])


def find_misplaced(alike: Array) -> dict[int, int]:
    """Return the places of sections out of order, and the place before which each belongs.

    Args:
        alike: of all sections with all, ``(N, N)``.
    """
    count = len(alike)
    if count < 2 * NEAR + 3:
        return {}
    own = np.array([max(alike[i, j] for j in (i - 1, i + 1) if 0 <= j < count) for i in range(count)])
    middle = float(np.median(own))
    scatter = max(1.4826 * float(np.median(np.abs(own - middle))), 0.01)
    suspects = [i for i in range(count) if own[i] < middle - DEVIATIONS * scatter]
    found = {}
    for suspect in suspects:
        others = [i for i in range(count) if i != suspect and i not in suspects]
        best, place = _find_gap(alike[suspect], others)
        if best > own[suspect] + CLEARLY and not suspect - NEAR <= place <= suspect + NEAR + 1:
            found[suspect] = place
    return found


def _find_gap(alike: Array, others: Sequence[int]) -> tuple[float, int]:
    """Return how alike a section is to those around the gap that suits it best, and the place after it."""
    gaps = [(float(alike[a] + alike[b]) / 2, b) for a, b in zip(others, others[1:], strict=False)]
    ends = [(float(alike[others[0]]), others[0]), (float(alike[others[-1]]), others[-1] + 1)]
    # At an end one neighbor speaks for two.
    ends = [(value - CLEARLY / 2, place) for value, place in ends]
    return max(gaps + ends, key=lambda each: (each[0], -each[1]))


def move_misplaced(order: Sequence[int], found: dict[int, int]) -> list[int]:
    """Return an order in which misplaced sections stand where they belong.

    Args:
        order: numbers of sections.
        found: of :func:`find_misplaced`, by place in the order.
    """
    keys = [(found[place] - 0.5 if place in found else float(place), place) for place in range(len(order))]
    return [order[place] for _, place in sorted(keys)]
