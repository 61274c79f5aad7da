"""Which images of a series are registered to one another: neighbors, those some places apart, and a hub."""

from collections.abc import Iterable

SHORT = 8
"""Images up to which all pairs are few enough."""
STEPS = (1, 2, 4)
"""Places apart that longer series are linked over."""


def list_series_pairs(
    count: int, steps: Iterable[int] | None = None, hub: int | None = None
) -> list[tuple[int, int]]:
    """Return the pairs of a series to register, each once, the earlier image first.

    Args:
        count: of images, in order.
        steps: how many places apart images are linked. None: all pairs of a series of up to :data:`SHORT`
            images, else :data:`STEPS`.
        hub: number of an image that all others are linked to, too.
    """
    if steps is None:
        steps = range(1, count) if count <= SHORT else STEPS
    found = {(first, first + step) for step in steps for first in range(count - step)}
    if hub is not None:
        found |= {(min(hub, other), max(hub, other)) for other in range(count) if other != hub}
    return sorted(found)
