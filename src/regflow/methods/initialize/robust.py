"""Linear maps from matched points of which many are wrong: RANSAC, LMEDS, MAGSAC++, then least squares.

Every estimator draws minimal samples from one seeded generator and scores them all against all
points, so a result depends on nothing but its arguments.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import RegistrationError

Array = NDArray[np.float64]

MODELS = {"translation": 1, "similarity": 2, "affine": 3, "homography": 4}
"""Matches that determine each model."""
ESTIMATORS = ("magsac++", "ransac", "lmeds")
SAMPLES_AT_ONCE = 256
SURE = 0.9999
"""Sampling stops once an all-right sample has been drawn with this probability."""
REFITS = 20


@dataclass(frozen=True)
class RobustFit:
    """A map and the matches that it explains.

    Attributes:
        matrix: homogeneous ``(3, 3)``, from source to target points.
        inliers: ``(N,)`` matches within the threshold.
        rms: of the inliers' residuals, in the points' unit.
    """

    matrix: Array
    inliers: NDArray[np.bool_]
    rms: float


def estimate_map(
    source: ArrayLike,
    target: ArrayLike,
    model: str,
    *,
    estimator: str = "magsac++",
    threshold: float = 3.0,
    samples: int = 4096,
    seed: int = 0,
) -> RobustFit:
    """Fit a map to matches and refine it by least squares on those it explains; never a mirror image.

    Args:
        source: ``(N, 2)`` points.
        target: ``(N, 2)`` their partners.
        model: one of :data:`MODELS`.
        estimator: one of :data:`ESTIMATORS`.
        threshold: largest residual of a right match, in the points' unit. LMEDS scores without it.
        samples: most minimal samples that are drawn.
        seed: of the draws.

    Raises:
        RegistrationError: too few matches, or no sample gives a map that keeps orientation.
    """
    source, target = (np.asarray(points, dtype=np.float64) for points in (source, target))
    need = MODELS[model]
    if len(source) < need + 1:
        raise RegistrationError(f"{len(source)} matches are too few for a {model} and a check of it")
    # Centered and scaled points keep the equations well conditioned; one scale keeps translations.
    scale = _spread_of(source)
    to_unit, to_target = _normalization(source, scale), _normalization(target, scale)
    a, b = _mapped(to_unit[None], source)[0], _mapped(to_target[None], target)[0]
    limit = threshold / scale
    best = _search(a, b, model, _LOSSES[estimator](limit), limit, samples, np.random.default_rng(seed))
    if estimator == "magsac++":
        best = _reweighted(a, b, best, model, limit)
    best = _settled(a, b, best, model, _noise(a, b, best) if estimator == "lmeds" else limit)
    matrix = np.linalg.inv(to_target) @ best @ to_unit
    residuals = _residuals(matrix[None], source, target)[0]
    inliers = residuals <= threshold
    rms = math.sqrt(float((residuals[inliers] ** 2).mean())) if inliers.any() else math.inf
    return RobustFit(matrix / matrix[2, 2], inliers, rms)


def solve_least_squares(source: Array, target: Array, model: str, weights: Array | None = None) -> Array:
    """Return the map of least weighted squared residuals, homogeneous ``(3, 3)``.

    A homography's is that of the algebraic residuals, divided by their depth and solved again.
    Source: Hartley and Zisserman, Multiple View Geometry, 2nd ed., 2003, chapter 4.
    """
    w = np.ones(len(source)) if weights is None else weights
    if model == "homography":
        return _homography(source, target, w)
    matrix = np.eye(3)
    total = w.sum()
    middle, other = (w @ points / total for points in (source, target))
    p, q = source - middle, target - other
    if model == "similarity":
        power = float(w @ (p**2).sum(axis=1))
        along = float(w @ (p * q).sum(axis=1)) / power
        across = float(w @ (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])) / power
        matrix[:2, :2] = [[along, -across], [across, along]]
    elif model == "affine":
        matrix[:2, :2] = np.linalg.solve((p * w[:, None]).T @ p, (p * w[:, None]).T @ q).T
    matrix[:2, 2] = other - matrix[:2, :2] @ middle
    return matrix


def _search(
    source: Array,
    target: Array,
    model: str,
    loss: Callable[[Array], Array],
    limit: float,
    samples: int,
    rng: np.random.Generator,
) -> Array:
    need = MODELS[model]
    best, best_loss, drawn, wanted = None, math.inf, 0, float(samples)
    while drawn < min(wanted, samples):
        picks = _draw(rng, len(source), need)
        drawn += SAMPLES_AT_ONCE
        maps = _MINIMAL[model](source[picks], target[picks])
        maps = maps[np.isfinite(maps).all(axis=(1, 2))]
        maps = maps[np.linalg.det(maps) > 0]
        if len(maps) == 0:
            continue
        residuals = _residuals(maps, source, target)
        losses = loss(residuals)
        first = int(np.argmin(losses))
        if losses[first] < best_loss:
            best, best_loss = maps[first], float(losses[first])
            share = float((residuals[first] <= limit).mean())
            wanted = math.log(1 - SURE) / math.log1p(-(min(max(share, 1e-3), 0.999) ** need))
    if best is None:
        raise RegistrationError(f"the matches determine no {model}; they may lie on one line or be mirrored")
    return best


def _draw(rng: np.random.Generator, count: int, need: int) -> NDArray[np.intp]:
    """Return index sets without repeats, ``(SAMPLES_AT_ONCE, need)``."""
    picks = rng.integers(0, count, (SAMPLES_AT_ONCE, need))
    ordered = np.sort(picks, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    for row in np.flatnonzero(repeated):
        picks[row] = rng.choice(count, need, replace=False)
    return picks


def _translations(source: Array, target: Array) -> Array:
    maps = np.tile(np.eye(3), (len(source), 1, 1))
    maps[:, :2, 2] = target[:, 0] - source[:, 0]
    return maps


def _similarities(source: Array, target: Array) -> Array:
    p, q = (points[..., 0] + 1j * points[..., 1] for points in (source, target))
    step = p[:, 1] - p[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = (q[:, 1] - q[:, 0]) / step
        shift = q[:, 0] - turn * p[:, 0]
    maps = np.tile(np.eye(3), (len(source), 1, 1))
    maps[:, 0] = np.stack([turn.real, -turn.imag, shift.real], axis=-1)
    maps[:, 1] = np.stack([turn.imag, turn.real, shift.imag], axis=-1)
    return maps


def _affines(source: Array, target: Array) -> Array:
    ones = np.ones((*source.shape[:2], 1))
    maps = np.tile(np.eye(3), (len(source), 1, 1))
    maps[:, :2] = np.swapaxes(_solved(np.concatenate([source, ones], axis=-1), target), 1, 2)
    return maps


def _homographies(source: Array, target: Array) -> Array:
    rows, right = _projective_rows(source, target)
    found = _solved(rows, right[..., None])[..., 0]
    return np.concatenate([found, np.ones((len(found), 1))], axis=1).reshape(-1, 3, 3)


def _solved(left: Array, right: Array) -> Array:
    """Solve many small systems; NaN where one has no solution."""
    sizes = np.linalg.norm(left, axis=-1).prod(axis=-1)
    sound = np.abs(np.linalg.det(left)) > 1e-6 * np.maximum(sizes, 1e-12)
    safe = np.where(sound[:, None, None], left, np.eye(left.shape[-1]))
    return np.where(sound[:, None, None], np.linalg.solve(safe, right), np.nan)


def _projective_rows(source: Array, target: Array) -> tuple[Array, Array]:
    """Return the two equations of each match for the first eight entries of a homography."""
    x, y = source[..., 0], source[..., 1]
    u, v = target[..., 0], target[..., 1]
    zero, one = np.zeros_like(x), np.ones_like(x)
    first = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=-1)
    second = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=-1)
    return np.concatenate([first, second], axis=-2), np.concatenate([u, v], axis=-1)


def _homography(source: Array, target: Array, weights: Array) -> Array:
    rows, right = _projective_rows(source, target)
    depth = np.ones(len(source))
    for _ in range(5):
        scale = np.tile(np.sqrt(weights) / depth, 2)
        found = np.linalg.lstsq(rows * scale[:, None], right * scale, rcond=None)[0]
        matrix = np.append(found, 1.0).reshape(3, 3)
        depth = source @ matrix[2, :2] + 1.0
        if np.any(depth <= 1e-3):
            break
    return matrix


_MINIMAL = {
    "translation": _translations,
    "similarity": _similarities,
    "affine": _affines,
    "homography": _homographies,
}


def _ransac(limit: float) -> Callable[[Array], Array]:
    """Score by the number of outliers; equal numbers by the inliers' residuals.

    Source: Fischler and Bolles, Communications of the ACM 24(6):381-395, 1981.
    """

    def loss(residuals: Array) -> Array:
        inside = residuals <= limit
        rest = np.where(inside, (residuals / limit) ** 2, 0.0).sum(axis=1)
        return np.asarray((~inside).sum(axis=1) + rest / (residuals.shape[1] + 1))

    return loss


def _lmeds(limit: float) -> Callable[[Array], Array]:
    """Score by the median squared residual. Source: Rousseeuw, J. Am. Stat. Assoc. 79:871-880, 1984."""

    def loss(residuals: Array) -> Array:
        return np.asarray(np.median(residuals, axis=1) ** 2)

    return loss


CHI_99 = 3.035
"""Square root of the 0.99 quantile of chi-square with the two degrees of freedom of a residual."""
_STEPS = 1024


def _magsac(limit: float) -> Callable[[Array], Array]:
    """Score by the loss marginalized over the noise, up to the noise that ``limit`` is the 99% bound of.

    Source: Barath et al., MAGSAC++, CVPR 2020, equations 6 to 8 with two degrees of freedom.
    """
    table = _magsac_tables()[0]

    def loss(residuals: Array) -> Array:
        index = np.minimum(residuals * (_STEPS / limit), _STEPS)
        return np.asarray(table[index.astype(np.intp)].sum(axis=1))

    return loss


@cache
def _magsac_tables() -> tuple[Array, Array]:
    """Return loss and weight for residuals from 0 to the limit in equal steps; the last is beyond it."""
    from scipy.special import gamma, gammainc, gammaincc

    r = np.arange(_STEPS + 1) / _STEPS * CHI_99
    upper = gamma(0.5) * (gammaincc(0.5, r**2 / 2) - gammaincc(0.5, CHI_99**2 / 2))
    lower = gamma(1.5) * gammainc(1.5, r**2 / 2)
    loss, weight = lower / 2 + r**2 / 4 * upper, upper
    weight[-1] = 0.0
    return loss / loss[-1], weight / weight[0]


_LOSSES: dict[str, Callable[[float], Callable[[Array], Array]]] = {
    "magsac++": _magsac,
    "ransac": _ransac,
    "lmeds": _lmeds,
}


def _reweighted(source: Array, target: Array, matrix: Array, model: str, limit: float) -> Array:
    """Refine by least squares with MAGSAC++'s weights until they stop changing."""
    table, before = _magsac_tables()[1], matrix
    for _ in range(REFITS):
        index = np.minimum(_residuals(matrix[None], source, target)[0] * (_STEPS / limit), _STEPS)
        weights = table[index.astype(np.intp)]
        if np.count_nonzero(weights) < MODELS[model] + 1:
            return matrix
        before, matrix = matrix, _refitted(source, target, model, weights, matrix)
        if np.abs(matrix - before).max() < 1e-9:
            break
    return matrix


