"""What landmarks tell of a map: which of them contradict the others, and how far each lies from their fit.

A fit goes through its own landmarks the better the more freedom it has, so their residuals say little. Each
is therefore held against the fit of all others.

Sources: Rousseeuw and Van Driessen, Data Mining and Knowledge Discovery 12:29-45, 2006 (least trimmed
squares); Stone, J. Royal Statistical Society B 36(2):111-147, 1974 (leaving one out).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.landmark_pairs import LandmarkPairs

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MapPoints = Callable[[Array], Array]
"""Maps fixed world points ``(N, d)`` to moving ones."""
FitMap = Callable[[Array, Array, Array], MapPoints]
"""Makes a map of fixed points, moving points and weights; RegistrationError where they determine none."""

MOST_SUBSETS = 500
"""Smallest sets of landmarks that are tried where there are more of them."""
SIGMAS = 3.0
"""Robust standard deviations beyond which a landmark contradicts the others."""
ROUNDS = 20
CONSISTENT = 1.4826
"""Standard deviation of a normal distribution by its median distance from the middle."""


@dataclass(frozen=True, eq=False)
class LandmarkFit:
    """A map through landmarks, and what they say of it.

    Attributes:
        map_points: from fixed to moving world points.
        used: ``(N,)`` landmarks that it is fitted to.
        left_out: ``(N,)`` distance of each from where the others put it, in moving world units.
    """

    map_points: MapPoints
    used: Mask
    left_out: Array

    @property
    def error(self) -> float:
        """Root mean square of ``left_out`` over the landmarks that were used."""
        return math.sqrt(float((self.left_out[self.used] ** 2).mean()))


def require_landmarks(pairs: LandmarkPairs | None, need: int, name: str) -> LandmarkPairs:
    """Return the landmarks of a pair of images if there are enough, one more than a map needs.

    Raises:
        RegistrationError: there are none, or too few.
    """
    if pairs is None:
        raise RegistrationError("landmarks: no pairs of landmarks are given for these images")
    if len(pairs) <= need:
        raise RegistrationError(
            f"landmarks: {len(pairs)} pairs are too few; a {name} needs {need}, and one more to check it"
        )
    return pairs


def fit_landmarks(pairs: LandmarkPairs, fit: FitMap, used: Mask) -> LandmarkFit:
    """Fit a map to some landmarks, and measure how far each lies from the fit of the others.

    Args:
        pairs: the landmarks.
        fit: of a map.
        used: ``(N,)`` those that count.

    Raises:
        RegistrationError: they determine no map, or would not without one of them, which nothing checks then.
    """
    fixed, moving, weights = pairs.fixed.points, pairs.moving.points, pairs.weights
    whole = fit(fixed[used], moving[used], weights[used])
    left_out = _distances(whole, fixed, moving)
    # Those that do not count have been left out already.
    for place in np.flatnonzero(used):
        others = used.copy()
        others[place] = False
        left_out[place] = _predict(fit, pairs, others, int(place))
    return LandmarkFit(whole, used, left_out)


def find_consistent_landmarks(
    pairs: LandmarkPairs, fit: FitMap, need: int, tolerance: float, seed: int
) -> Mask:
    """Return the landmarks that do not contradict the others, by least trimmed squares.

    Args:
        pairs: more than ``need``.
        fit: of a map of few parameters.
        need: landmarks that determine it.
        tolerance: distance in moving world units that placing them explains, which contradicts nothing.
        seed: of the draws, where not all smallest sets of landmarks can be tried.

    Raises:
        RegistrationError: no set of them determines a map.
    """
    fixed, moving, weights = pairs.fixed.points, pairs.moving.points, pairs.weights
    count = len(pairs)
    half = max((count + need + 1) // 2, need + 1)
    best, least = None, math.inf
    for subset in _list_subsets(count, need, seed):
        chosen = np.asarray(subset)
        for _ in range(2):
            try:
                found = fit(fixed[chosen], moving[chosen], weights[chosen])
            except RegistrationError:
                break
            distances = _distances(found, fixed, moving)
            chosen = np.argsort(distances, kind="stable")[:half]
            trimmed = float((distances[chosen] ** 2).sum())
            if trimmed < least:
                best, least = chosen, trimmed
    if best is None:
        raise RegistrationError(
            "landmarks: they lie on one line or plane, or on one spot, and determine no map"
        )
    used = np.zeros(count, bool)
    used[best] = True
    for _ in range(ROUNDS):
        distances = _distances(fit(fixed[used], moving[used], weights[used]), fixed, moving)
        spread = CONSISTENT * (1 + 5 / max(count - need, 1)) * float(np.median(distances))
        inside = distances <= max(SIGMAS * spread, tolerance)
        if np.array_equal(inside, used) or inside.sum() <= need:
            break
        used = inside
    return used


def _list_subsets(count: int, need: int, seed: int) -> list[tuple[int, ...]]:
    """Return all sets of so many of some landmarks, or some of them where there are too many."""
    if math.comb(count, need) <= MOST_SUBSETS:
        return list(itertools.combinations(range(count), need))
    rng = np.random.default_rng(seed)
    return [tuple(rng.choice(count, need, replace=False).tolist()) for _ in range(MOST_SUBSETS)]


def _predict(fit: FitMap, pairs: LandmarkPairs, others: Mask, place: int) -> float:
    """Return how far a landmark lies from the fit of others."""
    fixed, moving, weights = pairs.fixed.points, pairs.moving.points, pairs.weights
    try:
        found = fit(fixed[others], moving[others], weights[others])
    except RegistrationError as error:
        name = pairs.fixed.names[place]
        raise RegistrationError(f"{error} without '{name}', which nothing checks; add landmarks") from error
    return float(_distances(found, fixed[place][None], moving[place][None])[0])


def _distances(map_points: MapPoints, fixed: Array, moving: Array) -> Array:
    found = np.linalg.norm(map_points(fixed) - moving, axis=1)
    return np.asarray(np.where(np.isfinite(found), found, math.inf))
