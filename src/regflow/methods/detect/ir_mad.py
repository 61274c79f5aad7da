"""Iteratively reweighted multivariate alteration detection (IR-MAD).

Canonical correlation of two dates gives pairs of band combinations, and their differences are the
MAD variates: uncorrelated, and the same whatever gain and offset each band has. Each round weights a
pixel by its chance of no change, so that the statistics come to rest on the unchanged ground
(Nielsen, IEEE Trans. Image Processing 16(2):463-478, 2007).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.methods.detect.model import (
    ChangeModel,
    ChangeModelFit,
    compute_no_change_probability,
    compute_statistic,
)
from regflow.methods.detect.moments import Moments, merge_moments
from regflow.methods.detect.no_change import calibrate_model
from regflow.methods.detect.tiles import ChangeTiles, PairTile

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

FEWEST_REWEIGHTED: Final = 3
"""Variates from which on the paper's reweighting settles; see :func:`measure_weight_narrowing`."""

SMALLEST_EIGENVALUE: Final = 1e-10
"""Of a correlation matrix of bands; below it a band is a combination of the others."""

SMALLEST_VARIANCE: Final = 1e-9
"""Of a MAD variate, whose two parts have unit variance; less means that the dates are copies."""


@dataclass(frozen=True, eq=False)
class CanonicalVariates:
    """Canonical variates of two dates.

    Attributes:
        before: ``(p, c)``; a row is a combination of the first date's bands.
        after: ``(p, d)``.
        correlation: ``(p,)``, largest first.
        variance: ``(p,)`` of the difference of each pair.
        mean: ``(c + d,)`` of all bands.
    """

    before: Array
    after: Array
    correlation: Array
    variance: Array
    mean: Array

    def derive_model(self) -> ChangeModel:
        """Return the MAD variates, divided by their standard deviations."""
        spread = np.sqrt(self.variance)[:, None]
        before, after = self.before / spread, self.after / spread
        bands = self.before.shape[1]
        offset = after @ self.mean[bands:] - before @ self.mean[:bands]
        return ChangeModel(before, after, offset, np.eye(len(offset)))


def ir_mad(tiles: ChangeTiles, options: Mapping[str, Any]) -> ChangeModelFit:
    """Fit IR-MAD.

    Args:
        tiles: the scene pair; the two dates may have different bands.
        options: ``iterations`` (at most), ``tolerance`` (largest change of a canonical correlation
            at which to stop), ``regularization`` (0..1, share of the identity in the correlation
            matrices of the bands) and ``calibrate``: undo in each round what the weights narrow
            plain noise by, and at the end learn the spread of the unchanged with
            :func:`~regflow.methods.detect.no_change.calibrate_model`. Without it all is the paper's.

    Returns:
        The model, with the figures ``iterations``, ``converged`` (0 or 1), ``correlation_first`` and
        ``correlation_last`` (largest and smallest canonical correlation) and
        ``no_change_weight_share`` (mean weight of a pixel in the last round).

    Raises:
        RegistrationError: no valid pixel, a constant band or dependent bands, or copies.
    """
    found, history, converged = _settled(tiles, options)
    if not converged:
        log.warning("ir-mad: correlations still move after %d rounds; allow more iterations", len(history))
    model = found.derive_model()
    if options["calibrate"]:
        model = replace(calibrate_model(tiles, model), back=model.back)
    figures = {"iterations": float(len(history)), "converged": float(converged), **history[-1]}
    return ChangeModelFit(model, figures, history)


def _settled(
    tiles: ChangeTiles, options: Mapping[str, Any]
) -> tuple[CanonicalVariates, list[dict[str, float]], bool]:
    """Go through the rounds; return the last, a record of each, and whether they settled.

    Where the pixels have a part that is quick to go through, the rounds over all begin where that
    part's end: the fixed point is that of all pixels, and a few rounds are left to it.
    """
    sums = tiles.map(_pair_moments)
    total = merge_moments(part for part, _ in sums)
    bands = max(count for _, count in sums)
    if total.weight <= 2 * len(total.mean):
        raise RegistrationError("ir-mad: hardly a pixel is valid at both dates; check nodata and masks")
    found = solve_canonical_correlation(total, bands, float(options["regularization"]))
    freedom = len(found.correlation)
    reweighted = bool(options["calibrate"]) or freedom >= FEWEST_REWEIGHTED
    rounds = int(options["iterations"]) if reweighted else 1
    narrowing = measure_weight_narrowing(freedom) if options["calibrate"] else 1.0
    history = [_record(found, 1.0)]
    converged = rounds == 1
    if tiles.subsample is not None and not converged:
        found, _, _ = _settled(tiles.subsample, options)
    while len(history) < rounds and not converged:
        weighted = merge_moments(tiles.map(partial(_no_change_moments, model=found.derive_model())))
        previous, found = (
            found,
            solve_canonical_correlation(weighted, bands, float(options["regularization"])),
        )
        found = replace(found, variance=found.variance / narrowing)
        history.append(_record(found, weighted.weight / total.weight))
        step = float(np.abs(found.correlation - previous.correlation).max())
        converged = step < float(options["tolerance"])
    return found, history, converged


