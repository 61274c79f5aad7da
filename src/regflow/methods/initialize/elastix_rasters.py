"""Rigid, then affine alignment of rasters by elastix."""

from collections.abc import Mapping
from typing import Any

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform, compose_transforms
from regflow.methods.context import RunContext
from regflow.methods.elastix_run import choose_linear_parameters, list_linear_maps, run_elastix
from regflow.methods.initialize.planar import find_matrix, make_pixel_pair, make_transform, masked_image


def elastix(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Run elastix's rigid and affine maps from ``resources/elastix``, or the files of ``maps``.

    elastix works in pixels of the common spacing, which its parameter files count in.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography; where the georeference says the moving image is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: elastix failed, an image is constant, or what came out is not affine.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    pair = make_pixel_pair(first, second, find_matrix(initial), options["across"])
    maps = options["maps"] or list_linear_maps(options["transform"])
    changes = choose_linear_parameters(options, pair.fixed, context.seed)
    found = compose_transforms(
        run_elastix(pair.fixed, pair.moving, maps, changes, context.log_file, pair.fixed.grid)
    )
    if not isinstance(found, Affine):
        raise RegistrationError("elastix: the parameter files gave a transform that is not affine")
    return make_transform(pair.to_world(found.matrix), fixed.grid.center)
