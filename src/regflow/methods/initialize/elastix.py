"""Rigid, then similarity or affine alignment by elastix."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.transform import Affine, Transform, compose_transforms
from regflow.methods.context import RunContext
from regflow.methods.elastix_run import choose_linear_parameters, list_linear_maps, run_elastix

SAMPLES_ACROSS = 112
"""Samples along the fixed image's longest side that elastix sees (some 2 mm for a head): twelve
parameters gain nothing from finer ones."""


def elastix(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Run elastix's rigid and similarity or affine maps from ``resources/elastix``, or the files of ``maps``.

    elastix starts from the centers of gravity of the images, so ``initial`` is not used: it must be
    a trusted header (the identity) or is replaced.

    Raises:
        RegistrationError: elastix failed, an image is constant, or what came out is not affine.
    """
    for role, image in (("fixed", fixed), ("moving", moving)):
        inside = image.channel if image.mask is None else image.channel[image.mask]
        if inside.size == 0 or not float(np.ptp(inside)) > 0:
            raise RegistrationError(f"elastix: the {role} image is constant or empty inside its mask")
    maps = options["maps"] or list_linear_maps(options["transform"])
    spacing = float((np.array(fixed.grid.size) * fixed.grid.spacing).max()) / SAMPLES_ACROSS
    small, other = coarsen_image(fixed, spacing), coarsen_image(moving, spacing)
    changes = choose_linear_parameters(options, small, context.seed)
    found = run_elastix(small, other, maps, changes, context.log_file, small.grid)
    merged = compose_transforms(found)
    if not isinstance(merged, Affine):
        raise RegistrationError("elastix: the parameter files gave a transform that is not affine")
    return merged
