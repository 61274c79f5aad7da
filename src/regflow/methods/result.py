"""What a method hands back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regflow.core.transform import Transform

if TYPE_CHECKING:
    from regflow.methods.matching.tie_point_set import TiePoints


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What a method found, for those that have more to tell than a transform.

    Attributes:
        transform: from fixed to moving world points.
        tie_points: the correspondences behind it; None for methods that measure none.
    """

    transform: Transform
    tie_points: "TiePoints | None" = None
