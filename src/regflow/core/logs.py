"""Where a stage's words go: everything a job says, in one file, its last error included."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"

log = logging.getLogger(__name__)


@contextmanager
def stage_log(path: str | Path) -> Iterator[None]:
    """Send all that the process says inside the block to ``path``.

    The file descriptors of standard output and error are redirected, so that the C++ libraries'
    warnings land there too. An error that leaves the block is written with its traceback, so enter
    the block before importing anything that can fail.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream, _redirected(stream.fileno()):
        handler = logging.StreamHandler(stream)
        with _attached(handler):
            try:
                yield
            except BaseException:
                log.exception("the job stopped here")
                raise


@contextmanager
def console_log(level: int = logging.INFO) -> Iterator[None]:
    """Write regflow's messages to standard error inside the block, one plain line each."""
    with _attached(logging.StreamHandler(sys.stderr), level):
        yield


@contextmanager
def _attached(handler: logging.Handler, level: int = logging.INFO) -> Iterator[None]:
    handler.setFormatter(logging.Formatter(FORMAT, DATE_FORMAT))
    ours = logging.getLogger("regflow")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(level)
    logging.captureWarnings(True)
    warnings = logging.getLogger("py.warnings")
    warnings.addHandler(handler)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        warnings.removeHandler(handler)
        ours.removeHandler(handler)
        ours.setLevel(before)
        handler.flush()


@contextmanager
def _redirected(target: int) -> Iterator[None]:
    streams = (sys.stdout, sys.stderr)
    saved = [(number, os.dup(number)) for number in (1, 2)]
    for stream in streams:
        stream.flush()
    try:
        for number, _ in saved:
            os.dup2(target, number)
        yield
    finally:
        for stream in streams:
            stream.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
