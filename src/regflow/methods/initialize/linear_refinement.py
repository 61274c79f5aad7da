"""Refining a linear map until many small windows of both pictures agree with it."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.gradient_shift import GradientShift, find_significant_shift, has_few_pixels
from regflow.methods.initialize.planar import (
    Matrix,
    coarsen_to,
    crop_to_overlap,
    find_common_spacing,
    find_corners,
    lacks_georeference,
    map_points,
    resample_to,
)
from regflow.methods.initialize.projective import fit_needed_homography
from regflow.methods.initialize.robust import MODELS, RobustFit, estimate_map
from regflow.methods.initialize.spectra import compute_spectra, measure_window_shifts
from regflow.methods.initialize.structure import EdgeStructure, compute_structure
from regflow.methods.initialize.windows import WindowMatches, find_consistent_windows, match_windows

log = logging.getLogger(__name__)

PARAMETERS = {"translation": 2, "similarity": 4, "affine": 6}
"""Models that ``auto`` chooses from, and their free parameters."""
FREE = "free"
"""What ``auto`` becomes between pictures without georeference: a homography is looked for as well."""
WHOLE_MODELS = ("auto", FREE, "translation")
"""Models whose small scenes may be moved on as a whole."""
COARSE_ACROSS = 384
EDGES_ACROSS = 1536
"""Pixels along the longest side at which refinement begins, and beyond which edges are not asked: their
windows tell a shift to a tenth of a pixel, and phases do the rest where the pictures let them."""
WINDOWS = 196
MOST_SIDE = 64
LEAST_SIDE = 12
SIDES = 5
"""A window's side in pixels at most and at least, and how many of them fit along the shorter side."""
THRESHOLD = 2.0
"""Largest residual in pixels of a window that may support the map."""
SURE_SHARE = 2.58
"""Median residuals within which 99% of two-dimensional normal ones lie: where most windows scatter less
than a pixel, clouds and their shadows, which lie a pixel aside, must not pull at the map."""
NARROWEST = 0.15
"""Least residual in pixels at which a window is left out."""
SETTLED = 0.02
"""A map that moves no corner by so many pixels has settled."""
ROUNDS = 4
SOUND = 4.0
"""A window's phases are believed from so many standard deviations of unrelated ones."""
MARGIN = 10.0
"""How much lower the information criterion of a richer model must be: very strong evidence by Kass and
Raftery, as neighboring windows err alike where the ground has changed."""
FINEST = 0.05
"""Windows are not trusted to fractions of a pixel below this when models are weighed."""
NEARLY_ALL = 0.9
SHARP = 0.75
"""Phases that scatter by fewer pixels need no windows at finer spacings before them."""
FINE_REACH = 1.5
"""Pixels within which a window's phases can tell its shift."""


@dataclass(frozen=True)
class LinearRefinement:
    """A map, and what windows said last.

    Attributes:
        matrix: from fixed to moving world points.
        matches: what the windows found at the finest spacing that was asked.
        scatter: median distance in its pixels between the windows' shifts and the map's.
        grid: the pixels.
    """

    matrix: Matrix
    matches: WindowMatches
    scatter: float
    grid: Grid


