"""The refine stage: what passes its gate, what does not, and what it leaves on disk."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from regflow.core.errors import InputError, RegistrationError
from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, DisplacementField, Transform, measure_inverse_error
from regflow.datasets.subjects import draw_warp
from regflow.io.transforms import read_transform, write_transform
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.table import Method
from regflow.stages.shell import STAGE_FILE, make_outcome, read_outcome, run_stage_work
from regflow.stages.volumes.refine import deform_volumes, load_ahead, refine
from regflow.stages.volumes.working import write_working

START = Affine.identity(3)
GREEDY = {"methods": ["greedy"]}


@pytest.fixture(scope="module")
def pair(mni_4mm) -> tuple[Image, Image, DisplacementField]:
    """A brain, the same brain bent, and the field from the first to the second."""
    from regflow.core.resample import resample_image

    bend, back = draw_warp(mni_4mm.grid, amplitude_mm=8, smoothness_mm=18, seed=3)
    return mni_4mm, resample_image(mni_4mm, mni_4mm.grid, back), bend


def given(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    return Composite((DisplacementField(options["field"], fixed.grid), initial))


def with_field(monkeypatch: pytest.MonkeyPatch, field: np.ndarray) -> dict[str, Any]:
    """Add a method that returns a field, and the settings that choose it."""
    schema = {"field": {"description": "", "default": field.astype(np.float32)}}
    monkeypatch.setitem(METHODS, "given", Method(f"{__name__}:given", "", options=schema))
    return {"methods": ["given"]}


def mean_error(found: Transform, truth: Transform, fixed: Image) -> float:
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::7, ::-1])
    return float(np.linalg.norm(found.apply(points) - truth.apply(points), axis=1).mean())


def test_a_known_bend_is_followed_and_undone(pair):
    fixed, moving, bend = pair
    found = deform_volumes(fixed, moving, START, GREEDY)
    assert mean_error(found.forward, bend, fixed) < 0.5 * mean_error(START, bend, fixed)
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::7, ::-1])
    assert measure_inverse_error(found.forward, found.inverse, points).mean() < 0.4
    figures = found.ladder.verdict.figures
    assert found.ladder.verdict.status == "pass"
    assert figures["lncc_change"] > 0.05
    assert figures["folding_percent"] == 0
    assert figures["inverse_mean_voxels"] < 0.1
    assert [step["name"] for step in found.ladder.steps] == ["greedy", "inverse"]
    assert all("seconds" in step for step in found.ladder.steps)


def test_none_keeps_the_affine_transform(pair):
    fixed, moving, _ = pair
    start = Affine.from_parts(np.eye(3), [1, 2, 3])
    found = deform_volumes(fixed, moving, start, {"methods": ["none"]})
    assert found.forward is start
    np.testing.assert_allclose(found.inverse.matrix @ start.matrix, np.eye(4), atol=1e-12)
    assert found.ladder.verdict.status == "pass"


def refuse(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    raise InputError("the image is constant inside its mask")


def test_a_deformation_that_is_worse_than_the_start_is_rejected_and_the_start_stands(pair, monkeypatch):
    fixed, moving, bend = pair
    found = deform_volumes(fixed, moving, START, with_field(monkeypatch, -bend.vectors))
    first, last, inverse = found.ladder.steps
    assert first["verdict"]["status"] == "fail"
    assert "lncc_change" in first["verdict"]["reason"]
    assert (last["name"], last["verdict"]["figures"]["lncc_change"]) == ("initial", 0)
    assert inverse["name"] == "inverse"
    assert found.forward is START
    assert (found.ladder.verdict.status, found.ladder.kept) == ("warn", True)
    assert "initial, which stands (given: lncc_change" in found.ladder.verdict.reason


def test_a_field_without_an_inverse_gives_way_to_the_next(pair, monkeypatch):
    fixed, moving, bend = pair

    def impossible(self):
        raise RegistrationError("the field has no inverse")

    monkeypatch.setattr(DisplacementField, "inverse", impossible)
    ladder = {"methods": [*with_field(monkeypatch, bend.vectors)["methods"], "none"]}
    found = deform_volumes(fixed, moving, START, ladder)
    assert [step["name"] for step in found.ladder.steps] == ["given", "none", "inverse"]
    assert found.ladder.steps[0]["reason"] == "the field has no inverse"
    assert found.forward is START


def test_what_one_method_cannot_use_leaves_the_next_to_try(pair, monkeypatch):
    fixed, moving, bend = pair
    monkeypatch.setitem(METHODS, "refuse", Method(f"{__name__}:refuse", ""))
    ladder = {"methods": ["refuse", *with_field(monkeypatch, bend.vectors)["methods"]]}
    found = deform_volumes(fixed, moving, START, ladder)
    assert (found.ladder.method, found.ladder.verdict.status) == ("given", "pass")
    assert found.ladder.steps[0]["reason"] == "the image is constant inside its mask"


def test_folding_fails_and_the_ladder_goes_on(pair, monkeypatch):
    fixed, moving, bend = pair
    waves = bend.vectors + 8 * np.sin(np.indices(fixed.grid.shape)[2])
    ladder = {"methods": [*with_field(monkeypatch, waves)["methods"], "none"]}
    found = deform_volumes(fixed, moving, START, ladder)
    first = found.ladder.steps[0]["verdict"]
    assert first["status"] == "fail"
    assert first["figures"]["folding_percent"] > 0.5
    assert found.ladder.method == "none"


def test_limits_of_the_settings_replace_the_stage_s_own(pair):
    fixed, moving, _ = pair
    settings = {"methods": ["none"], "gate": {"nmi_change": {"fail_below": 0.1}}}
    assert deform_volumes(fixed, moving, START, settings).ladder.verdict.status == "fail"


def test_an_unknown_method_is_named_with_its_nearest(pair):
    with pytest.raises(InputError, match="did you mean 'greedy'"):
        deform_volumes(pair[0], pair[1], START, {"methods": ["greed"]})


@pytest.fixture
def folders(tmp_path, pair) -> tuple[tuple[str, str], str]:
    for name, image in (("fixed", pair[0]), ("moving", pair[1])):
        run_stage_work(
            "preprocess", name, tmp_path / name, [], lambda folder, image=image: _written(folder, image)
        )

    def start(folder):
        write_transform(folder / "transform.h5", START)
        return make_outcome(Verdict("pass", ""))

    run_stage_work("initialize", "one", tmp_path / "start", [], start)
    return (str(tmp_path / "fixed"), str(tmp_path / "moving")), str(tmp_path / "start")


def _written(folder, image):
    write_working(folder, image)
    return make_outcome(Verdict("pass", ""))


def test_the_stage_leaves_composites_that_simpleitk_reads(tmp_path, folders, pair):
    prepared, initial = folders
    outcome = refine(
        tmp_path / "out", sample="one", prepared=prepared, initial=initial, settings=GREEDY, threads=2
    )
    assert (outcome.state, outcome.verdict.status) == ("done", "pass")
    forward = read_transform(tmp_path / "out" / "transform.h5")
    points = pair[0].grid.to_world(np.argwhere(pair[0].mask)[::503, ::-1])
    theirs = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    there = [theirs.TransformPoint(point) for point in points.tolist()]
    np.testing.assert_allclose(there, forward.apply(points), atol=1e-4)
    back = sitk.ReadTransform(str(tmp_path / "out" / "inverse.h5"))
    returned = np.array([back.TransformPoint(point) for point in there])
    assert np.linalg.norm(returned - points, axis=1).mean() < 0.4


def test_where_every_method_fails_the_stage_hands_on_the_start(tmp_path, folders, monkeypatch):
    monkeypatch.setitem(METHODS, "refuse", Method(f"{__name__}:refuse", ""))
    prepared, initial = folders
    settings = {"methods": ["refuse"]}
    outcome = refine(tmp_path / "out", sample="one", prepared=prepared, initial=initial, settings=settings)
    assert (outcome.state, outcome.verdict.status) == ("done", "warn")
    assert outcome.details == {"method": "initial", "kept": True}
    point = np.array([[10.0, -20.0, 5.0]])
    for name in ("transform.h5", "inverse.h5"):
        np.testing.assert_allclose(read_transform(tmp_path / "out" / name).apply(point), point)


def test_after_a_failed_start_the_sample_is_skipped_with_its_reason(tmp_path, folders):
    prepared, _ = folders

    def refuse(folder):
        raise InputError("the file is empty")

    run_stage_work("initialize", "one", tmp_path / "bad", [], refuse)
    outcome = refine(
        tmp_path / "out", sample="one", prepared=prepared, initial=str(tmp_path / "bad"), settings=GREEDY
    )
    assert (outcome.state, outcome.verdict.reason) == ("skipped", "the file is empty")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [STAGE_FILE]
    assert read_outcome(tmp_path / "out").state == "skipped"


@pytest.mark.slow
def test_what_the_first_method_needs_is_imported_ahead():
    script = (
        "import sys; from regflow.stages.volumes.refine import load_ahead\n"
        "assert 'torch' not in sys.modules\n"
        "load_ahead({'methods': ['voxelmorph', 'greedy']})\n"
        "assert 'monai.networks.nets' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(InputError, match="did you mean 'greedy'"):
        load_ahead({"methods": ["greed"]})
