"""A folder of results belongs to one run at a time; what a killed run has left behind is put in order."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from regflow.core.errors import InputError
from regflow.core.files import read_json, write_json
from regflow.stages import layout

log = logging.getLogger(__name__)

MARK = "REGFLOW_RUN"
"""Environment variable by which all processes of a run are known."""


class LeftLockError(InputError):
    """Snakemake's own lock is still there: the next run removes it, as after a kill."""


@dataclass(frozen=True)
class HeldRun:
    """A run that holds its folder.

    Attributes:
        mark: that all of its processes bear in their environment.
        after_kill: whether an earlier run was killed in the folder, so that Snakemake's own lock is to be
            removed.
    """

    mark: str
    after_kill: bool


@contextmanager
def keep_results(results: str | Path) -> Iterator[HeldRun]:
    """Hold a folder of results while the block runs.

    Jobs of a run that was killed may go on by themselves, and would write beside those of this one: they are
    stopped.

    Args:
        results: the folder; made if it is not there.

    Raises:
        InputError: another run goes on in the folder, or one on another machine has not ended.
    """
    left_locked = False
    record = Path(results) / layout.RUN
    before = read_json(record) if record.is_file() else None
    if before is not None:
        _refuse_living(Path(results), record, before)
        close_run(before["mark"])
    mine = psutil.Process()
    mark = secrets.token_hex(8)
    record.parent.mkdir(parents=True, exist_ok=True)
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"host": socket.gethostname(), "pid": mine.pid, "started": mine.create_time()}
    write_json(record, {**content, "begun": begun, "mark": mark})
    outer = os.environ.get(MARK)
    os.environ[MARK] = mark
    try:
        yield HeldRun(mark, before is not None)
    except LeftLockError:
        left_locked = True
        raise
    finally:
        os.environ.pop(MARK)
        if outer is not None:
            os.environ[MARK] = outer
        if not left_locked:
            record.unlink(missing_ok=True)


def _refuse_living(results: Path, record: Path, before: dict[str, Any]) -> None:
    told = f"{results}: another run has begun here at {before['begun']}"
    if before["host"] != socket.gethostname():
        raise InputError(
            f"{told} on {before['host']} and has not ended; wait for it, or remove {record} if it was killed"
        )
    try:
        lives = psutil.Process(before["pid"]).create_time() == before["started"]
    except psutil.NoSuchProcess:
        lives = False
    if lives:
        raise InputError(f"{told} (process {before['pid']}); wait for it, or stop it")


def close_run(mark: str) -> None:
    """End the processes of a killed run that go on without it.

    Args:
        mark: that they bear.
    """
    others = (process for process in psutil.process_iter() if process.pid != os.getpid())
    found = [process for process in others if _mark_of(process) == mark]
    for process in found:
        log.warning("process %d of a run that was killed still goes on: it is stopped", process.pid)
        process.kill()
    psutil.wait_procs(found)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
