"""What the chain of a pair asks of each kind of image."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.provenance.run_record import RunRecorder


@dataclass(frozen=True, eq=False)
class PairJob:
    """What all steps of one pair share.

    Attributes:
        moving: the moving image's files; ``moving.fixed`` has the fixed one's.
        settings: the whole configuration.
        recorder: of the stages.
        threads: most threads to use.
        pool: for what goes on beside.
        workers: who works on blocks of scenes; None for volumes.
        inverse_image: whether the fixed image is wanted in the moving one's space too.
    """

    moving: Any
    settings: Mapping[str, Any]
    recorder: RunRecorder
    threads: int
    pool: ThreadPoolExecutor
    workers: Any
    inverse_image: bool


@dataclass(frozen=True)
class PairSteps:
    """The steps of one kind of image, in the order in which they are taken.

    Attributes:
        products: what the folder of a pair may hold; a folder with anything else is not written over.
        open_workers: of the settings and a number of threads: who works while the pair is registered.
        examine: finds what is wrong with an image's files.
        read: reads what of the originals is needed before anything is prepared.
        prepare: makes the working images of the originals.
        initialize: of the working images: the linear map, as a ladder's result.
        refine: of the working images and that result: what is found, with its ladder as ``climb``.
        join: of both and the gates' verdicts: what was found, to be written, assessed and drawn.
        write_transforms: begins to write the transforms; what it returns is waited for.
        apply: writes what follows the transform; returns a record of each step.
        assess: measures the result.
        report: writes the page, with facts and provenance.
    """

    products: tuple[str, ...]
    open_workers: Callable[[Mapping[str, Any], int], AbstractContextManager[Any]]
    examine: Callable[[Any], Any]
    read: Callable[[PairJob], Any]
    prepare: Callable[[PairJob, Any], Any]
    initialize: Callable[[PairJob, Any], Any]
    refine: Callable[[PairJob, Any, Any], Any]
    join: Callable[[PairJob, Any, Any, Any, Mapping[str, Any]], Any]
    write_transforms: Callable[[Path, PairJob, Any, Any], Sequence[Future[Any]]]
    apply: Callable[[Path, PairJob, Any, Any, Sequence[Future[Any]]], list[dict[str, Any]]]
    assess: Callable[[Path, PairJob, Any], Any]
    report: Callable[[Path, PairJob, Any, Any, Sequence[tuple[str, str]], Sequence[tuple[str, str]]], None]