def refine_linear(
    fixed: Image, moving: Image, matrix: Matrix, model: str = "auto", *, reach: int = 12, seed: int = 0
) -> LinearRefinement:
    """Refine a map from coarse to fine so that the windows' shifts vanish.

    A scene so small that windows say little is moved on as a whole, by its gradients, where those explain
    it better. Windows compare directions of edges, which finds partners some pixels away in any contrast; at
    the finest spacing the phases of their spectra, which are exact for pictures that share fine
    detail, are taken instead where the windows scatter less by them. They are not asked where the
    windows scatter farther than phases reach: there the ground is bent, or has no common detail.

    Args:
        fixed: a picture.
        moving: a picture.
        matrix: from fixed to moving world points, right to about ``reach`` pixels of the coarsest level.
        model: what may be changed: one of :data:`~regflow.methods.initialize.robust.MODELS`, or
            ``auto``: a translation, similarity or affine map, as the windows demand, and between
            pictures without georeference, photographs as a rule, a homography where they foretell it.
        reach: how far windows look, in pixels of each level.
        seed: of the robust estimator.

    Raises:
        RegistrationError: too few windows agree to determine the model.
    """
    if model == "auto" and lacks_georeference(fixed):
        model = FREE
    fixed = crop_to_overlap(fixed, moving.grid, matrix)
    if model not in WHOLE_MODELS or not has_few_pixels(fixed, moving, matrix):
        return _by_windows(fixed, moving, matrix, model, reach, seed)
    whole = find_significant_shift(fixed, moving, matrix, reach)
    try:
        refined = _by_windows(fixed, moving, matrix, model, reach, seed)
    except RegistrationError:
        if whole is None:
            raise
        return _as_a_whole(fixed, moving, whole, reach)
    again = find_significant_shift(fixed, moving, refined.matrix, reach)
    if again is None:
        return refined
    if whole is None or again.information < whole.information - MARGIN:
        whole = again
    return _as_a_whole(fixed, moving, whole, reach)


def _by_windows(
    fixed: Image, moving: Image, matrix: Matrix, model: str, reach: int, seed: int
) -> LinearRefinement:
    spacing = find_common_spacing(fixed.grid, moving.grid, matrix)
    longest = float((np.array(fixed.grid.size) * fixed.grid.spacing).max())
    level = 2 ** math.ceil(math.log2(max(longest / spacing / COARSE_ACROSS, 1)))
    refined = _settled(coarsen_to(fixed, spacing * level), moving, matrix, model, reach, seed)
    fine: LinearRefinement | None = None
    while True:
        scatter = refined.scatter * level
        if scatter <= FINE_REACH and fine is None:
            # What phases say does not depend on where they are asked from: once is enough.
            fine = _by_phases(coarsen_to(fixed, spacing), moving, refined.matrix, model, seed)
        last = level == 1 or longest / spacing / level * 2 > EDGES_ACROSS
        if fine is not None and fine.scatter < scatter <= FINE_REACH and (last or fine.scatter < SHARP):
            return fine
        if last:
            return refined
        level //= 2
        plane = coarsen_to(fixed, spacing * level)
        refined = _settled(plane, moving, refined.matrix, model, min(reach, 8), seed)


def _as_a_whole(fixed: Image, moving: Image, whole: GradientShift, reach: int) -> LinearRefinement:
    plane = coarsen_to(fixed, find_common_spacing(fixed.grid, moving.grid, whole.matrix))
    return LinearRefinement(
        whole.matrix, WindowMatcher(plane, moving).match_edges(whole.matrix, reach), 0.0, plane.grid
    )


@dataclass(frozen=True, eq=False)
class WindowMatcher:
    """Windows of one picture that look for their partners in another; what they said of a map is kept.

    Attributes:
        fixed: whose windows they are.
        moving: in which they look.
    """

    fixed: Image
    moving: Image
    _known: dict[bytes, WindowMatches | None] = field(default_factory=dict, init=False)
    _edge_matches: dict[tuple[bytes, int], WindowMatches] = field(default_factory=dict, init=False)

    def match_edges(self, matrix: Matrix, reach: int) -> WindowMatches:
        """Ask, by directions of edges, where they belong; in the fixed pixels."""
        key = np.asarray(matrix, np.float64).tobytes(), reach
        if key not in self._edge_matches:
            there = resample_to(self.moving, self.fixed.grid, matrix)
            self._edge_matches[key] = match_windows(
                self._structure, compute_structure(there), _side(self.fixed.grid), reach, WINDOWS
            )
        return self._edge_matches[key]

    def match_phases(self, matrix: Matrix) -> WindowMatches | None:
        """Ask by the phases of their spectra; None where few agree."""
        key = np.asarray(matrix, np.float64).tobytes()
        if key not in self._known:
            self._known[key] = _phases(self.fixed, self.moving, matrix)
        return self._known[key]

    @cached_property
    def _structure(self) -> EdgeStructure:
        return compute_structure(self.fixed)


