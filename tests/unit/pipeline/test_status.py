"""How far a study has come, told from its folder."""

import os

import pytest

from regflow.cohort.batches import Batches
from regflow.core.errors import InputError
from regflow.core.files import write_json
from regflow.core.gate import Verdict
from regflow.pipeline.status import describe_status, read_status
from regflow.stages import layout
from regflow.stages.shell import make_outcome, run_stage_work

BEGUN, HOUR = 1_000_000.0, 3600.0
VERDICTS = {"good": "pass", "fair": "warn", "poor": "fail"}


def finish(results, sample, moment, status="pass"):
    """Leave all that a sample leaves, and its page at a moment."""

    def work(_folder):
        if status == "error":
            raise InputError("mri.nii: this file is cut off; fetch it again")
        return make_outcome(Verdict(status, f"it is a {status}"))

    for place in layout.OF_A_SAMPLE.values():
        target = results / place.format(sample=sample)
        if target.suffix == "":
            run_stage_work("assess", sample, target, [], work)
        else:
            write_json(target, {})
    os.utime(results / layout.SAMPLE_PAGE.format(sample=sample), (moment, moment))


@pytest.fixture
def results(tmp_path):
    Batches({"0001": ["good"]}, {}, None, 1, False).write(tmp_path / layout.BATCHES)
    os.utime(tmp_path / layout.BATCHES, (BEGUN, BEGUN))
    return tmp_path


def test_nothing_is_done_before_a_run(tmp_path):
    found = read_status(tmp_path, ["a", "b"])
    assert (found.done, found.waiting) == ({}, {"ingest": 2})
    assert list(describe_status(found)) == ["0 of 2 samples are done (0 %)", "next stage: ingest 2"]


def test_samples_are_counted_by_verdict_and_by_the_stage_that_is_next(results):
    for name, status in VERDICTS.items():
        finish(results, name, BEGUN + HOUR, status)
    finish(results, "torn", BEGUN + HOUR, "error")
    write_json(results / layout.MOVING_MANIFEST.format(sample="begun"), {})
    found = read_status(results, [*VERDICTS, "torn", "begun", "new"], now=BEGUN + 2 * HOUR)
    assert found.done == {"pass": 1, "warn": 1, "fail": 1, "error": 1}
    assert found.waiting == {"preprocess": 1, "ingest": 1}
    assert found.samples_per_hour == pytest.approx(2.0)
    assert found.hours_left == pytest.approx(1.0)
    assert list(describe_status(found)) == [
        "4 of 6 samples are done (67 %): 1 pass, 1 warn, 1 fail, 1 error",
        "next stage: ingest 1, preprocess 1",
        "2 samples an hour, 60 min left",
        "torn: mri.nii: this file is cut off; fetch it again",
    ]


def test_samples_of_an_earlier_run_say_nothing_about_the_rate(results):
    finish(results, "old", BEGUN - HOUR)
    finish(results, "good", BEGUN + HOUR)
    found = read_status(results, ["old", "good", "new"], now=BEGUN + HOUR)
    assert found.samples_per_hour == pytest.approx(1.0)


def test_a_run_that_has_ended_counts_to_its_last_sample(results):
    finish(results, "good", BEGUN + HOUR)
    write_json(results / layout.COHORT_PAGE, {})
    found = read_status(results, ["good"], now=BEGUN + 90 * HOUR)
    assert found.samples_per_hour == pytest.approx(1.0)
    assert found.hours_left is None
