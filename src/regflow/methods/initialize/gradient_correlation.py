"""Translation by correlating the gradients of whole scenes of like contrast, signs and all.

A small scene, or one full of gaps, has too few windows to ask one by one: all pixels together say more.

Source: see :mod:`regflow.methods.initialize.gradient_shift`.
"""

from collections.abc import Mapping
from typing import Any

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.gradient_shift import SURE, measure_gradient_shift
from regflow.methods.initialize.planar import (
    find_matrix,
    make_transform,
    masked_image,
)


def gradient_correlation(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Find the translation, and from there what the windows of both images ask for.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise, its contrast like the fixed one's.
        initial: affine or homography; where the georeference says the moving image is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, or no shift stands out.
    """
    from regflow.methods.initialize.linear_refinement import refine_linear

    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    found = measure_gradient_shift(first, second, find_matrix(initial))
    if found is None or found.neg_log10_p < SURE:
        reached = 0.0 if found is None else found.neg_log10_p
        raise RegistrationError(
            f"gradient-correlation: no shift stands out: its -log10(p) is {reached:.1f}, below {SURE:g}"
        )
    matrix = found.matrix
    if options["model"] != "translation":
        matrix = refine_linear(first, second, matrix, options["model"], seed=context.seed).matrix
    return make_transform(matrix, fixed.grid.center)