def measure_correction(
    windows: WindowMatcher, matrix: Matrix, reach: int, seed: int = 0
) -> tuple[WindowMatches, Matrix | None, float]:
    """Return what windows say of a map, and the change in pixels that they ask for.

    Phases are asked as well, and believed where windows scatter less by them.

    Returns:
        The matches by directions of edges; a map of the fixed picture's pixels, None where too few
        windows agree; and the windows' median distance from it in pixels.
    """
    matches = windows.match_edges(matrix, reach)
    try:
        model = FREE if lacks_georeference(windows.fixed) else "auto"
        step, scatter = estimate_correction(matches, model, seed)
    except RegistrationError as error:
        log.info("too few windows to ask: %s", error)
        return matches, None, 0.0
    sharp = windows.match_phases(matrix)
    # A coherent picture has side peaks; what the edges say tells them from the right one.
    if sharp is not None and _measure_distance(sharp, matches) < FINE_REACH:
        finer, less = estimate_correction(sharp, model, seed)
        step, scatter = (finer, less) if less < scatter else (step, scatter)
    return matches, step, scatter


def measure_remaining_error(windows: WindowMatcher, maps: Sequence[Matrix], reach: int) -> list[float] | None:
    """Return how far windows are from where they belong under each map: root mean squares in pixels.

    The same windows are asked under all maps: by phases where nearly all agree by those, which over bent
    ground they do not, else by directions of edges. None where too few agree under all.
    """
    for by_phases in (True, False):
        found = [
            windows.match_phases(each) if by_phases else windows.match_edges(each, reach) for each in maps
        ]
        known = [matches for matches in found if matches is not None]
        if len(known) < len(maps) or (by_phases and min(part.share for part in known) < NEARLY_ALL):
            continue
        places = [{tuple(point) for point in part.points[part.agreeing]} for part in known]
        common = set.intersection(*places)
        if len(common) < MODELS["homography"] + 2:
            continue
        kept = [np.array([tuple(point) in common for point in part.points]) for part in known]
        return [
            float(np.sqrt((part.shifts[mask] ** 2).sum(axis=1).mean()))
            for part, mask in zip(known, kept, strict=True)
        ]
    return None


def estimate_correction(matches: WindowMatches, model: str, seed: int) -> tuple[Matrix, float]:
    """Return the map in pixels that the agreeing windows ask for, and their median distance from it.

    Raises:
        RegistrationError: too few windows agree.
    """
    points, shifts = (part[matches.agreeing] for part in (matches.points, matches.shifts))
    names = list(PARAMETERS) if model in ("auto", FREE) else [model]
    names = [name for name in names if len(points) >= MODELS[name] + 2]
    if not names:
        raise RegistrationError(f"{len(points)} of {len(matches.agreeing)} windows agree, too few for a map")
    fits = {name: _narrowed(points, shifts, name, seed) for name in names}
    residuals = {name: _residuals(fit, points, shifts) for name, fit in fits.items()}
    best = names[0]
    lowest = _information(residuals[best], best, matches.independent)
    for name in names[1:]:
        information = _information(residuals[name], name, matches.independent)
        if information < lowest - MARGIN:
            best, lowest = name, information
    if model == FREE:
        bent = fit_needed_homography(points, points + shifts, THRESHOLD, seed)
        if bent is not None:
            return bent.matrix, float(np.median(_residuals(bent, points, shifts)))
    return fits[best].matrix, float(np.median(residuals[best]))


def _narrowed(points: Matrix, shifts: Matrix, model: str, seed: int) -> RobustFit:
    """Fit a map to the windows' shifts, the second time to those alone that scatter as most of them do."""
    fit = estimate_map(points, points + shifts, model, threshold=THRESHOLD, seed=seed)
    limit = max(SURE_SHARE * float(np.median(_residuals(fit, points, shifts))), NARROWEST)
    if limit >= THRESHOLD:
        return fit
    return estimate_map(points, points + shifts, model, threshold=limit, seed=seed)


