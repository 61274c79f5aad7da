"""No deformation: the affine transform is the result."""

from collections.abc import Mapping
from typing import Any

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext


def none(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Return ``initial`` as it is."""
    return initial
