"""Deformation by elastix's cubic B-splines."""

from collections.abc import Mapping
from typing import Any

from regflow.core.extent import measure_ball_diameter, resolve_length
from regflow.core.image import Image
from regflow.core.transform import Composite, Transform
from regflow.methods.context import RunContext
from regflow.methods.elastix_options import METRICS
from regflow.methods.elastix_run import resample_start, run_elastix

CONTROLS = 0.06
"""Spacing of the control points, as a part of the fixed object's size."""


def elastix_bspline(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Deform by B-splines, sampled as a displacement field on the fixed grid.

    elastix registers the moving image as ``initial`` brings it onto the fixed grid; its map of one
    metric is ``resources/elastix/bspline.txt``.

    Raises:
        RegistrationError: elastix failed; the last error of its log is quoted.
    """
    size = measure_ball_diameter(fixed.mask, fixed.grid)
    changes = {
        "Metric": METRICS[options["metric"]],
        "NumberOfSpatialSamples": options["samples"],
        "MaximumNumberOfIterations": options["iterations"],
        "FinalGridSpacingInPhysicalUnits": resolve_length(options["spacing_mm"], CONTROLS, size),
        "RandomSeed": context.seed + 1,
    }
    moved = resample_start(fixed, moving, initial)
    found = run_elastix(fixed, moved, ["bspline"], changes, context.log_file, fixed.grid)
    return Composite((found, initial))
