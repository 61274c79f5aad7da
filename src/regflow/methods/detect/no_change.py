"""Where nothing changed: mean and covariance of a model's difference there, robustly.

Weights that follow the chance of no change, as those of IR-MAD, favor small differences even where
there is only noise, so the spread comes out too small and pixels are called changed too often (with
one or two variates it shrinks to nothing). Here the spread is that of the central part of the
differences, scaled up by the known ratio of a trimmed to a whole normal distribution, as in the
reweighting of the minimum covariance determinant (Rousseeuw and Van Driessen, Technometrics
41(3):212-223, 1999).
"""

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.methods.detect.model import ChangeModel, compute_statistic, find_chi_square_limit
from regflow.methods.detect.moments import Moments, merge_moments
from regflow.methods.detect.tiles import ChangeTiles, PairTile

Array = NDArray[np.float64]

CENTRAL_SHARE: Final = 0.75
"""Share of the unchanged pixels from which the spread is taken; the rest may be anything."""

ITERATIONS: Final = 50
TOLERANCE: Final = 1e-4
"""Largest change of the whitened covariance at which the iteration stops."""

SMALLEST_VARIANCE: Final = 1e-9
"""Of an unchanged difference, relative to the variance of the bands themselves. Less is no property of
a sensor: the two dates are then copies of one another, at least in parts."""


def calibrate_model(tiles: ChangeTiles, model: ChangeModel) -> ChangeModel:
    """Return the model whose statistic follows the chi-square distribution where nothing changed.

    Args:
        tiles: the scene pair.
        model: any model; its difference may have any mean and covariance.

    Raises:
        RegistrationError: a variate is constant at both dates, or hardly a pixel is valid.
    """
    limit = find_chi_square_limit(CENTRAL_SHARE, model.degrees_of_freedom)
    scale = _consistency(model.degrees_of_freedom, limit)
    if tiles.subsample is not None:
        model = calibrate_model(tiles.subsample, model)
    every = merge_moments(tiles.map(partial(_variate_moments, model=model)))
    _enough(every, model.degrees_of_freedom)
    split = np.hstack([np.eye(model.degrees_of_freedom), -np.eye(model.degrees_of_freedom)])
    floor = SMALLEST_VARIANCE * np.diag(np.abs(split) @ np.diag(every.covariance))
    if tiles.subsample is None:
        model, floor = _whitened(model, split @ every.mean, split @ every.covariance @ split.T, floor)
    for _ in range(ITERATIONS):
        found = merge_moments(tiles.map(partial(_central_moments, model=model, limit=limit)))
        _enough(found, model.degrees_of_freedom)
        covariance = found.covariance * scale
        step = np.abs(covariance + floor - np.eye(model.degrees_of_freedom)).max()
        model, floor = _whitened(model, found.mean, covariance, floor)
        if max(float(step), float(np.abs(found.mean).max())) < TOLERANCE:
            break
    return model


def _variate_moments(tile: PairTile, model: ChangeModel) -> Moments:
    return Moments.from_rows(np.ascontiguousarray(np.vstack(model.compute_variates(*tile.gather_pixels())).T))


def _central_moments(tile: PairTile, model: ChangeModel, limit: float) -> Moments:
    difference = model.compute_difference(*tile.gather_pixels())
    weights = (compute_statistic(difference) <= limit).astype(np.float64)
    return Moments.from_rows(np.ascontiguousarray(difference.T), weights)


def _enough(moments: Moments, freedom: int) -> None:
    if moments.weight <= 4 * freedom:
        raise RegistrationError("detect: too few pixels without change to learn what is noise")


def _whitened(model: ChangeModel, mean: Array, covariance: Array, floor: Array) -> tuple[ChangeModel, Array]:
    """Whiten the model by ``covariance + floor``; the floor follows into the new units."""
    try:
        root = np.asarray(np.linalg.cholesky(covariance + floor), np.float64)
    except np.linalg.LinAlgError as error:
        raise RegistrationError(
            "detect: a band or index is constant at both dates, or a combination of others; leave it out"
        ) from error
    whiten = np.linalg.inv(root)
    return model.whiten(mean, root), whiten @ floor @ whiten.T


def _consistency(freedom: int, limit: float) -> float:
    """Return the ratio of a normal covariance to that of its part within ``limit``."""
    from scipy.special import chdtr

    return CENTRAL_SHARE / float(chdtr(freedom + 2, limit))
