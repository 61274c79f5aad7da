"""A linear map through pairs of landmarks."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.planar import make_transform, map_points
from regflow.methods.initialize.robust import solve_least_squares
from regflow.methods.matching.landmark_fit import (
    Array,
    MapPoints,
    find_consistent_landmarks,
    fit_landmarks,
    require_landmarks,
)
from regflow.methods.result import LandmarkErrors, MethodResult

log = logging.getLogger(__name__)

FLAT = 1e-4
"""Least extent of landmarks across, as a part of that along, where a map needs both."""
NEED: dict[str, Callable[[int], int]] = {
    "translation": lambda ndim: 1,
    "rigid": lambda ndim: ndim,
    "similarity": lambda ndim: ndim,
    "affine": lambda ndim: ndim + 1,
    "homography": lambda ndim: 4,
}
"""Landmarks that determine each model."""


def landmarks(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Fit a linear map to the landmarks of a pair; the images are not looked at, nor is ``initial``.

    Sources: Kabsch, Acta Cryst. A32:922, 1976; Umeyama, IEEE Trans. Pattern Analysis and Machine
    Intelligence 13(4):376-380, 1991; Hartley and Zisserman, Multiple View Geometry, 2nd ed., 2003.

    Args:
        fixed: of two or three dimensions; its spacing is what placing a landmark explains.
        moving: likewise.
        initial: not used.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: with the landmarks.

    Raises:
        RegistrationError: there are none, too few, or they lie on one line, plane or spot.
    """
    model, ndim = options["model"], fixed.grid.ndim
    need = NEED[model](ndim)
    pairs = require_landmarks(context.landmarks, need, model)
    fit = partial(_fit_map, model)
    used = np.ones(len(pairs), bool)
    if options["outliers"] == "drop":
        tolerance = float(max(fixed.grid.spacing.max(), moving.grid.spacing.max()))
        used = find_consistent_landmarks(pairs, fit, need, tolerance, context.seed)
    found = fit_landmarks(pairs, fit, used)
    log.info("%d of %d landmarks, leave-one-out error %.3g", used.sum(), len(pairs), found.error)
    matrix = solve_map(model, pairs.fixed.points[used], pairs.moving.points[used], pairs.weights[used])
    transform = make_transform(matrix, fixed.grid.center) if ndim == 2 else Affine(matrix)
    return MethodResult(transform, landmarks=LandmarkErrors.from_pairs(pairs, found.left_out, used))


def _fit_map(model: str, source: Array, target: Array, weights: Array) -> MapPoints:
    matrix = solve_map(model, source, target, weights)
    if model == "homography":
        return partial(map_points, matrix)
    return Affine(matrix).apply


def solve_map(model: str, source: Array, target: Array, weights: Array) -> Array:
    """Return the map of least weighted squared distances, ``(d + 1, d + 1)`` homogeneous.

    Args:
        model: ``translation``, ``rigid``, ``similarity``, ``affine``, or of two dimensions ``homography``.
        source: ``(N, d)`` points.
        target: ``(N, d)`` their partners.
        weights: ``(N,)`` above 0.

    Raises:
        RegistrationError: the points lie on one line, plane or spot and determine no such map.
    """
    ndim = source.shape[1]
    if len(source) < NEED[model](ndim):
        raise RegistrationError(f"landmarks: {len(source)} are too few for a {model}")
    shares = weights / weights.sum()
    middle, other = shares @ source, shares @ target
    p, q = source - middle, target - other
    _refuse_flat(model, p * np.sqrt(shares)[:, None])
    if model == "homography":
        return _solve_homography(p, q, weights, middle, other)
    linear = np.eye(ndim)
    if model == "affine":
        linear = np.linalg.lstsq(p * np.sqrt(shares)[:, None], q * np.sqrt(shares)[:, None], rcond=None)[0].T
    elif model in ("rigid", "similarity"):
        linear = _turn(p, q, shares, scaled=model == "similarity")
    return np.array(Affine.from_parts(linear, other - middle, middle).matrix)


def _turn(p: Array, q: Array, shares: Array, *, scaled: bool) -> Array:
    """Return the best rotation of centered points onto others, never a reflection, perhaps with a scale."""
    left, sizes, right = np.linalg.svd((q * shares[:, None]).T @ p)
    signs = np.ones(len(sizes))
    signs[-1] = np.sign(np.linalg.det(left @ right)) or 1.0
    scale = float((sizes * signs).sum() / (shares @ (p**2).sum(axis=1))) if scaled else 1.0
    return np.asarray(scale * left @ np.diag(signs) @ right)


def _solve_homography(p: Array, q: Array, weights: Array, middle: Array, other: Array) -> Array:
    """Solve in coordinates about the middles, of size 1: those of a map would leave it without digits."""
    sizes = [max(float(np.sqrt((points**2).mean())), 1e-300) for points in (p, q)]
    to_unit, from_unit = np.eye(3), np.eye(3)
    to_unit[:2] = np.column_stack([np.eye(2), -middle]) / sizes[0]
    from_unit[:2] = np.column_stack([np.eye(2) * sizes[1], other])
    try:
        found = solve_least_squares(p / sizes[0], q / sizes[1], "homography", weights)
    except np.linalg.LinAlgError as error:
        raise RegistrationError("landmarks: they determine no homography") from error
    matrix = from_unit @ found @ to_unit
    return np.asarray(matrix / matrix[2, 2])


def _refuse_flat(model: str, spread: Array) -> None:
    """Refuse points that do not extend along as many directions as a map needs."""
    ndim = spread.shape[1]
    along = {"translation": 0, "rigid": ndim - 1, "similarity": ndim - 1}.get(model, ndim)
    if not along:
        return
    extents = np.linalg.svd(spread, compute_uv=False)
    if len(extents) < along or not extents[along - 1] > FLAT * max(extents[0], 1e-300):
        where = "one spot" if along == 1 else "one line" if along == 2 else "one plane"
        raise RegistrationError(f"landmarks: they lie on {where} and determine no {model}")
