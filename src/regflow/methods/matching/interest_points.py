"""Interest points of images of two or three dimensions, and what their surroundings look like.

Sources: Foerstner and Guelch, ISPRS Intercommission Workshop, Interlaken 1987, 281-305 (distinct points; in
volumes Hartkens et al., Computing 68, 2002); Heinrich et al., MICCAI 2013 (self-similarities as descriptors).
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TENSOR_SIGMA = 1.5
"""Over which products of slopes are averaged, in samples."""
DISTANCE = 0.5
"""Least distance of two points, in that of points laid evenly."""
PATCH_STEP = 2
"""Samples between the places of a descriptor's patch."""
PATCH_REACH = {2: 2, 3: 1}
"""Places to either side of the middle, by dimensions."""


@dataclass(frozen=True, eq=False)
class InterestPoints:
    """Points of an image and their descriptors.

    Attributes:
        places: ``(N, d)`` float64 samples, array order.
        descriptors: ``(N, C)`` float32, of unit variance in the mean.
    """

    places: Array
    descriptors: Array


def find_interest_points(image: Array, features: Array, mask: Array, count: int) -> InterestPoints:
    """Find distinct points and describe them.

    Args:
        image: ``shape``, two or three dimensions.
        features: ``(C, *shape)``, what descriptors are made of.
        mask: where points may lie.
        count: most points; they lie at least half as far apart as if they were laid evenly.
    """
    from scipy.ndimage import maximum_filter

    strength = np.where(mask, measure_distinctness(image), 0)
    even = (max(int(mask.sum()), 1) / count) ** (1 / image.ndim)
    side = 2 * max(1, int(DISTANCE * even)) + 1
    highest = (strength == maximum_filter(strength, side)) & (strength > 0)
    places = np.argwhere(highest)
    order = np.argsort(-strength[highest], kind="stable")[:count]
    chosen = places[np.sort(order)]
    return InterestPoints(chosen.astype(np.float64), describe_places(features, chosen))


def measure_distinctness(image: Array) -> NDArray[np.float32]:
    """Return one over the trace of the inverse structure tensor: high where slopes go all ways."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.asarray(image, np.float32), 1.0, mode="nearest")
    slopes = np.gradient(smooth)
    tensor = [
        [gaussian_filter(slopes[a] * slopes[b], TENSOR_SIGMA, mode="nearest") for b in range(a + 1)]
        for a in range(image.ndim)
    ]
    if image.ndim == 2:
        determinant = tensor[0][0] * tensor[1][1] - tensor[1][0] ** 2
        minors = tensor[0][0] + tensor[1][1]
    else:
        (a,), (b, c), (d, e, f) = tensor
        firsts = c * f - e * e, a * f - d * d, a * c - b * b
        determinant = a * firsts[0] - b * (b * f - e * d) + d * (b * e - c * d)
        minors = firsts[0] + firsts[1] + firsts[2]
    floor = float(np.abs(minors).max()) * 1e-6 + float(np.finfo(np.float32).tiny)
    return np.asarray(np.maximum(determinant, 0) / (minors + floor), np.float32)


def describe_places(features: Array, places: Array) -> NDArray[np.float32]:
    """Return the descriptors ``(N, C)`` of places ``(N, d)``: features at a patch of samples around each.

    Features beyond the border are the border's.
    """
    ndim = places.shape[1]
    reach = PATCH_REACH[ndim]
    steps = PATCH_STEP * np.array(list(product(range(-reach, reach + 1), repeat=ndim)))
    around = np.rint(places).astype(int)[:, None] + steps
    index = tuple(np.clip(around[..., k], 0, features.shape[1 + k] - 1) for k in range(ndim))
    patches = np.moveaxis(features[(slice(None), *index)], 0, -1)
    return np.ascontiguousarray(patches).reshape(len(places), len(steps) * len(features))


def refine_places(
    features: Array, wanted: Array, places: Array, reach: int
) -> tuple[Array, NDArray[np.float32]]:
    """Move places to where the surroundings look most as wanted, within a few samples.

    Args:
        features: ``(C, *shape)``.
        wanted: ``(N, C)`` descriptors.
        places: ``(N, d)`` samples.
        reach: samples to either side.

    Returns:
        The places, between samples by a parabola along each axis, and the descriptors' mean squared
        difference at the best sample.
    """
    ndim = places.shape[1]
    steps = np.array(list(product(range(-reach, reach + 1), repeat=ndim)))
    costs = np.stack(
        [np.square(describe_places(features, places + step) - wanted).mean(axis=1) for step in steps], axis=1
    )
    best = costs.argmin(axis=1)
    cube = costs.reshape(-1, *[2 * reach + 1] * ndim)
    found = places + steps[best]
    rows = np.arange(len(places))
    for axis in range(ndim):
        at = [steps[best][:, k] + reach for k in range(ndim)]
        low, high = ([*at], [*at])
        low[axis], high[axis] = np.maximum(at[axis] - 1, 0), np.minimum(at[axis] + 1, 2 * reach)
        before, here, after = cube[(rows, *low)], cube[(rows, *at)], cube[(rows, *high)]
        bend = before - 2 * here + after
        inside = (at[axis] > 0) & (at[axis] < 2 * reach) & (bend > 0)
        found[:, axis] += np.where(inside, 0.5 * (before - after) / np.where(inside, bend, 1), 0)
    return found, costs[rows, best]
