from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from regflow.core.errors import InputError, RegistrationError, SettingError
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, Homography, Transform, is_reflecting
from regflow.methods.context import RunContext
from regflow.methods.ladder import InitialTransform, LadderResult, run_ladder
from regflow.methods.result import MethodResult
from regflow.methods.table import Method, run_method

IMAGE = Image(np.zeros((1, 2, 2, 2), np.float32), Grid.from_geometry((2, 2, 2), (1, 1, 1), (0, 0, 0)))


def shift(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    return Affine.from_parts(np.eye(3), [options["by_mm"], 0, 0])


def refuse(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    raise RegistrationError("the mask is empty")


def row(function: str, by_mm: float = 0.0) -> Method:
    return Method(f"{__name__}:{function}", "", options={"by_mm": {"default": by_mm, "description": "mm"}})


def reject(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    raise InputError("the image is constant inside its mask")


def misread(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    raise SettingError("the option 'by_mm' is no length")


def keep(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    return initial


TABLE = {
    "near": row("shift", 1.0),
    "far": row("shift", 9.0),
    "refuse": row("refuse"),
    "reject": row("reject"),
    "misread": row("misread"),
    "keep": row("keep"),
}


def examine(candidate: MethodResult) -> tuple[Verdict, float]:
    place = float(candidate.transform.apply(np.zeros((1, 3)))[0, 0])
    if place > 99:
        raise RegistrationError("nothing in common")
    miss = abs(place - 1.0)
    status = "pass" if miss < 0.5 else "warn" if miss < 2 else "fail"
    return Verdict(status, f"missed by {miss}", {"miss": miss}), -miss


def surely(candidate: Verdict, incoming: Verdict) -> bool:
    return candidate.figures["miss"] < incoming.figures["miss"] - 2


def run(
    names: list[str], options: Mapping[str, Mapping[str, Any]] | None = None, start_mm: float = 0.0
) -> LadderResult:
    start = InitialTransform(Affine.from_parts(np.eye(3), [start_mm, 0, 0]), "header", surely)
    section = {"methods": names, "options": options or {}}
    return run_ladder("refine", "volumes", TABLE, section, (IMAGE, IMAGE), start, RunContext(), examine)


def test_the_first_that_passes_ends_the_ladder():
    result = run(["near", "far"])
    assert (result.method, len(result.steps)) == ("near", 1)


def test_the_next_runs_when_the_gate_rejects_or_a_method_gives_up():
    result = run(["refuse", "far", "near"])
    assert result.method == "near"
    assert [step["state"] for step in result.steps] == ["error", "done", "done"]
    assert result.steps[0]["reason"] == "the mask is empty"


def test_when_none_passes_the_best_is_kept_with_its_verdict():
    result = run(["far", "near"], {"near": {"by_mm": 2.0}})
    assert result.method == "near"
    assert result.verdict.status == "warn"


@pytest.mark.parametrize(
    ("by_mm", "best"), [({"near": 2.0, "far": 2.4}, "near"), ({"near": 7.0, "far": 2.4}, "far")]
)
def test_the_best_is_kept_wherever_it_stands_on_the_ladder(by_mm, best):
    result = run(["near", "far"], {name: {"by_mm": way} for name, way in by_mm.items()})
    assert (result.method, result.verdict.status, len(result.steps)) == (best, "warn", 2)


@pytest.mark.parametrize("refusing", ["refuse", "reject"])
def test_a_method_that_cannot_leaves_the_next_to_try_whatever_it_says(refusing):
    result = run([refusing, "near"])
    assert (result.method, result.kept) == ("near", False)
    assert [step["state"] for step in result.steps] == ["error", "done"]


def test_when_all_give_up_what_there_was_stands_with_every_reason():
    result = run(["refuse", "reject"])
    assert (result.method, result.kept, result.verdict.status) == ("header", True, "warn")
    assert "refuse: the mask is empty; reject: the image is constant" in result.verdict.reason
    assert result.steps[-1]["name"] == "header"
    assert result.steps[-1]["verdict"]["figures"]["miss"] == 1


def test_what_stands_never_passes():
    result = run(["refuse"], start_mm=1.0)
    assert (result.verdict.status, result.kept) == ("warn", True)


def test_a_rejected_candidate_gives_way_to_what_the_gate_lets_through():
    result = run(["far"], start_mm=-0.5)
    assert (result.method, result.verdict.status) == ("header", "warn")
    assert "far: missed by 8" in result.verdict.reason


@pytest.mark.parametrize(("start_mm", "kept"), [(10.0, True), (20.0, False), (-6.5, True)])
def test_between_rejected_ones_the_evidence_must_be_better_by_more_than_its_noise(start_mm, kept):
    result = run(["far"], start_mm=start_mm)
    assert (result.kept, result.verdict.status) == (kept, "fail")


def test_a_method_that_keeps_what_there_was_is_taken_at_its_word():
    result = run(["keep"], start_mm=1.0)
    assert (result.method, result.kept, result.verdict.status) == ("keep", True, "pass")
    assert len(result.steps) == 1


def test_where_nothing_can_be_judged_every_reason_is_told():
    with pytest.raises(RegistrationError, match="refuse: the mask is empty"):
        run(["refuse"], start_mm=100.0)
    assert run(["far"], start_mm=100.0).method == "far"


def test_a_wrong_setting_ends_the_ladder():
    with pytest.raises(SettingError, match="no length"):
        run(["misread", "near"])
    with pytest.raises(SettingError, match="near has no option 'by_m'; its options: by_mm"):
        run(["far", "near"], {"near": {"by_m": 1}})


def test_an_unknown_method_is_refused_before_any_runs():
    with pytest.raises(InputError, match="unknown method 'neer'; did you mean 'near'"):
        run(["far", "neer"])


def mirror(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    return Affine.from_parts(np.diag([-1.0, 1.0, 1.0]), np.zeros(3))


def test_a_mirror_image_counts_as_nothing_found():
    method = row("mirror")
    with pytest.raises(RegistrationError, match="mirror image"):
        run_method(method, IMAGE, IMAGE, Affine.identity(3), {}, RunContext())
    # One that begins as a mirror image, as a raster stored upside down may, stays one.
    begun = Affine.from_parts(np.diag([1.0, -1.0, 1.0]), np.zeros(3))
    assert run_method(method, IMAGE, IMAGE, begun, {}, RunContext()).transform.linear[0, 0] == -1
    flat = Affine.from_parts(np.diag([0.0, 1.0, 1.0]), np.zeros(3))
    assert is_reflecting(flat)
    assert not is_reflecting(Composite((begun, begun)))
    assert is_reflecting(Homography(np.diag([-1.0, 1.0, 1.0])))
