"""What a volume's stages will take of memory, asked before they begin."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from regflow.core import memory
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.volumes import read_header
from regflow.methods.preprocess.orientation import choose_working_spacing
from regflow.stages.volumes.working import IMAGE_FILE

PAIR = "register"
SAMPLE_BYTES = {PAIR: 95.0, "preprocess": 30.0, "initialize": 18.0, "refine": 55.0, "assess": 40.0}
"""Bytes that a job takes for each sample of its working images beyond what its libraries take, by the peaks
of the default methods on pairs of 2 x 0.3 to 2 x 17 million samples. Methods that take less are rare."""
SPARE = 1.1
"""The spacing that is advised leaves room for a little more than was reckoned with."""


def check_originals(
    images: Iterable[tuple[str, Grid]],
    spacing_mm: float | list[float] | None,
    job: str,
    reference: Grid | None = None,
) -> None:
    """Refuse images whose working images do not fit into memory.

    Args:
        images: names of the original files and their grids; of a pair the fixed one first.
        spacing_mm: the setting ``preprocess.spacing_mm``.
        job: of :data:`SAMPLE_BYTES`.
        reference: the fixed image's working grid, where it is not among them.

    Raises:
        InputError: naming the largest image, its size, and what to do.
    """
    working = []
    for name, grid in images:
        spacing = choose_working_spacing(grid, spacing_mm, reference)
        working.append((name, grid if spacing is None else grid.with_spacing(spacing.tolist())))
        reference = reference or working[0][1]
    _check(working, job)


def check_working(folders: tuple[str | Path, ...], job: str) -> None:
    """Refuse working images, in the directories that preprocess wrote, on which a job takes too much.

    Raises:
        MemoryError: in the words of :func:`check_originals`.
    """
    images = (Path(folder) / IMAGE_FILE for folder in folders)
    with require_memory():
        _check([(str(path), read_header(path).grid) for path in images], job)


@contextmanager
def require_memory() -> Iterator[None]:
    """Let a job of a cohort that lacks memory fail, not end with an error of its sample.

    Another try has more, and goes on where this one stopped.

    Raises:
        MemoryError: in the words of the InputError that was raised in the block.
    """
    try:
        yield
    except InputError as shortage:
        raise MemoryError(str(shortage)) from None


def _check(working: list[tuple[str, Grid]], job: str) -> None:
    needed = SAMPLE_BYTES[job] * sum(math.prod(grid.shape) for _, grid in working)
    room = memory.measure_free_bytes()
    if room is None or needed <= room:
        return
    name, grid = max(working, key=lambda item: math.prod(item[1].shape))
    size = " x ".join(str(count) for count in grid.size)
    extent = sum(math.prod(one.shape) * float(one.spacing.prod()) for _, one in working)
    coarser = SPARE * math.cbrt(SAMPLE_BYTES[job] * extent / max(room, 1))
    memory.check_room(
        needed,
        f"{name}: {job} at the working size of {size} samples",
        f"set preprocess.spacing_mm to {coarser:.2g}, crop the image to what matters, or take a larger "
        "machine",
    )
