"""A list of methods as a ladder: the next one runs when the gate rejects the last."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regflow.core.errors import RegistrationError
from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.table import Method, find, find_transform

log = logging.getLogger(__name__)

Examine = Callable[[Transform], tuple[Verdict, float]]
"""Gives a candidate's verdict and its similarity, higher is better."""


@dataclass(frozen=True)
class Climb:
    """What a ladder came to: the transform, who made it, the gate's verdict, and every try."""

    transform: Transform
    method: str
    verdict: Verdict
    steps: list[dict[str, Any]]


def climb(
    stage: str,
    table: Mapping[str, Method],
    names: Sequence[str],
    pair: tuple[Image, Image],
    initial: Transform,
    options: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Any],
    examine: Examine,
) -> Climb:
    """Run methods in order until the gate passes one; keep the best when none passes.

    Args:
        stage: ``initialize`` or ``refine``, for messages.
        table: the stage's methods.
        names: the ladder, first choice first.
        pair: the fixed and the moving image.
        initial: the transform to start from.
        options: each method's own options by method name; missing ones take their defaults.
        shared: options every method gets: ``threads``, ``seed`` and, for methods that keep the
            log of a tool, ``log``.
        examine: the gate.

    Raises:
        InputError: an unknown method.
        RegistrationError: every method failed to give a transform; all reasons are named.
    """
    methods = [(name, find(table, name, stage)) for name in names]
    best: Climb | None = None
    best_rank: tuple[int, float] | None = None
    steps: list[dict[str, Any]] = []
    for name, method in methods:
        started = time.perf_counter()
        step: dict[str, Any] = {"name": name}
        steps.append(step)
        try:
            chosen = {**method.complete(options.get(name, {})), **shared}
            transform = find_transform(method, *pair, initial, chosen)
            verdict, similarity = examine(transform)
        except RegistrationError as error:
            step.update(seconds=time.perf_counter() - started, state="error", reason=str(error))
            log.warning("%s: %s gave up: %s", stage, name, error)
            continue
        step.update(seconds=time.perf_counter() - started, state="done", verdict=verdict.to_dict())
        log.info("%s: %s is %s: %s", stage, name, verdict.status, verdict.reason)
        rank = (-verdict.severity, similarity)
        if best_rank is None or rank > best_rank:
            best, best_rank = Climb(transform, name, verdict, steps), rank
        if verdict.status == "pass":
            break
    if best is None:
        reasons = "; ".join(
            f"{step['name']}: {step['reason'].removeprefix(step['name'] + ': ')}" for step in steps
        )
        raise RegistrationError(f"{stage}: no method gave a transform ({reasons})")
    return best
