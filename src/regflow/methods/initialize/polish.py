"""Polishing a linear map until many small windows of both pictures agree with it."""

import logging
from dataclasses import dataclass

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.planar import Matrix, at_spacing, brought, common_spacing, corners, mapped
from regflow.methods.initialize.robust import MODELS, estimate
from regflow.methods.initialize.structure import structure
from regflow.methods.initialize.windows import Matches, match

log = logging.getLogger(__name__)

COARSE_ACROSS = 384
"""Pixels along the longest side at which polishing begins."""
WINDOWS = 196
MOST_SIDE = 64
LEAST_SIDE = 16
SIDES = 3
"""A window's side in pixels at most and at least, and how many of them fit along the shorter side."""
THRESHOLD = 2.0
"""Largest residual in pixels of a window that supports the map."""
SETTLED = 0.02
"""A map that moves no corner by so many pixels has settled."""
ROUNDS = 4


@dataclass(frozen=True)
class Polished:
    """A map and the windows' last opinion of the one before it.

    Attributes:
        matrix: from fixed to moving world points.
        matches: what the windows found at the finest spacing.
        grid: the pixels that they count in.
    """

    matrix: Matrix
    matches: Matches
    grid: Grid


def polish(
    fixed: Image, moving: Image, matrix: Matrix, model: str, *, reach: int = 12, seed: int = 0
) -> Polished:
    """Refine a map from coarse to fine so that the windows' shifts vanish.

    Args:
        fixed: a picture.
        moving: a picture.
        matrix: from fixed to moving world points, right to about ``reach`` pixels of the coarsest level.
        model: what may be changed: one of :data:`~regflow.methods.initialize.robust.MODELS`.
        reach: how far windows look, in pixels of each level.
        seed: of the robust estimator.

    Raises:
        RegistrationError: too few windows agree to determine the model.
    """
    spacing = common_spacing(fixed.grid, moving.grid, matrix)
    longest = float((np.array(fixed.grid.size) * fixed.grid.spacing).max())
    level = max(1, 2 ** int(np.ceil(np.log2(max(longest / spacing / COARSE_ACROSS, 1)))))
    while True:
        plane = at_spacing(fixed, spacing * level)
        polished = _settle(plane, moving, matrix, model, reach, seed)
        matrix = polished.matrix
        if level == 1:
            return polished
        level //= 2
        reach = min(reach, 8)


def opinions(fixed: Image, moving: Image, matrix: Matrix, reach: int) -> Matches:
    """Ask the windows of a picture what they think of a map, in the fixed picture's pixels."""
    there = brought(moving, fixed.grid, matrix)
    side = int(np.clip(min(fixed.grid.shape) // SIDES, LEAST_SIDE, MOST_SIDE))
    return match(structure(fixed), structure(there), side, reach, WINDOWS)


def _settle(fixed: Image, moving: Image, matrix: Matrix, model: str, reach: int, seed: int) -> Polished:
    ends = corners(fixed.grid)
    for _ in range(ROUNDS):
        matches = opinions(fixed, moving, matrix, reach)
        step = correction(matches, model, seed)
        world = fixed.grid.affine @ step @ np.linalg.inv(fixed.grid.affine)
        before, matrix = matrix, matrix @ world
        moved = np.linalg.norm(mapped(matrix, ends) - mapped(before, ends), axis=1).max()
        log.info(
            "%.3g per pixel: %d of %d windows agree; corners moved by %.3g", *_told(fixed, matches), moved
        )
        if moved < SETTLED * float(fixed.grid.spacing.min()):
            break
    return Polished(matrix, matches, fixed.grid)


def correction(matches: Matches, model: str, seed: int) -> Matrix:
    """Return the map in pixels that the agreeing windows ask for.

    Raises:
        RegistrationError: too few windows agree.
    """
    agreeing = matches.agreeing
    if agreeing.sum() < MODELS[model] + 2:
        raise RegistrationError(f"{agreeing.sum()} of {len(agreeing)} windows agree, too few for a {model}")
    points, shifts = matches.points[agreeing], matches.shifts[agreeing]
    return estimate(points, points + shifts, model, threshold=THRESHOLD, seed=seed).matrix


def _told(fixed: Image, matches: Matches) -> tuple[float, int, int]:
    return float(fixed.grid.spacing.max()), int(matches.agreeing.sum()), len(matches.agreeing)
