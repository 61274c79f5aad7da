"""Deformation along the demons' forces, by SimpleITK."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core import fields
from regflow.core.errors import SettingError
from regflow.core.extent import measure_longest_side
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.refine.greedy import smooth_folds
from regflow.methods.refine.greedy_pyramid import MARGIN_SAMPLES
from regflow.methods.refine.loaded_pair import coarsen_channels, load_working_pair, match_intensities

Array = NDArray[np.float32]

MOST_ACROSS = 4096
"""Samples along the longest side: larger scenes are averaged."""
LEVELS_OF = "demons: option 'iterations' has {} values for the {} levels of 'shrink'"


def demons(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Deform along the demons' forces; options are ``demons_options.DEMONS``.

    The forces compare intensities, so both images must have one contrast. First channels are compared, on
    the fixed grid; large scenes are averaged. Masks say only which samples' intensities are matched.

    Source: Vercauteren et al., NeuroImage 45(1):S61-S72, 2009.

    Raises:
        RegistrationError: the images have no sample in common.
        SettingError: options of the levels have unequal lengths.
    """
    if len(options["iterations"]) != len(options["shrink"]):
        raise SettingError(LEVELS_OF.format(len(options["iterations"]), len(options["shrink"])))
    finest = float(fixed.grid.spacing.min())
    spacing = max(finest, measure_longest_side(fixed.grid) / MOST_ACROSS)
    pair = load_working_pair(fixed, moving, initial, spacing, MARGIN_SAMPLES * finest)
    images = match_intensities(pair.fixed, pair.moving, options["match_histograms"])
    grid = pair.fixed.grid
    field = np.zeros((grid.ndim, *grid.shape), np.float32)
    for shrink, iterations in zip(options["shrink"], options["iterations"], strict=True):
        level, *coarse = coarsen_channels(grid, float(shrink), *images)
        start = fields.resize_displacement(field, level.shape)
        field = _run_level(coarse, start, level.spacing, iterations, options, context.threads)
    return pair.compose_field(smooth_folds(fields.resize_displacement(field, grid.shape)), initial)


def _run_level(
    images: Sequence[Array],
    start: Array,
    spacing: NDArray[np.float64],
    iterations: int,
    options: Mapping[str, Any],
    threads: int,
) -> Array:
    """Return the voxel field ``(d, *shape)`` after a level's iterations; without any, the start's."""
    import SimpleITK as sitk

    if iterations == 0:
        return start
    engine = _make_filter(options)
    engine.SetNumberOfThreads(threads)
    engine.SetNumberOfIterations(iterations)
    engine.SetSmoothDisplacementField(options["field_sigma"] > 0)
    engine.SetStandardDeviations(max(options["field_sigma"], 1e-3))
    engine.SetSmoothUpdateField(options["update_sigma"] > 0)
    engine.SetUpdateFieldStandardDeviations(max(options["update_sigma"], 1e-3))
    # Along the samples' own axes: what the images' axes are in the world does not matter to the forces.
    vectors = np.moveaxis(start[::-1], 0, -1) * spacing
    field = sitk.GetImageFromArray(np.ascontiguousarray(vectors, np.float64), isVector=True)
    still, moved = (sitk.GetImageFromArray(np.ascontiguousarray(image, np.float32)) for image in images)
    for each in (field, still, moved):
        each.SetSpacing(spacing.tolist())
    found = sitk.GetArrayFromImage(engine.Execute(still, moved, field)) / spacing
    return np.ascontiguousarray(np.moveaxis(found, -1, 0)[::-1], np.float32)


def _make_filter(options: Mapping[str, Any]) -> Any:
    import SimpleITK as sitk

    if options["forces"] == "symmetric":
        return sitk.FastSymmetricForcesDemonsRegistrationFilter()
    engine = sitk.DiffeomorphicDemonsRegistrationFilter()
    engine.SetMaximumUpdateStepLength(options["step"])
    return engine
