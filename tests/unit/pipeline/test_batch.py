"""A batch of samples through the stages in one process: what runs, what is left alone, what fails."""

import errno
import inspect
from dataclasses import fields, replace
from pathlib import Path

import pytest

from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.config.loading import load_config
from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import compute_sha256, read_json
from regflow.pipeline.batch import BatchJob, run_batch
from regflow.pipeline.partial_report import write_partial_report
from regflow.pipeline.redo import forget_stages
from regflow.stages.volumes import report as report_stage

STAGES = ("ingest", "preprocess", "initialize", "refine", "apply", "assess", "report")
FAST = {
    "samples": "sheet.tsv",
    "preprocess": {"bias": {"method": "none"}},
    "initialize": {"methods": ["moments"]},
    "refine": {"methods": ["none"]},
    "assess": {"surfaces": False},
}
OF_A_FIXED_IMAGE = 2


@pytest.fixture
def samples(volume_file):
    fixed = FixedVolume("mni", str(volume_file("mni2009c", 8.0)))
    return [VolumeSample(name, str(volume_file(name, 8.0)), fixed) for name in ("mni6", "icbm2009a")]


@pytest.fixture
def job(tmp_path):
    settings = load_config({**FAST, "output": str(tmp_path)})
    return BatchJob(tmp_path, "volumes", STAGES, settings, dict.fromkeys(STAGES, "1"), {}, {}, 1)


def carry(job, samples, name="0001"):
    return run(job, samples, [samples[0].fixed], name)


def run(job, samples, fixed=(), name="0001"):
    """Run a job; its results lie where its configuration says."""
    how = {part.name: getattr(job, part.name) for part in fields(job) if part.name != "results"}
    how["settings"] = {**job.settings, "output": str(job.results)}
    return run_batch(job.results / f"{name}.json", samples=samples, fixed=fixed, **how)


def products(job, *patterns):
    patterns = patterns or ("initialize/*/*.h5", "refine/*/*.h5", "apply/*/*.nii.gz", "assess/*/*.nii.gz")
    return {path: compute_sha256(path) for pattern in patterns for path in sorted(job.results.glob(pattern))}


def test_a_batch_that_is_done_is_not_done_again(job, samples):
    assert carry(job, samples) == OF_A_FIXED_IMAGE + len(STAGES) * len(samples)
    assert read_json(job.results / "0001.json") == {"samples": ["mni6", "icbm2009a"], "fixed": ["mni"]}
    assert len(products(job)) == 5 * len(samples)
    assert (job.results / "report" / "images" / "mni6.png").is_file()
    assert carry(job, samples) == 0


def test_a_sample_that_joins_is_the_only_one_that_is_done(job, samples):
    carry(job, samples[:1])
    before = {path: path.stat().st_mtime_ns for path in products(job)}
    assert carry(job, samples) == len(STAGES)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def change_of(section, **keys):
    return lambda job: replace(job, settings={**job.settings, section: {**job.settings[section], **keys}})


def edit_of(stage):
    return lambda job: replace(job, sources={**job.sources, stage: "2"})


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (change_of("report", slices=5), ["report"]),
        (change_of("apply", interpolation="cubic"), ["apply", "assess", "report"]),
        (change_of("initialize", options={"moments": {"scale": False}}), STAGES[2:]),
        (edit_of("assess"), ["assess", "report"]),
        (edit_of("refine"), ["refine", "apply", "assess", "report"]),
        (edit_of("ingest"), ["ingest"]),
        (
            lambda job: replace(job, networks={"refine": {"own": "sum"}}),
            ["refine", "apply", "assess", "report"],
        ),
        (lambda job: replace(job, threads=2), []),
        (change_of("train", steps=7), []),
    ],
    ids=["report", "apply", "start", "code-assess", "code-refine", "code-ingest", "net", "threads", "train"],
)
def test_a_change_makes_again_what_depends_on_it(job, samples, change, again):
    carry(job, samples[:1])
    # The working image was not kept: it is made again for those that read it.
    remade = int(bool(set(again) & set(STAGES[2:])))
    of_fixed = again.count("ingest") if again else 0
    assert carry(change(job), samples[:1]) == len(again) + remade + of_fixed
    assert carry(change(job), samples[:1]) == 0


