"""How far long work is, told by events: whoever shows it need not read what is logged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StageEvent:
    """A stage of a pair's registration begins or ends.

    Attributes:
        title: of the stage, as ``preprocess (moving)``.
        state: ``begun`` or ``ended``; a stage that an error leaves does not end.
        seconds: that it took; None as it begins.
    """

    title: str
    state: Literal["begun", "ended"]
    seconds: float | None = None


StageListener = Callable[[StageEvent], None]
"""What is told of each event. Stages overlap, so it is called from several threads."""


def ignore_events(_event: StageEvent) -> None:
    """Show nothing."""
