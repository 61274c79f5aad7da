"""No deformation: the affine transform is the result."""

from collections.abc import Mapping
from typing import Any

from regflow.core.image import Image
from regflow.core.transform import Transform


def none(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    """Return ``initial`` as it is."""
    return initial