def _settled(source: Array, target: Array, matrix: Array, model: str, limit: float) -> Array:
    """Refine by least squares on the matches within the limit until they stay the same."""
    kept = np.zeros(len(source), bool)
    for _ in range(REFITS):
        inside = _residuals(matrix[None], source, target)[0] <= limit
        if inside.sum() < MODELS[model] + 1 or np.array_equal(inside, kept):
            break
        kept = inside
        matrix = _refitted(source, target, model, inside.astype(np.float64), matrix)
    return matrix


def _refitted(source: Array, target: Array, model: str, weights: Array, fallback: Array) -> Array:
    used = weights > 0
    try:
        matrix = solve_least_squares(source[used], target[used], model, weights[used])
    except np.linalg.LinAlgError:
        return fallback
    return matrix if np.linalg.det(matrix) > 0 else fallback


def _noise(source: Array, target: Array, matrix: Array) -> float:
    """Return 2.5 robust standard deviations, with Rousseeuw's correction for few points."""
    middle = float(np.median(_residuals(matrix[None], source, target)[0]))
    return max(2.5 * 1.4826 * (1 + 5 / max(len(source) - 4, 1)) * middle, 1e-12)


def _residuals(maps: Array, source: Array, target: Array) -> Array:
    """Return the distances from mapped points to their partners, ``(K, N)``."""
    return np.asarray(np.linalg.norm(_mapped(maps, source) - target, axis=-1))


def _mapped(maps: Array, points: Array) -> Array:
    """Map points ``(N, 2)`` by each of ``(K, 3, 3)`` maps; what lies behind goes to infinity."""
    homogeneous = points @ np.swapaxes(maps[:, :, :2], 1, 2) + maps[:, None, :, 2]
    depth = homogeneous[..., 2:]
    behind = depth <= 1e-9
    return np.where(behind, 1e9, homogeneous[..., :2] / np.where(behind, 1.0, depth))


def _spread_of(points: Array) -> float:
    """Return the mean distance from the center, above 0."""
    return max(float(np.linalg.norm(points - points.mean(axis=0), axis=1).mean()), 1e-12)


def _normalization(points: Array, scale: float) -> Array:
    """Return the map that centers points and divides them by ``scale``."""
    x, y = points.mean(axis=0) / scale
    return np.array([[1 / scale, 0, -x], [0, 1 / scale, -y], [0, 0, 1]])
