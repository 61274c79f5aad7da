"""What a comparison came to: a row for each method, and the ladder that it recommends."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regflow.pipeline.comparison import DEFAULT, OWN, STAGES, Trial

SOLVED_SAMPLES = 1.5
"""Mean error up to which a pair of known truth counts as solved, in samples of the fixed image."""
AS_GOOD = 1.1
"""Errors and seconds within this factor are equal."""
ACCURACY = ("tre_mean_mm_refine", "tre_rms_px", "rmse_px_refine")
"""Figures of independent points, where there are some: the first that is there counts."""

TrialOutcome = Mapping[str, Any]


@dataclass(frozen=True)
class MethodRow:
    """What a method has shown.

    Attributes:
        stage: ``initialize`` or ``refine``.
        method: its name, or ``default``.
        own: what came of it on the user's pair; None where it was not tried there.
        truth: by the name of a pair of known truth, what came of it.
        solved: of these pairs, those on which its mean error is small.
        error: mean of the mean errors on these pairs, a failure counting as the start's error; None without.
        seconds: median over the pairs of the seconds of initialize and refine.
        cpu_seconds: median over the pairs of the processor seconds of the whole registration.
        peak_mb: most memory that any of its processes took.
    """

    stage: str
    method: str
    own: TrialOutcome | None
    truth: Mapping[str, TrialOutcome]
    solved: tuple[str, ...]
    error: float | None
    seconds: float | None
    cpu_seconds: float | None
    peak_mb: float | None

    @property
    def is_usable(self) -> bool:
        """Whether it came to a result on the user's pair that is not refused."""
        return self.own is None or (self.own["state"] == "done" and self.own["status"] != "fail")


@dataclass(frozen=True)
class Recommendation:
    """Which ladder to use.

    Attributes:
        ladders: methods by stage.
        is_default: by stage, whether these are the default ones.
        reasons: by stage, one sentence.
    """

    ladders: Mapping[str, Sequence[str]]
    is_default: Mapping[str, bool]
    reasons: Mapping[str, str]


def gather_rows(
    trials: Sequence[Trial], outcomes: Sequence[TrialOutcome], starts: Mapping[str, float], spacing: float
) -> list[MethodRow]:
    """Return a row for each method, by stage, the default ladder first.

    Args:
        trials: of the comparison.
        outcomes: what came of each.
        starts: mean distance to the truth before the registration, by the name of a pair.
        spacing: of the fixed image's samples, world units.
    """
    found: dict[tuple[str, str], dict[str, TrialOutcome]] = {}
    for trial, outcome in zip(trials, outcomes, strict=True):
        found.setdefault((trial.stage, trial.method), {})[trial.pair.name] = outcome
    ordered = sorted(found, key=lambda key: (STAGES.index(key[0]), key[1] != DEFAULT))
    return [_make_row(*key, found[key], starts, spacing) for key in ordered]


def _make_row(
    stage: str, method: str, by_pair: Mapping[str, TrialOutcome], starts: Mapping[str, float], spacing: float
) -> MethodRow:
    truth = {name: outcome for name, outcome in by_pair.items() if name != OWN}
    errors = {
        name: outcome["truth"]["mean"] if outcome["state"] == "done" else starts[name]
        for name, outcome in truth.items()
    }
    done = [outcome for outcome in by_pair.values() if outcome["state"] == "done"]
    return MethodRow(
        stage,
        method,
        by_pair.get(OWN),
        truth,
        tuple(name for name, error in errors.items() if error <= SOLVED_SAMPLES * spacing),
        float(np.mean(list(errors.values()))) if errors else None,
        _median(outcome["seconds"]["initialize"] + outcome["seconds"]["refine"] for outcome in done),
        _median(outcome["cpu_seconds"] for outcome in done),
        max((outcome["peak_mb"] for outcome in done), default=None),
    )


def _median(values: Iterator[float]) -> float | None:
    listed = list(values)
    return float(np.median(listed)) if listed else None


