"""What a second measure of tie points says of the field through them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regflow.methods.matching.spline_field import SplineField


@dataclass(frozen=True, eq=False)
class CrossCheck:
    """What a second measure says of a fitted field.

    Attributes:
        name: what was measured, for people.
        matched_percent: points that it could match, of those that it was asked for.
        correction: to be added to the field, pixels: zero where both agree.
        largest_px: length of its largest vector.
        at: ``(x, y)`` of that, in pixels of the fixed working grid.
        percent: share of the field's rectangle where it is longer than :data:`TOLERANCE_PX`.
    """

    name: str
    matched_percent: float
    correction: "SplineField"
    largest_px: float
    at: tuple[float, float]
    percent: float
