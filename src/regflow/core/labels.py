"""Resampling of label maps that keeps borders smooth and invents no label."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.resample import resample_array
from regflow.core.transform import Affine, Transform

Labels = NDArray[np.integer[Any]]

POINTS_AT_ONCE = 1 << 18
"""Samples whose neighbors are looked up together; bounds the memory to about 100 MB."""

EQUAL_WEIGHTS = 1e-9
"""Sums of weights, of 1 in all, that differ by less are equal."""


def resample_labels(labels: Labels, source: Grid, target: Grid, transform: Transform | None = None) -> Labels:
    """Resample a label map by the vote of the samples around each point.

    Each label's indicator is interpolated linearly and the label with the most weight wins, the
    lower label of equals; outside the source is label 0. Only samples near a border between
    labels need the vote: elsewhere all neighbors agree and the nearest one is taken.

    Args:
        labels: integer ``source.shape`` array.
        source: the grid of ``labels``, moving.
        target: the grid of the result, fixed.
        transform: from target world points to source world points; identity when None.

    Returns:
        ``target.shape`` array of the type of ``labels``.
    """
    transform = transform or Affine.identity(target.ndim)
    result = np.array(resample_array(labels, source, target, transform, "nearest"))
    contested = resample_array(_near_border(labels), source, target, transform, "nearest")
    flat = result.reshape(-1)
    for members in _blocks(np.flatnonzero(contested)):
        indices = np.stack(np.unravel_index(members, target.shape)[::-1], axis=-1)
        points = transform.apply(target.to_world(indices))
        flat[members] = _vote(labels, source.to_index(points)[:, ::-1])
    return result


ARITHMETIC = 1e-3
"""What float arithmetic may have left between a label and a whole number."""
SCALED = 0.51
"""Part of a step of scaling that storing a whole number may have moved it by; a half, and rounding."""

MEMBER = 0.5
"""Share of a sample inside a structure from which the sample belongs to it."""


def has_fractions(mask: NDArray[Any]) -> bool:
    """Tell whether a mask is soft: whether it holds values beside whole numbers."""
    return mask.dtype.kind == "f" and measure_rounding_distance(mask) > ARITHMETIC


def select_mask_samples(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the samples that a mask names: of a soft one those of at least 0.5, else all but 0."""
    return np.asarray(mask >= MEMBER if has_fractions(mask) else np.rint(mask) != 0)


def round_labels(labels: NDArray[Any], step: float = 0.0) -> Labels:
    """Return a label map as integers.

    Args:
        labels: of any shape and type.
        step: between neighboring values that the file could store; 0 where it stored the values.

    Raises:
        InputError: it holds values that are farther from whole numbers than half a step, or than
            arithmetic leaves them.
    """
    if labels.dtype.kind in "iu":
        return labels
    if not measure_rounding_distance(labels) <= compute_rounding_tolerance(step):
        raise InputError("the label map holds values that are not whole numbers; is it an image?")
    largest = np.abs(labels).max(initial=0)
    return np.rint(labels).astype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def measure_rounding_distance(values: NDArray[Any]) -> float:
    """Return how far the value farthest from a whole number is from it; NaN where one is not finite."""
    return float(np.abs(values - np.rint(values)).max(initial=0.0))


def compute_rounding_tolerance(step: float) -> float:
    """Return how far labels may be from whole numbers: half a step of scaling that tells labels apart."""
    return max(ARITHMETIC, SCALED * step if step < 1 else 0.0)


def _near_border(labels: Labels) -> NDArray[np.bool_]:
    """Return where the 3^d box around a sample holds more than one label."""
    from scipy.ndimage import maximum_filter, minimum_filter

    return np.asarray(maximum_filter(labels, 3) != minimum_filter(labels, 3))


def _vote(labels: Labels, index: NDArray[np.float64]) -> Labels:
    """Return the winning label at each continuous index ``(N, d)``, array order, into ``labels``."""
    # Up to half a sample beyond the border, the border's labels hold, as in ITK.
    last = np.array(labels.shape) - 1
    index = np.clip(index, 0, last)
    corner = np.minimum(np.floor(index).astype(np.intp), np.maximum(last - 1, 0))
    steps = list(product((0, 1), repeat=labels.ndim))
    found = np.stack([labels[tuple(np.minimum(corner + step, last).T)] for step in steps])
    winner = found[0].copy()
    split = np.flatnonzero((found != winner).any(axis=0))
    part = (index - corner)[split]
    weights = np.stack([np.prod(np.where(step, part, 1 - part), axis=1) for step in steps])
    winner[split] = _heaviest(found[:, split], weights)
    return winner


def _heaviest(found: Labels, weights: NDArray[np.float64]) -> Labels:
    """Return the label with the largest sum of weights in each column, the lower of equals."""
    winner = found[0].copy()
    best = np.full(len(winner), -1.0)
    for label in found:
        score = np.einsum("kn,kn->n", found == label, weights)
        level = np.abs(score - best) <= EQUAL_WEIGHTS
        better = np.where(level, label < winner, score > best)
        winner, best = np.where(better, label, winner), np.where(better, score, best)
    return winner


def _blocks(members: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(members), POINTS_AT_ONCE):
        yield members[start : start + POINTS_AT_ONCE]
