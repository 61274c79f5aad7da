"""Start from the geometry alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.image import Image
from regflow.core.transform import Affine, Transform, compose_transforms
from regflow.methods.context import RunContext


def header(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Return ``initial``, followed by a shift of the grids' centers when ``centers`` asks for it."""
    if not options["centers"]:
        return initial
    center = initial.apply(fixed.grid.center[None])[0]
    return compose_transforms(
        initial, Affine.from_parts(np.eye(fixed.grid.ndim), moving.grid.center - center)
    )
