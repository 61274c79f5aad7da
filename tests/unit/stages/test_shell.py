import pytest

from regflow.core.errors import InputError
from regflow.core.gate import Verdict
from regflow.stages.shell import (
    find_transform_source,
    make_outcome,
    read_outcome,
    record_step,
    run_stage_work,
)

PASS = Verdict("pass", "fine")


def test_products_and_record_arrive_together(tmp_path):
    steps: list[dict] = []

    def work(folder):
        with record_step(steps, "warp"):
            (folder / "warped.txt").write_text("x")
        return make_outcome(PASS, steps, peak_mb=3)

    run_stage_work("apply", "s1", tmp_path / "s1", [], work)
    assert {p.name for p in (tmp_path / "s1").iterdir()} == {"warped.txt", "stage.json"}
    outcome = read_outcome(tmp_path / "s1")
    assert (outcome.state, outcome.verdict.status, outcome.details) == ("done", "pass", {"peak_mb": 3})
    assert "seconds" in outcome.steps[0]


def test_bad_data_end_as_a_reason_without_products_and_the_next_stage_skips(tmp_path):
    def work(folder):
        (folder / "half.txt").write_text("x")
        raise InputError("a.nii: every voxel is 0")

    run_stage_work("preprocess", "s1", tmp_path / "pre", [], work)
    assert [p.name for p in (tmp_path / "pre").iterdir()] == ["stage.json"]
    assert read_outcome(tmp_path / "pre").state == "error"

    calls = []
    run_stage_work("initialize", "s1", tmp_path / "init", [tmp_path / "pre"], calls.append)
    outcome = read_outcome(tmp_path / "init")
    assert calls == []
    assert outcome.state == "skipped"
    assert outcome.verdict.reason == "a.nii: every voxel is 0"


def test_a_defect_or_a_full_disk_leaves_no_output(tmp_path):
    def work(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run_stage_work("apply", "s1", tmp_path / "out" / "s1", [], work)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("kept", "state", "source"),
    [
        ((False, False), "done", "refine"),
        ((True, False), "done", "refine"),
        ((False, True), "done", "initialize"),
        ((True, True), "done", "header"),
        ((False, False), "error", None),
    ],
)
def test_the_source_of_the_transform_is_the_last_stage_that_did_not_hand_on(kept, state, source):
    records = [
        {"stage": "preprocess", "state": "done", "details": {}},
        {"stage": "initialize", "state": "done", "details": {"kept": kept[0]}},
        {"stage": "refine", "state": state, "details": {"kept": kept[1]}},
    ]
    assert find_transform_source(records) == source