def choose_ladders(rows: Sequence[MethodRow], defaults: Mapping[str, Sequence[str]]) -> Recommendation:
    """Recommend methods for each stage.

    Linear methods are taken until no other one solves what those taken do not, the one that solves most
    first, then the faster one. Of the deformable methods that one is taken whose error is least; of those
    that err as little the fastest. Where the default ladder solves as much, errs as little and is as fast,
    it is recommended: it has shown more than one pair can.
    """
    linear, why_linear = _choose_linear([row for row in rows if row.stage == "initialize"])
    deformable, why = _choose_deformable([row for row in rows if row.stage == "refine"])
    chosen = {"initialize": linear, "refine": deformable}
    is_default = {stage: not found or found == list(defaults[stage]) for stage, found in chosen.items()}
    return Recommendation(
        {stage: list(defaults[stage]) if is_default[stage] else found for stage, found in chosen.items()},
        is_default,
        {"initialize": why_linear, "refine": why},
    )


def _choose_linear(rows: Sequence[MethodRow]) -> tuple[list[str], str]:
    """Return the linear methods to take, and why; none where the default ladder is to stay."""
    default = next((row for row in rows if row.method == DEFAULT), None)
    methods = [row for row in rows if row.method not in (DEFAULT, "header") and row.is_usable]
    ladder: list[MethodRow] = []
    solved: set[str] = set()
    while best := max(methods, key=lambda row: _worth(row, solved), default=None):
        if ladder and not set(best.solved) - solved:
            break
        ladder.append(best)
        solved |= set(best.solved)
        methods.remove(best)
        if not methods:
            break
    if not ladder:
        return [], "no linear method gave a usable result on the pair by itself, so the default ladder stays"
    count = len(rows[0].truth) if rows else 0
    names = ", then ".join(row.method for row in ladder)
    if default is not None and set(default.solved) >= solved and _is_as_good(default, ladder[0]):
        return (
            [],
            f"the default ladder solves {len(default.solved)} of {count}, as much as any method, as fast",
        )
    of_default = "" if default is None else f"; the default ladder solves {len(default.solved)}"
    return [
        row.method for row in ladder
    ], f"{names}: solves {len(solved)} of {count} known motions{of_default}"


def _worth(row: MethodRow, solved: set[str]) -> tuple[int, float]:
    return len(set(row.solved) - solved), -(row.seconds or 0.0)


def _choose_deformable(rows: Sequence[MethodRow]) -> tuple[list[str], str]:
    """Return the deformable method to take, and why; none where the default ladder is to stay."""
    default = next((row for row in rows if row.method == DEFAULT), None)
    scores = {row.method: _score(row, rows) for row in rows if row.is_usable and row.error is not None}
    if not scores or list(scores) == [DEFAULT]:
        return (
            [],
            "no deformable method gave a usable result on the pair by itself, so the default ladder stays",
        )
    least = min(scores.values())
    good = [row for row in rows if scores.get(row.method, np.inf) <= AS_GOOD * least]
    best = min(good, key=lambda row: row.seconds or 0.0)
    if default in good and _is_as_good(default, best):
        return [], f"no method errs clearly less than the default ladder ({default.error:.2f} on known warps)"
    of_default = (
        "" if default is None or default.error is None else f"; the default ladder {default.error:.2f}"
    )
    return [best.method], f"{best.method}: {best.error:.2f} mean error on known warps{of_default}"


def _score(row: MethodRow, rows: Sequence[MethodRow]) -> float:
    """Return how far a method errs, relative to the best: on known warps, and on the user's own points."""
    least = min(other.error for other in rows if other.error is not None)
    score = (row.error or 0.0) / max(least, 1e-9)
    own = find_accuracy(row)
    known = [found for other in rows if (found := find_accuracy(other)) is not None]
    return score if own is None else float(np.sqrt(score * own / max(min(known), 1e-9)))


def find_accuracy(row: MethodRow) -> float | None:
    """Return the error at independent points of the user's pair, where there are some."""
    figures = (row.own or {}).get("figures", {})
    return next((figures[name] for name in ACCURACY if figures.get(name) is not None), None)


def _is_as_good(default: MethodRow, best: MethodRow) -> bool:
    """Tell whether the default ladder is about as fast as a method."""
    if default.seconds is None or best.seconds is None:
        return default.seconds is not None
    return default.seconds <= 1.25 * AS_GOOD * best.seconds or default.seconds - best.seconds < 1.0