def _settled(
    fixed: Image, moving: Image, matrix: Matrix, model: str, reach: int, seed: int
) -> LinearRefinement:
    windows = WindowMatcher(fixed, moving)
    for _ in range(ROUNDS):
        matches = windows.match_edges(matrix, reach)
        step, scatter = estimate_correction(matches, model, seed)
        before, matrix = matrix, _after(fixed.grid, matrix, step)
        if _moved(fixed.grid, before, matrix) < SETTLED:
            break
    return LinearRefinement(matrix, matches, scatter, fixed.grid)


def _by_phases(fixed: Image, moving: Image, matrix: Matrix, model: str, seed: int) -> LinearRefinement | None:
    """Refine by the phases of windows; None where too few of them agree."""
    for _ in range(ROUNDS):
        found = _phases(fixed, moving, matrix)
        if found is None or np.linalg.norm(np.median(found.shifts, axis=0)) > FINE_REACH:
            return None
        matches = found
        step, scatter = estimate_correction(matches, model, seed)
        before, matrix = matrix, _after(fixed.grid, matrix, step)
        if _moved(fixed.grid, before, matrix) < SETTLED:
            break
    log.info("phases of %d windows agree to %.3f pixels", int(matches.agreeing.sum()), scatter)
    return LinearRefinement(matrix, matches, scatter, fixed.grid)


def _phases(fixed: Image, moving: Image, matrix: Matrix) -> WindowMatches | None:
    """Return the windows' shifts by the phases of their spectra; None where few agree."""
    parts = compute_spectra(fixed, resample_to(moving, fixed.grid, matrix), _side(fixed.grid), WINDOWS)
    if parts is None or not parts.weights.any():
        return None
    shifts, fits = measure_window_shifts(parts)
    # Unrelated phases stay about where the search begins, which would look like agreement.
    near = np.linalg.norm(shifts - np.median(shifts, axis=0), axis=1) < FINE_REACH
    near &= fits > SOUND * parts.noise
    agreeing = near & find_consistent_windows(parts.points, shifts)
    if agreeing.sum() < max(0.5 * len(agreeing), MODELS["homography"] + 2):
        return None
    return WindowMatches(parts.points, shifts, fits, agreeing, math.nan, parts.independent)


def _measure_distance(one: WindowMatches, other: WindowMatches) -> float:
    """Return the distance in pixels of two opinions of windows, each by its median."""
    middles = [np.median(part.shifts[part.agreeing], axis=0) for part in (one, other)]
    return float(np.linalg.norm(middles[0] - middles[1]))


def _side(grid: Grid) -> int:
    return int(np.clip(min(grid.shape) // SIDES, LEAST_SIDE, MOST_SIDE)) // 2 * 2


def _after(grid: Grid, matrix: Matrix, step: Matrix) -> Matrix:
    """Return a map after a step in pixels of the fixed grid."""
    return np.asarray(matrix @ grid.affine @ step @ np.linalg.inv(grid.affine))


def _moved(grid: Grid, before: Matrix, after: Matrix) -> float:
    """Return how far, in pixels, a corner moves at most between two maps."""
    ends = find_corners(grid)
    back = map_points(np.asarray(np.linalg.inv(before), np.float64), map_points(after, ends))
    return float(np.linalg.norm(grid.to_index(back) - grid.to_index(ends), axis=1).max())


def _residuals(fit: RobustFit, points: Matrix, shifts: Matrix) -> Matrix:
    return np.asarray(np.linalg.norm(map_points(fit.matrix, points) - points - shifts, axis=1))


def _information(residuals: Matrix, model: str, independent: float) -> float:
    """Return the Bayesian information criterion of a model, with residuals cut at the threshold.

    Sources: Schwarz, Annals of Statistics 6(2):461-464, 1978; Kass and Raftery, J. American Statistical
    Association 90(430):773-795, 1995.
    """
    mean = float((np.minimum(residuals, THRESHOLD) ** 2).mean())
    count = max(independent, 2.0)
    # Two coordinates a window.
    return 2 * count * math.log(max(mean, FINEST**2)) + PARAMETERS.get(model, 8) * math.log(count)
