from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from regflow.core.errors import InputError, RegistrationError
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, Homography, Transform, reflects
from regflow.methods.ladder import climb
from regflow.methods.table import Method, find_transform

IMAGE = Image(np.zeros((1, 2, 2, 2), np.float32), Grid.from_geometry((2, 2, 2), (1, 1, 1), (0, 0, 0)))


def shift(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    return Affine.from_parts(np.eye(3), [options["by_mm"], 0, 0])


def refuse(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    raise RegistrationError("the mask is empty")


def row(function: str, by_mm: float = 0.0) -> Method:
    return Method(f"{__name__}:{function}", "", options={"by_mm": {"default": by_mm, "description": "mm"}})


TABLE = {"near": row("shift", 1.0), "far": row("shift", 9.0), "refuse": row("refuse")}


def examine(transform: Transform) -> tuple[Verdict, float]:
    miss = abs(float(transform.apply(np.zeros((1, 3)))[0, 0]) - 1.0)
    status = "pass" if miss < 0.5 else "warn" if miss < 2 else "fail"
    return Verdict(status, f"missed by {miss}"), -miss


def run(names: list[str], options: Mapping[str, Mapping[str, Any]] | None = None):
    start = Affine.identity(3)
    return climb("refine", TABLE, names, (IMAGE, IMAGE), start, options or {}, {"threads": 1}, examine)


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


def test_when_all_give_up_every_reason_is_told():
    with pytest.raises(RegistrationError, match="refuse: the mask is empty"):
        run(["refuse"])


def test_an_unknown_method_is_refused_before_any_runs():
    with pytest.raises(InputError, match="unknown method 'neer'; did you mean 'near'"):
        run(["far", "neer"])


def mirror(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    return Affine.from_parts(np.diag([-1.0, 1.0, 1.0]), np.zeros(3))


def test_a_mirror_image_counts_as_nothing_found():
    method = row("mirror")
    with pytest.raises(RegistrationError, match="mirror image"):
        find_transform(method, IMAGE, IMAGE, Affine.identity(3), {})
    # One that begins as a mirror image, as a raster stored upside down may, stays one.
    begun = Affine.from_parts(np.diag([1.0, -1.0, 1.0]), np.zeros(3))
    assert find_transform(method, IMAGE, IMAGE, begun, {}).linear[0, 0] == -1
    flat = Affine.from_parts(np.diag([0.0, 1.0, 1.0]), np.zeros(3))
    assert reflects(flat)
    assert not reflects(Composite((begun, begun)))
    assert reflects(Homography(np.diag([-1.0, 1.0, 1.0])))
