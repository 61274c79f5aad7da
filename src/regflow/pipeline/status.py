"""How far a study has come, from what lies in its folder: also while it runs, and by whoever may read it."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regflow.pipeline.stored_results import open_results
from regflow.stages import layout
from regflow.stages.freshness import STAGE_FILE
from regflow.stages.shell import read_outcome


@dataclass(frozen=True)
class StudyStatus:
    """How far a study has come.

    Attributes:
        total: samples of the cohort.
        done: samples that have their page, with the status of their verdict: ``pass``, ``warn``, ``fail``,
            or ``error`` where the data did not allow a registration.
        waiting: the other samples, by the stage that comes next.
        reasons: by sample that could not be registered, the sentence that says why.
        samples_per_hour: of those that this run has finished; None before the first.
        hours_left: at that rate; None where there is none, or nothing left.
    """

    total: int
    done: Mapping[str, int]
    waiting: Mapping[str, int]
    reasons: Mapping[str, str]
    samples_per_hour: float | None
    hours_left: float | None


def read_stored_status(output: str | Path, names: Sequence[str], storage: str | None) -> StudyStatus:
    """Return how far a study has come whose results may lie on a server.

    Args:
        output: the folder of results, as the configuration names it.
        names: of the cohort's samples.
        storage: address of the storage of the run; None where they lie on this machine.

    Raises:
        InputError: only results on S3 can be listed.
        OSError: the server refuses, or does not answer.
    """
    with open_results(output, storage) as results:
        results.fetch_outline(_is_read)
        return read_status(results.folder, names)


def _is_read(path: PurePosixPath) -> bool:
    return path.name == STAGE_FILE and path.is_relative_to(PurePosixPath(layout.ASSESSED).parent)


def read_status(results: str | Path, names: Sequence[str], *, now: float | None = None) -> StudyStatus:
    """Return how far a study has come.

    Args:
        results: its folder of results.
        names: of the cohort's samples.
        now: seconds since 1970; the clock's when None.
    """
    results = Path(results)
    done: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    finished: list[float] = []
    for name in names:
        stage = find_next_stage(results, name)
        if stage is not None:
            waiting[stage] += 1
            continue
        status, reason = _verdict(results / layout.ASSESSED.format(sample=name))
        done[status] += 1
        finished.append((results / layout.SAMPLE_PAGE.format(sample=name)).stat().st_mtime)
        if status == "error":
            reasons[name] = reason
    rate = _rate(results, finished, time.time() if now is None else now)
    left = sum(waiting.values()) / rate if rate and waiting else None
    return StudyStatus(len(names), dict(done), dict(waiting), reasons, rate, left)


def find_next_stage(results: Path, sample: str) -> str | None:
    """Return the first stage that has left nothing of a sample; None for one that has its page.

    Changes are looked for last, and not in every study: they are nobody's next stage.
    """
    places = {
        stage: results / place.format(sample=sample)
        for stage, place in layout.OF_A_SAMPLE.items()
        if stage != "detect"
    }
    if places["report"].exists():
        return None
    return next(stage for stage, place in places.items() if not place.exists())


def describe_status(status: StudyStatus) -> Iterator[str]:
    """Yield lines that tell a person how far a study has come."""
    count = sum(status.done.values())
    verdicts = ", ".join(
        f"{status.done[word]} {word}" for word in ("pass", "warn", "fail", "error") if word in status.done
    )
    percent = 100 * count / status.total if status.total else 100.0
    yield f"{count} of {status.total} samples are done ({percent:.0f} %){': ' + verdicts if verdicts else ''}"
    if status.waiting:
        order = [stage for stage in layout.OF_A_SAMPLE if stage in status.waiting]
        yield "next stage: " + ", ".join(f"{stage} {status.waiting[stage]}" for stage in order)
    if status.samples_per_hour is not None:
        left = "" if status.hours_left is None else f", {_duration(status.hours_left)} left"
        yield f"{status.samples_per_hour:.3g} samples an hour{left}"
    for sample, reason in status.reasons.items():
        yield f"{sample}: {reason}"


def _verdict(assessed: Path) -> tuple[str, str]:
    if not (assessed / STAGE_FILE).is_file():
        return "error", "its figures are missing; run the study again"
    outcome = read_outcome(assessed)
    return (outcome.verdict.status if outcome.state == "done" else "error"), outcome.verdict.reason


def _rate(results: Path, finished: Sequence[float], now: float) -> float | None:
    """Return the samples per hour since the run began; one that has ended counts to its last sample."""
    started = results / layout.BATCHES
    if not started.is_file():
        return None
    begun = started.stat().st_mtime
    own = [moment for moment in finished if moment >= begun]
    until = max(own) if len(own) and _has_ended(results) else now
    return 3600 * len(own) / (until - begun) if own and until > begun else None


def _has_ended(results: Path) -> bool:
    page = results / layout.COHORT_PAGE
    return page.is_file() and page.stat().st_mtime >= (results / layout.BATCHES).stat().st_mtime


def _duration(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes} min" if minutes < 120 else f"{hours:.1f} h"