def test_a_file_that_was_touched_is_looked_at_again_and_no_more(job, samples, tmp_path):
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(Path(samples[0].moving).read_bytes())
    moved = [replace(samples[0], moving=str(copy))]
    carry(job, moved)
    copy.touch()
    assert carry(job, moved) == 1
    copy.write_bytes(Path(samples[1].moving).read_bytes())
    assert carry(job, moved) == len(STAGES)


def test_working_images_stay_only_when_asked_for(job, samples):
    carry(job, samples[:1])
    working = job.results / "preprocess" / "moving" / "mni6"
    assert [path.name for path in working.iterdir()] == ["stage.json"]
    before = products(job)
    carry(replace(job, settings={**job.settings, "keep": ["preprocess"]}), samples[:1])
    assert products(job) == before


def test_what_several_jobs_share_is_dropped_by_the_last(job, samples):
    together = replace(job, results=job.results / "together")
    carry(together, samples[:1])
    for stages in (STAGES[:3], STAGES[3:4], STAGES[4:]):
        run(replace(job, stages=stages), samples[:1], [samples[0].fixed])
        images = list((job.results / "preprocess" / "moving" / "mni6").glob("*.nii"))
        assert bool(images) == (stages[-1] != "report")
    one, other = products(job), products(together)
    assert list(one.values()) == list(other.values())
    assert len(one) == 5
    # A job in the middle makes for itself what is no longer there.
    again = replace(job, stages=("refine",), sources={**job.sources, "refine": "2"})
    assert run(again, samples[:1]) == 2


def test_a_sample_at_which_the_program_fails_does_not_stop_the_others(job, samples, monkeypatch):
    honest = report_stage.report

    def fail_at_the_first(page, *, sample, **more):
        if sample == "mni6":
            raise ZeroDivisionError("no slices")
        honest(page, sample=sample, **more)

    fail_at_the_first.__signature__ = inspect.signature(honest)
    monkeypatch.setattr(report_stage, "report", fail_at_the_first)
    with pytest.raises(RegistrationError, match="1 images; mni6: ZeroDivisionError: no slices"):
        carry(job, samples)
    assert not (job.results / "0001.json").exists()
    assert (job.results / "report" / "icbm2009a.html").is_file()
    assert "ZeroDivisionError" in (job.results / "logs" / "report" / "mni6.log").read_text(encoding="utf-8")
    page = write_partial_report(job.results, samples).read_text(encoding="utf-8")
    assert "eport crashed (ZeroDivisionError: no slices)" in page
    monkeypatch.undo()
    assert carry(job, samples) == 2


def test_a_sample_for_which_there_is_too_little_memory_is_tried_again(job, samples, monkeypatch):
    monkeypatch.setattr("regflow.core.memory.measure_free_bytes", lambda: 10**6)
    with pytest.raises(RegistrationError, match=r"2 images; mni6: MemoryError: .* refine at the work"):
        carry(job, samples)
    assert not list(job.results.glob("assess/*"))
    monkeypatch.undo()
    assert carry(job, samples) > 0


def test_a_full_disk_ends_the_job_at_once(job, samples, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("regflow.stages.volumes.apply.write_volume", fail)
    with pytest.raises(OSError, match="No space left"):
        carry(job, samples)
    assert not (job.results / "apply" / "mni6").exists()
    assert not (job.results / "ingest" / "moving" / "icbm2009a.json").exists()


def test_a_bad_sample_is_done_with_its_sentence(job, samples, tmp_path):
    bad = replace(samples[0], sample="bad", moving=str(tmp_path / "nowhere.nii.gz"))
    carry(job, [bad, samples[1]])
    assert read_json(job.results / "assess" / "bad" / "stage.json")["state"] == "skipped"
    assert "nowhere.nii.gz" in (job.results / "report" / "bad.html").read_text(encoding="utf-8")
    assert carry(job, [bad, samples[1]]) == 0


def test_a_stage_is_made_again_when_wanted(job, samples):
    carry(job, samples[:1])
    before = products(job)
    assert forget_stages(job.results, "volumes", "apply", ["mni6", "absent"]) == 3
    assert carry(job, samples[:1]) == 3 + 1
    assert products(job) == before
    with pytest.raises(InputError, match="no stage 'aply'; did you mean 'apply'"):
        forget_stages(job.results, "volumes", "aply", [])
