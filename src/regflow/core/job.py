"""What surrounds the work of a job: its share of the machine, and a log."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regflow.core.errors import describe_machine_failure
from regflow.core.logs import log_stage
from regflow.core.threads import limit_threads


@contextmanager
def run_job(log: str | Path, threads: int) -> Iterator[None]:
    """Run a job in a process of its own; import what can fail, and heavy libraries, inside the block.

    Args:
        log: where all goes that the process says, as :func:`regflow.core.logs.log_stage` has it.
        threads: most threads that libraries use.

    Raises:
        SystemExit: with a sentence, where the disk is full or a folder cannot be written.
    """
    limit_threads(threads)
    try:
        with log_stage(log):
            yield
    except OSError as error:
        reason = describe_machine_failure(error)
        if reason is None:
            raise
        raise SystemExit(reason) from error
