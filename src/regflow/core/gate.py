"""The check after each stage: figures against limits give a verdict with its reason."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["pass", "warn", "fail"]
_SEVERITY: dict[str, int] = {"pass": 0, "warn": 1, "fail": 2}
LIMIT_KEYS = ("fail_below", "fail_above", "warn_below", "warn_above")


@dataclass(frozen=True)
class Verdict:
    """The outcome of a gate.

    Attributes:
        status: ``pass``, ``warn`` or ``fail``.
        reason: one sentence with the figure that decided.
        figures: every figure that was looked at, by a name that carries its unit.
    """

    status: Status
    reason: str
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def severity(self) -> int:
        """0 for pass, 1 for warn, 2 for fail."""
        return _SEVERITY[self.status]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {"status": self.status, "reason": self.reason, "figures": dict(self.figures)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Verdict":
        """Rebuild a verdict from :meth:`to_dict`."""
        return cls(content["status"], content["reason"], dict(content.get("figures") or {}))


def compute_figure_changes(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Return how much figures have changed, under ``NAME_change``.

    What could not be computed before, as the similarity of images that did not touch, has no known
    change and is left out. What cannot be computed now changes by NaN, which :func:`judge_figures` fails.
    """
    return {
        f"{name}_change": value - before[name]
        for name, value in now.items()
        if value != value or before[name] == before[name]
    }


def judge_figures(
    figures: Mapping[str, float],
    limits: Mapping[str, Mapping[str, float]],
    meanings: Mapping[str, str] | None = None,
) -> Verdict:
    """Hold figures against limits.

    Args:
        figures: measured values by name.
        limits: by figure name, any of ``fail_below``, ``fail_above``, ``warn_below``,
            ``warn_above``. A limit on a figure that was not measured is left aside; a figure
            that is not a number fails.
        meanings: by figure name, what it means when a limit is broken, for the verdict's sentence.

    Returns:
        The most severe verdict, with the sentence of the figure that decided.
    """
    found: list[Verdict] = []
    for name, bounds in limits.items():
        if name in figures:
            found.extend(_breaches(name, float(figures[name]), bounds, (meanings or {}).get(name, "")))
    passed = Verdict("pass", "every figure is within its limits")
    decided = max(found, key=lambda verdict: verdict.severity, default=passed)
    return Verdict(decided.status, decided.reason, {k: float(v) for k, v in figures.items()})


def find_worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe verdict, the first of equals; ``pass`` when there are none."""
    return max(verdicts, key=lambda v: v.severity, default=Verdict("pass", "nothing was checked"))


def _breaches(name: str, value: float, bounds: Mapping[str, float], meaning: str) -> Iterable[Verdict]:
    before, after = (f"{meaning} (", ")") if meaning else ("", "")
    if value != value:
        yield Verdict("fail", f"{name} could not be computed")
        return
    for key in LIMIT_KEYS:
        limit = bounds.get(key)
        if limit is None:
            continue
        status: Status = "fail" if key.startswith("fail") else "warn"
        side = key.split("_")[1]
        if (value < limit) if side == "below" else (value > limit):
            broken = f"{name} is {value:.4g}, {side} the limit of {limit:.4g}"
            yield Verdict(status, f"{before}{broken}{after}")
