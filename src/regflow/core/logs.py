"""Where a stage's words go: everything a job says, in one file, its last error included."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from regflow.core.addresses import redact_text
from regflow.core.errors import describe_machine_failure
from regflow.core.progress import StageEvent, StageListener, ignore_events

if TYPE_CHECKING:
    from tqdm import tqdm

FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
UNPLACED = "Dataset has no geotransform"
"""How a warning of rasterio's begins that says what regflow says in words of its own."""
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ +")

log = logging.getLogger(__name__)


@contextmanager
def log_stage(path: str | Path) -> Iterator[None]:
    """Send all that the process says inside the block to ``path``.

    The file descriptors of standard output and error are redirected, so that the C++ libraries'
    warnings land there too. An error that leaves the block is written with its traceback, or in a sentence
    where the machine is to blame, so enter the block before importing anything that can fail.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream, _redirected(stream.fileno()):
        handler = logging.StreamHandler(stream)
        with _attached(handler):
            try:
                yield
            except BaseException as error:
                reason = describe_machine_failure(error) if isinstance(error, OSError) else None
                if reason is None:
                    log.exception("the job stopped here")
                else:
                    log.error(reason)
                raise


def drop_time(line: str) -> str:
    """Return what a line of a log says, without when and how loud; of other lines all."""
    return _STAMP.sub("", line)


@contextmanager
def show_progress_log(title: str, stages: int) -> Iterator[StageListener]:
    """Show regflow's messages on standard error: behind a bar in a terminal, else as plain lines.

    Args:
        title: stands before the bar.
        stages: how many the bar counts to.

    Yields:
        What to tell of stages that begin and end; the bar moves on as one ends.
    """
    if not sys.stderr.isatty():
        with _attached(logging.StreamHandler(sys.stderr)):
            yield ignore_events
        return
    from tqdm import tqdm

    with tqdm(total=stages, desc=title, leave=False) as bar, _attached(_BesideBar(bar)):
        one_at_a_time = Lock()

        def show(event: StageEvent) -> None:
            with one_at_a_time:
                if event.state == "begun":
                    bar.set_postfix_str(event.title)
                else:
                    bar.update()
                    bar.refresh()

        yield show


@contextmanager
def log_above_bars() -> Iterator[None]:
    """Show regflow's messages on standard error, above whatever progress bars stand there."""
    with _attached(_AboveBars()):
        yield


@contextmanager
def append_log(path: str | Path) -> Iterator[None]:
    """Add regflow's messages to the end of a file, for work that is taken up again and again."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream, _attached(logging.StreamHandler(stream)):
        yield


class _WithoutSecrets(logging.Formatter):
    """Formats a message, its traceback included, without the secrets of the addresses in it."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


class _AboveBars(logging.Handler):
    """Writes each message as a line of its own, which no progress bar writes over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message."""
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


class _BesideBar(logging.Handler):
    """Shows each message beside a bar."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        super().__init__()
        self.bar = bar

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message; warnings stay on the screen."""
        if record.levelno >= logging.WARNING:
            self.bar.write(redact_text(record.getMessage()), file=sys.stderr)
        else:
            self.bar.set_postfix_str(redact_text(record.getMessage()))


@contextmanager
def _attached(handler: logging.Handler, level: int = logging.INFO) -> Iterator[None]:
    handler.setFormatter(_WithoutSecrets(FORMAT, DATE_FORMAT))
    ours = logging.getLogger("regflow")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(level)
    logging.captureWarnings(True)
    told = logging.getLogger("py.warnings")
    told.addHandler(handler)
    try:
        with warnings.catch_warnings():
            # Files are opened in several threads, whose own filters take one another's place.
            warnings.filterwarnings("ignore", UNPLACED)
            yield
    finally:
        logging.captureWarnings(False)
        told.removeHandler(handler)
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
