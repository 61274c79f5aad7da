"""What surrounds the work of a job: its share of the machine, and a log."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regflow.core.logs import log_stage
from regflow.core.threads import limit_threads


@contextmanager
def run_job(log: str | Path, threads: int) -> Iterator[None]:
    """Run a job in a process of its own; import what can fail, and heavy libraries, inside the block.

    Args:
        log: where all goes that the process says, as :func:`regflow.core.logs.log_stage` has it.
        threads: most threads that libraries use.
    """
    limit_threads(threads)
    with log_stage(log):
        yield
