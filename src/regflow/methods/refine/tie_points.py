"""Tie points: windows matched over the scene, and a smooth displacement field through them."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import DisplacementField, Transform, compose_transforms
from regflow.methods.context import RunContext
from regflow.methods.matching.second_measure import TOLERANCE_PX, check_field, measure_again
from regflow.methods.matching.spline_field import SplineField, SplineFit, fit_field
from regflow.methods.matching.tie_point_set import REASONS, TiePoints
from regflow.methods.matching.tie_points import choose_spacing, lay_points, match_tie_points
from regflow.methods.result import MethodResult

log = logging.getLogger(__name__)

Array = NDArray[Any]

LATTICE_PER_POINT = 2
"""Lattice points per tie point, along each axis, of the B-spline through a thin-plate spline."""
INTERPOLATION_PX = 0.002
"""Largest error of reading the displacement field linearly between its samples."""


def tie_points(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Refine an alignment of two scenes by tie points; options are ``tie_point_options.TIE_POINTS``.

    The scenes may be lazy; windows of their first channels are read.

    Raises:
        RegistrationError: too few points could be matched.
    """
    points = lay_points(fixed.grid, moving.grid, initial, options)
    found = match_tie_points(fixed, moving, initial, points, options, context)
    fit, found = fit_points(found, fixed.grid, options, context.seed)
    log.info(
        "tie-points: %d of %d points count, %s, scatter about the field %.3f px",
        int(found.is_used.sum()),
        len(found),
        found.channels,
        fit.scale,
    )
    field = fit.field
    if np.abs(field.evaluate(found.points)).max() > TOLERANCE_PX:
        check = check_field(found, field, measure_again(found, fixed, moving, initial, options, context))
        field = replace(field, coefs=field.coefs + check.correction.coefs)
        found = replace(found, check=check)
    return MethodResult(compose_transforms(sample_spline_field(field, fixed.grid), initial), found)


def fit_points(
    found: TiePoints, fixed: Grid, options: Mapping[str, Any], seed: int
) -> tuple[SplineFit, TiePoints]:
    """Fit the field to the points that count; points that it leaves out are marked.

    Raises:
        RegistrationError: too few points count.
    """
    used = np.flatnonzero(found.is_used)
    if len(used) < 6:
        raise RegistrationError(
            f"tie-points: only {len(used)} of {len(found)} points could be matched ({_why(found)})"
        )
    points, shifts = found.points[used], found.shifts[used]
    size = np.array(fixed.size)
    spacing = options["field_spacing_px"] or options["spacing_px"] or choose_spacing(size)
    spread = (found.window_px**2 - 1) / 12.0
    extent, errors = (0, 0, *(size - 1)), found.error_px[used]
    apart = options["spacing_px"] or choose_spacing(size)
    # Windows that overlap share their errors.
    reach = float(found.window_px) if found.window_px > apart else 0.0
    basis = None
    if options["field"] == "thin-plate":
        from regflow.methods.matching.thin_plate import ThinPlateProblem

        basis, spacing = ThinPlateProblem, spacing / LATTICE_PER_POINT
    fit = fit_field(points, shifts, errors, extent, spacing, seed=seed, reach=reach, basis=basis)
    # An affine window follows slopes; where the field curves it measures its mean over the window.
    straight = shifts - 0.5 * spread * fit.field.compute_laplacian(points)
    fit = fit_field(
        points, straight, errors, extent, spacing, smoothing_weight=fit.smoothing_weight, basis=basis
    )
    reason = found.reason.copy()
    reason[used[fit.weights <= 0]] = REASONS.index("fit")
    straight = found.shifts - 0.5 * spread * fit.field.compute_laplacian(found.points)
    return fit, replace(
        found, reason=reason, shifts=straight, residuals=straight - fit.field.evaluate(found.points)
    )


def sample_spline_field(field: SplineField, grid: Grid) -> DisplacementField:
    """Return a field on a grid as coarse as reading it linearly allows, in world units."""
    bending = field.measure_bending()
    step = math.sqrt(8.0 * INTERPOLATION_PX / bending) if bending > 0 else math.inf
    step = max(1.0, math.floor(min(step, field.spacing)))
    counts = [math.ceil((n - 1) / step) + 1 for n in grid.size]
    axes = [np.arange(n) * step for n in counts]
    pixels = field.evaluate_lattice(*axes)
    vectors = np.einsum("ij,jhw->ihw", grid.affine[:2, :2], pixels)
    coarse = grid.affine @ np.diag([step, step, 1.0])
    return DisplacementField(vectors.astype(np.float32), Grid((counts[1], counts[0]), coarse, grid.crs))


def _why(found: TiePoints) -> str:
    counts = np.bincount(found.reason, minlength=len(REASONS))
    return ", ".join(f"{REASONS[k]}: {counts[k]}" for k in range(1, len(REASONS)) if counts[k]) or "none laid"
