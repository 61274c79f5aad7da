"""The kinds of maps a graph is solved for: how each moves by a small step, and which is nearest to a matrix.

Matrices are homogeneous, ``(..., d + 1, d + 1)``, one for each node or link.
"""

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MODELS = ("translation", "rigid", "similarity", "affine")


def list_generators(model: str, ndim: int) -> Array:
    """Return the directions in which a map of a model can move, ``(p, d + 1, d + 1)``.

    Translations come first; small multiples of the sum, added to the identity, are a map of the model to
    first order.
    """
    found = [_unit(ndim, axis, ndim) for axis in range(ndim)]
    if model == "affine":
        found += [_unit(ndim, row, column) for row in range(ndim) for column in range(ndim)]
    elif model != "translation":
        found += [_unit(ndim, a, b) - _unit(ndim, b, a) for a, b in combinations(range(ndim), 2)]
    if model == "similarity":
        found.append(sum((_unit(ndim, axis, axis) for axis in range(ndim)), np.zeros((ndim + 1, ndim + 1))))
    return np.stack(found)


def project_maps(model: str, maps: Array) -> Array:
    """Return the maps of a model that are nearest to given ones, translations kept.

    Raises:
        KeyError: there is no such model.
    """
    result = maps.copy()
    ndim = maps.shape[-1] - 1
    if model == "translation":
        result[..., :ndim, :ndim] = np.eye(ndim)
    elif model in ("rigid", "similarity"):
        scale = measure_scales(maps) if model == "similarity" else np.ones(maps.shape[:-2])
        result[..., :ndim, :ndim] = find_rotations(maps) * scale[..., None, None]
    elif model != "affine":
        raise KeyError(model)
    return result


def find_rotations(maps: Array) -> Array:
    """Return the proper rotations ``(..., d, d)`` nearest to the linear parts of maps.

    Source: Umeyama, IEEE Trans. Pattern Analysis and Machine Intelligence 13(4):376-380, 1991.
    """
    ndim = maps.shape[-1] - 1
    u, _, vt = np.linalg.svd(maps[..., :ndim, :ndim])
    signs = np.ones((*maps.shape[:-2], ndim))
    signs[..., -1] = np.sign(np.linalg.det(u @ vt))
    return np.asarray((u * signs[..., None, :]) @ vt)


def measure_scales(maps: Array) -> Array:
    """Return the factors by which maps change lengths, on geometric average over directions."""
    ndim = maps.shape[-1] - 1
    return np.asarray(np.abs(np.linalg.det(maps[..., :ndim, :ndim])) ** (1 / ndim))


def average_maps(model: str, maps: Array) -> Array:
    """Return a middle of maps ``(N, d + 1, d + 1)`` that moves along when all are moved alike.

    Translations and linear parts are averaged; of rotations it is the nearest one to their sum, of scales
    the geometric mean.
    """
    middle = project_maps(model, maps.mean(axis=0))
    if model == "similarity":
        ndim = maps.shape[-1] - 1
        scale = math.exp(float(np.log(measure_scales(maps)).mean()))
        middle[:ndim, :ndim] = find_rotations(middle) * scale
    return middle


def fit_common_map(model: str, points: Array, positions: Array) -> Array:
    """Return the map of a model, but for an affine one a similarity, that brings points onto positions best.

    Args:
        model: as of :data:`MODELS`.
        points: ``(N, d)``.
        positions: ``(N, d)``.
    """
    ndim = points.shape[1]
    result = np.eye(ndim + 1)
    here, there = points.mean(axis=0), positions.mean(axis=0)
    if model != "translation" and len(points) > 1:
        cross = (positions - there).T @ (points - here)
        u, values, vt = np.linalg.svd(cross)
        signs = np.ones(ndim)
        signs[-1] = np.sign(np.linalg.det(u @ vt))
        # Points on a line leave open how space turns about it; the smallest turn is as good as any.
        if values[0] > 0:
            result[:ndim, :ndim] = (u * signs) @ vt
            spread = float(((points - here) ** 2).sum())
            if model != "rigid":
                result[:ndim, :ndim] *= max(float((values * signs).sum()) / spread, 1e-6)
    result[:ndim, ndim] = there - result[:ndim, :ndim] @ here
    return result


def _unit(ndim: int, row: int, column: int) -> Array:
    matrix = np.zeros((ndim + 1, ndim + 1))
    matrix[row, column] = 1.0
    return matrix