def measure_weight_narrowing(freedom: int) -> float:
    """Return the variance of plain noise under its own no-change weights, 1 being without weights.

    With the paper's weights the statistic of noise alone shrinks from round to round: to a third for
    six variates, to nothing for one or two, and on real scenes, whose differences have heavier tails
    than a normal distribution, now and then to a handful of pixels. Divided by this factor a normal
    spread is what it was. It is the mean of the smaller of two chi-square variables, by ``freedom``.
    """
    from scipy.integrate import quad
    from scipy.special import chdtrc

    mean, _ = quad(lambda x: float(chdtrc(freedom, x)) ** 2, 0, np.inf)
    return float(mean) / freedom


def solve_canonical_correlation(moments: Moments, bands: int, regularization: float) -> CanonicalVariates:
    """Solve the canonical correlation of the first ``bands`` variables with the others.

    The penalty is Nielsen's on the length of the combinations, for bands of unit variance, so that
    it does not depend on their units.

    Args:
        moments: of all variables, ``(c + d)``.
        bands: ``c``, the first date's.
        regularization: 0..1.

    Raises:
        RegistrationError: a variable is constant or depends on others of its date.
    """
    covariance = moments.covariance
    spread = np.sqrt(np.diag(covariance))
    if not (spread > 0).all():
        raise RegistrationError(_constant(int(np.argmin(spread)), bands))
    correlation = covariance / np.outer(spread, spread)
    first = _root(correlation[:bands, :bands], regularization, "before")
    second = _root(correlation[bands:, bands:], regularization, "after")
    mixed = (1.0 - regularization) * correlation[:bands, bands:]
    whitened = np.linalg.solve(first, np.linalg.solve(second, mixed.T).T)
    left, shared, right = np.linalg.svd(whitened, full_matrices=False)
    before = np.linalg.solve(first.T, left).T / spread[:bands]
    after = np.linalg.solve(second.T, right.T).T / spread[bands:]
    signs = np.where(before.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    before, after = signs * before, signs * after
    stacked = np.hstack([before, -after])
    variance = np.einsum("pi,ij,pj->p", stacked, covariance, stacked)
    return CanonicalVariates(before, after, shared, np.maximum(variance, SMALLEST_VARIANCE), moments.mean)


def _root(correlation: Array, regularization: float, date: str) -> Array:
    penalized = (1.0 - regularization) * correlation + regularization * np.eye(len(correlation))
    if np.linalg.eigvalsh(penalized)[0] < SMALLEST_EIGENVALUE:
        raise RegistrationError(
            f"ir-mad: the bands of the {date} scene depend on one another; leave one out or set "
            "'regularization' above 0"
        )
    return np.asarray(np.linalg.cholesky(penalized), dtype=np.float64)


def _constant(position: int, bands: int) -> str:
    date, band = ("before", position) if position < bands else ("after", position - bands)
    return f"ir-mad: band {band + 1} of the {date} scene is constant where both are valid; leave it out"


def _pair_moments(tile: PairTile) -> tuple[Moments, int]:
    before, after = tile.gather_pixels()
    return Moments.from_rows(np.ascontiguousarray(np.vstack([before, after]).T)), len(before)


def _no_change_moments(tile: PairTile, model: ChangeModel) -> Moments:
    before, after = tile.gather_pixels()
    weights = compute_no_change_probability(
        compute_statistic(model.compute_difference(before, after)), model.degrees_of_freedom
    )
    return Moments.from_rows(np.ascontiguousarray(np.vstack([before, after]).T), weights)


def _record(found: CanonicalVariates, share: float) -> dict[str, float]:
    return {
        "correlation_first": float(found.correlation[0]),
        "correlation_last": float(found.correlation[-1]),
        "no_change_weight_share": share,
    }
