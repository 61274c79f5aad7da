"""A list of methods as a ladder: the next one runs when the gate rejects the last."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from regflow.core.errors import InputError, RegistrationError, SettingError
from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.result import MethodResult
from regflow.methods.table import Method, check_options, find_method, list_methods_of_kind, run_method

log = logging.getLogger(__name__)

LANDMARKS = "landmarks"
"""Name, in a stage's record, of the errors of landmarks that drove it."""

LABELS_USED = "labels_used"
"""Name, in a stage's record, of that label maps drove it."""

Examine = Callable[[MethodResult], tuple[Verdict, float]]
"""Gives a candidate's verdict and its similarity, higher is better; RegistrationError where it cannot."""

Surpasses = Callable[[Verdict, Verdict], bool]
"""Tells from two verdicts' figures whether the first has the better evidence, by more than its noise."""


@dataclass(frozen=True)
class LadderResult:
    """What a ladder came to: what was found, who made it, the gate's verdict, and every try.

    Attributes:
        result: the best.
        method: its maker; of the transform that the stage began with, that one's name.
        verdict: the gate's.
        steps: one record per try.
        kept: the transform is the one that the stage began with.
    """

    result: MethodResult
    method: str
    verdict: Verdict
    steps: list[dict[str, Any]]
    kept: bool = False

    @property
    def transform(self) -> Transform:
        """The best, from fixed to moving world points."""
        return self.result.transform

    @property
    def details(self) -> dict[str, Any]:
        """What a stage's record tells beside verdict and steps."""
        landmarks = self.result.landmarks
        errors = {} if landmarks is None else {LANDMARKS: landmarks.to_dict()}
        labels = {LABELS_USED: True} if self.result.labels_used else {}
        return {"method": self.method, "kept": self.kept, **errors, **labels}


@dataclass(frozen=True)
class InitialTransform:
    """The transform that a stage begins with: a hypothesis like those of the methods.

    Attributes:
        transform: from fixed to moving world points.
        name: of its step.
        surpassed: whether a candidate that the gate rejects is nevertheless the better one.
    """

    transform: Transform
    name: str
    surpassed: Surpasses


def run_ladder(
    stage: str,
    kind: str,
    table: Mapping[str, Method],
    section: Mapping[str, Any],
    pair: tuple[Image, Image],
    incoming: InitialTransform,
    context: RunContext,
    examine: Examine,
) -> LadderResult:
    """Run methods in order until the gate passes one; where it rejects all, the incoming one may stand.

    A method that cannot do it, whatever it says about the images, leaves the next one to try. Where no
    candidate gets through the gate, the incoming transform is judged like them. It stands, with the
    verdict ``warn`` or ``fail``, unless the gate rejects it too and a candidate surpasses it.

    Args:
        stage: ``initialize`` or ``refine``, for messages.
        kind: ``volumes`` or ``rasters``: of the methods those that serve it.
        table: the stage's methods.
        section: the stage's section of the configuration: ``methods``, first choice first, and ``options`` by
            method; those left out take their defaults.
        pair: the fixed and the moving image.
        incoming: the transform to start from.
        context: what every method gets beside its options.
        examine: the gate.

    Raises:
        SettingError: an unknown method or option.
        RegistrationError: no method gave a transform and the incoming one cannot be judged, because
            the images have nothing in common under it; all reasons are named.
    """
    table, options = list_methods_of_kind(table, kind), section.get("options") or {}
    methods = [(name, find_method(table, name, stage)) for name in section["methods"]]
    for name, method in methods:
        check_options(name, method, options.get(name, {}), stage)
    tries = _Tries(stage, examine)
    for name, method in methods:
        completed = method.complete(options.get(name, {}))
        if tries.run(name, partial(run_method, method, *pair, incoming.transform, completed, context)):
            break
    best = tries.best
    if best is not None and (best.verdict.status != "fail" or best.result.transform is incoming.transform):
        return _concluded(best, tries, incoming)
    tried = len(tries.steps)
    held = tries.judge(incoming.name, MethodResult(incoming.transform))
    reasons = _reasons(tries.steps[:tried])
    if held is None and best is None:
        raise RegistrationError(f"{stage}: no method gave a transform ({reasons})")
    if held is None or (best is not None and _rejected_twice(held, best, incoming)):
        assert best is not None
        return _concluded(best, tries, incoming)
    verdict = _standing(held.verdict, incoming.name, reasons)
    log.warning("%s: %s", stage, verdict.reason)
    return _concluded(_Candidate(held.result, held.name, verdict, held.similarity), tries, incoming)


@dataclass(frozen=True)
class _Candidate:
    """What was found and what the gate says of it."""

    result: MethodResult
    name: str
    verdict: Verdict
    similarity: float

    @property
    def rank(self) -> tuple[int, float]:
        return -self.verdict.severity, self.similarity


class _Tries:
    """Runs and judges, and keeps the record of it and the best candidate."""

    def __init__(self, stage: str, examine: Examine) -> None:
        self.best: _Candidate | None = None
        self.steps: list[dict[str, Any]] = []
        self._stage = stage
        self._examine = examine

    def run(self, name: str, make: Callable[[], MethodResult]) -> bool:
        """Run a method and judge what it gives; tell whether it passed."""
        found = self._attempt(name, make)
        if found is None:
            return False
        if self.best is None or found.rank > self.best.rank:
            self.best = found
        return found.verdict.status == "pass"

    def judge(self, name: str, result: MethodResult) -> _Candidate | None:
        """Judge what no method made; None where it cannot be judged."""
        return self._attempt(name, lambda: result)

    def _attempt(self, name: str, make: Callable[[], MethodResult]) -> _Candidate | None:
        started = time.perf_counter()
        step: dict[str, Any] = {"name": name}
        self.steps.append(step)
        try:
            result = make()
            verdict, similarity = self._examine(result)
        except SettingError:
            raise
        except (InputError, RegistrationError) as error:
            step.update(seconds=time.perf_counter() - started, state="error", reason=str(error))
            log.warning("%s: %s gave up: %s", self._stage, name, error)
            return None
        step.update(seconds=time.perf_counter() - started, state="done", verdict=verdict.to_dict())
        log.info("%s: %s is %s: %s", self._stage, name, verdict.status, verdict.reason)
        return _Candidate(result, name, verdict, similarity)


def _concluded(chosen: _Candidate, tries: _Tries, incoming: InitialTransform) -> LadderResult:
    kept = chosen.result.transform is incoming.transform
    return LadderResult(chosen.result, chosen.name, chosen.verdict, tries.steps, kept)


def _rejected_twice(held: _Candidate, best: _Candidate, incoming: InitialTransform) -> bool:
    """Tell whether the gate rejects the incoming transform, too, and a candidate surpasses it."""
    return held.verdict.status == "fail" and incoming.surpassed(best.verdict, held.verdict)


def _standing(judged: Verdict, name: str, reasons: str) -> Verdict:
    """Return the verdict of an incoming transform that stands: never ``pass``."""
    stands = f"no method found better than {name}, which stands ({reasons})"
    if judged.status == "pass":
        return Verdict("warn", stands, judged.figures)
    return Verdict(judged.status, f"{judged.reason}; {stands}", judged.figures)


def _reasons(steps: Sequence[Mapping[str, Any]]) -> str:
    """Tell why each of the methods that were tried came to nothing."""
    told = []
    for step in steps:
        reason = step["reason"] if step["state"] == "error" else step["verdict"]["reason"]
        told.append(f"{step['name']}: {reason.removeprefix(step['name'] + ': ')}")
    return "; ".join(told)
