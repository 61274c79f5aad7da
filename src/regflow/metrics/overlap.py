"""How much two label maps agree: the Dice coefficient of each structure (Dice, 1945)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError

Labels = NDArray[np.integer[Any]]

COUNTABLE = 1 << 22
"""Label values below this are counted by a histogram, others by sorting, which is slower."""


def dice(first: Labels, second: Labels, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Return ``2 |A and B| / (|A| + |B|)`` of each structure, 0 to 1.

    Args:
        first: label map, 0 = background.
        second: label map on the same grid.
        labels: which structures; all nonzero ones of either map when None.

    Returns:
        By label in rising order; NaN for a structure that is in neither map.

    Raises:
        InputError: the two maps differ in shape.
    """
    if first.shape != second.shape:
        raise InputError(f"label maps of shape {first.shape} and {second.shape} cannot be compared")
    in_first, in_second = count_labels(first), count_labels(second)
    in_both = count_labels(np.where(first == second, first, 0))
    wanted = sorted(set(in_first) | set(in_second) if labels is None else set(labels))
    scores = {}
    for label in wanted:
        total = in_first.get(label, 0) + in_second.get(label, 0)
        scores[label] = 2 * in_both.get(label, 0) / total if total else float("nan")
    return scores


def count_labels(labels: Labels) -> dict[int, int]:
    """Return how many samples each nonzero label has, labels in rising order."""
    if labels.size and labels.min() >= 0 and labels.max() < COUNTABLE:
        histogram = np.bincount(labels.ravel())
        values = np.flatnonzero(histogram)
        counts = histogram[values]
    else:
        values, counts = np.unique(labels, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True) if v != 0}
