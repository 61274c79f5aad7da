"""When matches ask for a homography: only where it foretells matches that it has not seen.

Two parameters more always fit better. So both models are fitted to some parts of the picture and asked
about the others: a perspective that is there holds in all of them, one that follows errors does not.

Source: Stone, J. Royal Statistical Society B 36(2):111-147, 1974, with whole areas left out, as neighbors
err alike (Roberts et al., Ecography 40(8):913-929, 2017).
"""

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.methods.initialize.planar import Matrix, map_points
from regflow.methods.initialize.robust import RobustFit, estimate_map, solve_least_squares

FEWEST = 20
"""Matches below which no homography is looked for."""
SQUARES = 5
"""Squares along each side of the matches' extent; each fifth of them is left out in turn."""
BETTER = 0.8
"""What is left of an affine map's loss at most where a homography is needed."""
FINEST = 0.05
"""Matches are not trusted to fractions of a pixel below this."""
STEEPEST = 9.0
"""Largest ratio of areas that a homography may give two corners of what it was fitted to."""


def fit_needed_homography(
    source: Matrix, target: Matrix, threshold: float, seed: int = 0, within: Matrix | None = None
) -> RobustFit | None:
    """Return the homography between matches; None where an affine map foretells them about as well.

    Args:
        source: ``(N, 2)`` points in pixels.
        target: ``(N, 2)`` their partners, some of them wrong.
        threshold: largest residual of a right match in pixels.
        seed: of the robust estimator.
        within: ``(M, 2)`` corners of the picture; nothing inside may be folded or beyond the horizon.
    """
    if len(source) < FEWEST:
        return None
    try:
        plain = estimate_map(source, target, "affine", threshold=threshold, seed=seed)
        bent = estimate_map(source, target, "homography", threshold=threshold, seed=seed)
    except RegistrationError:
        return None
    if not preserves_orientation(bent.matrix, source if within is None else within):
        return None
    used = plain.inliers | bent.inliers
    if bent.inliers.sum() < plain.inliers.sum() or used.sum() < FEWEST:
        return None
    losses = [
        _held_out(source[used], target[used], fit.inliers[used], model, threshold)
        for fit, model in ((plain, "affine"), (bent, "homography"))
    ]
    return bent if losses[1] < BETTER * losses[0] else None


def preserves_orientation(matrix: Matrix, corners: Matrix) -> bool:
    """Tell whether a map neither mirrors, folds nor sends to infinity anything between some points.

    What holds at the corners of a convex area holds inside: there the sign of a homography's determinant
    is that of its matrix, times its depth, which is linear. The depth of the origin does not matter: that
    of a CRS lies far from the scene, and perhaps beyond the horizon.
    """
    depth = np.asarray(corners, np.float64) @ matrix[2, :2] + matrix[2, 2]
    if not (depth * np.sign(depth[0]) > 0).all():
        return False
    areas = np.linalg.det(matrix / depth[0]) / (depth / depth[0]) ** 3
    return bool(areas.min() > 0 and areas.max() < STEEPEST * areas.min())


def _held_out(source: Matrix, target: Matrix, inliers: np.ndarray, model: str, threshold: float) -> float:
    """Return the mean squared residual, cut at the threshold, of matches left out of the fit."""
    extent = np.maximum(np.ptp(source, axis=0), 1e-9)
    column, row = np.minimum(((source - source.min(axis=0)) / extent * SQUARES).astype(int), SQUARES - 1).T
    part = (row + 2 * column) % SQUARES
    squared = np.full(len(source), threshold**2)
    for left_out in range(SQUARES):
        away, seen = part == left_out, (part != left_out) & inliers
        if not away.any() or seen.sum() < FEWEST // 2:
            continue
        try:
            matrix = solve_least_squares(source[seen], target[seen], model)
        except np.linalg.LinAlgError:
            continue
        residuals = np.linalg.norm(map_points(matrix, source[away]) - target[away], axis=1)
        squared[away] = np.minimum(residuals, threshold) ** 2
    return float(squared.mean()) + FINEST**2
