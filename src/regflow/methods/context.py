"""What a method is handed beside images and options: the circumstances of a run."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.transform import Composite, Transform

if TYPE_CHECKING:
    from regflow.core.chunks import Workers


@dataclass(frozen=True, eq=False)
class Pair:
    """A pair to answer for.

    Attributes:
        fixed: the fixed image.
        moving: the moving image.
        initial: from fixed to moving world points.
        unit: what counts as one world unit, where the object is no larger or smaller than those that the
            network knows.
    """

    fixed: Image
    moving: Image
    initial: Transform
    unit: float = 1.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of a pair.

    Attributes:
        transform: a displacement field on the fixed grid, then the initial transform.
        gain: by how much it raises local correlation and normalized mutual information, together.
    """

    transform: Composite
    gain: float


@dataclass(frozen=True, eq=False)
class RunContext:
    """The circumstances of one run of a method: what is no option of it and stands in no configuration of it.

    Attributes:
        threads: most threads to use; no result depends on it.
        seed: of every random choice, at least 0.
        workers: who works on the blocks of a scene; None opens ``threads`` threads where there are blocks.
        log_file: where the log of a tool that keeps its own goes; None throws it away.
        prediction: what a network has said of this very pair already; None lets the method ask it.
        landmarks: points of both images that the user knows to be the same, in world coordinates; None
            without any.
    """

    threads: int = 1
    seed: int = 0
    workers: "Workers | None" = None
    log_file: Path | None = None
    prediction: Prediction | None = None
    landmarks: LandmarkPairs | None = None


def open_run_workers(context: RunContext) -> AbstractContextManager["Workers"]:
    """Return the workers of a run; where it has none, threads of this process for as long as used."""
    from regflow.core.chunks import open_workers

    if context.workers is not None:
        return nullcontext(context.workers)
    return open_workers(threads=context.threads)
