"""What one pair's registration shares, whatever its kind: a record of the stages, and a folder to fill."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError
from regflow.core.gate import Verdict
from regflow.core.progress import StageEvent, StageListener, ignore_events
from regflow.core.transform import Transform
from regflow.stages.checks import Findings

log = logging.getLogger(__name__)

FULL_BYTES = 1 << 18
"""A disk with less room than this counts as full: a writer that failed wanted more."""


@dataclass
class RunRecorder:
    """What happened: one record per stage, as in the workflow's ``stage.json``.

    Attributes:
        sample: the pair's name.
        started: when, by the clock of performance.
        progress: is told when a stage begins and when it ends.
        stages: the records of those that have ended, in the order of their ends.
    """

    sample: str
    progress: StageListener = ignore_events
    started: float = field(default_factory=time.perf_counter)
    stages: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def record_stage(self, name: str, image: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield a stage's record to fill in; its seconds are those of the block."""
        record: dict[str, Any] = {
            "stage": name,
            "title": f"{name} ({image})" if image else name,
            "sample": self.sample,
            "state": "done",
            "verdict": Verdict("pass", "nothing was checked").to_dict(),
            "steps": [],
            "details": {},
        }
        self.progress(StageEvent(record["title"], "begun"))
        begun = time.perf_counter()
        yield record
        record["seconds"] = time.perf_counter() - begun
        self.stages.append(record)
        log.info("%s: %.1f s", record["title"], record["seconds"])
        self.progress(StageEvent(record["title"], "ended", record["seconds"]))

    def sum_seconds(self) -> dict[str, float]:
        """Return the seconds by stage, and since the start in ``total``."""
        spent: dict[str, float] = {}
        for record in self.stages:
            spent[record["stage"]] = spent.get(record["stage"], 0.0) + record["seconds"]
        return {**spent, "total": time.perf_counter() - self.started}


@dataclass(frozen=True, eq=False)
class PairRecord:
    """What the registration of one pair came to.

    Attributes:
        output: the folder with the products.
        transform: fixed to moving world points; of scenes, both in the fixed scene's CRS.
        verdict: of the registration as a whole.
        quality: content of ``quality.json``.
        seconds: by stage, and in ``total``; stages overlap, so they add up to more.
    """

    output: Path
    transform: Transform
    verdict: Verdict
    quality: dict[str, Any]
    seconds: dict[str, float]


def refuse_unfit(findings: Iterable[Findings]) -> None:
    """Log what is odd about the files of a pair, and refuse what is wrong.

    Raises:
        InputError: every problem found, one to a line.
    """
    looked_at = list(findings)
    for found in looked_at:
        for sentence in found.warnings:
            log.warning("%s", sentence)
    problems = [sentence for found in looked_at for sentence in found.problems]
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))


def require_writable(target: Path, products: Collection[str]) -> Path:
    """Return the folder if it may be written.

    Args:
        target: the folder, there or not.
        products: what an earlier result may hold.

    Raises:
        InputError: it is a file, or holds what this program did not write.
    """
    if target.is_dir():
        foreign = sorted(item.name for item in target.iterdir() if item.name not in products)
        if foreign:
            raise InputError(
                f"{target}: this folder holds other files ('{foreign[0]}'); name a new folder for the result"
            )
    elif target.exists():
        raise InputError(f"{target}: this is a file; name a folder for the result")
    return target


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Tell a full disk from other failures of writers, which have many words for it.

    Raises:
        OSError: with ``errno.ENOSPC``, when a writer failed and ``folder``'s disk has no room.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if shutil.disk_usage(folder).free > FULL_BYTES:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.parent)) from error
