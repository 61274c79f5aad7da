"""One pair, from files to aligned image, transforms, figures and report, in memory.

The chain behind ``regflow register``: the stages' own functions, as the workflow calls them, without
Snakemake and without intermediate files. What a stage does with a kind of image stands in
:mod:`regflow.pipeline.volume_pair` and :mod:`regflow.pipeline.raster_pair`.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from regflow.config.loading import load_config
from regflow.config.presets import load_preset, merge_settings
from regflow.core.files import write_json, write_whole_directory
from regflow.core.processor import describe_processor, read_processor
from regflow.core.progress import StageListener, ignore_events
from regflow.core.threads import count_cores
from regflow.pipeline import raster_pair, volume_pair
from regflow.pipeline.pair_steps import PairJob, PairSteps
from regflow.provenance.run_record import (
    PairRecord,
    RunRecorder,
    explain_full_disk,
    refuse_unfit,
    require_writable,
)
from regflow.stages.shell import find_transform_source

STEPS: Mapping[str, PairSteps] = {"volumes": volume_pair.STEPS, "rasters": raster_pair.STEPS}
"""By kind."""


def register_pair(
    kind: str,
    moving: Any,
    output: str | Path,
    *,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    inverse_image: bool = False,
    threads: int | None = None,
    progress: StageListener = ignore_events,
) -> PairRecord:
    """Bring a moving image onto its fixed one and write the result into a folder, whole or not at all.

    Args:
        kind: ``volumes`` or ``rasters``.
        moving: the moving image's files, and the fixed image's in ``moving.fixed``: a
            :class:`~regflow.cohort.volumes.samples.VolumeSample` or a
            :class:`~regflow.cohort.rasters.samples.RasterSample`.
        output: the folder to make; one that holds an earlier result is replaced.
        preset: of the kind's :data:`regflow.config.presets.PRESETS`.
        config: sections of the configuration that replace the preset's, key by key.
        inverse_image: also write the fixed image in the moving one's space.
        threads: most threads to use, all cores when None; no byte of the products but the seconds
            in ``quality.json`` and ``report.html`` depends on it.
        progress: is told when a stage begins and when it ends.

    Raises:
        InputError: a file, the folder, the preset or a key of ``config`` is wrong.
        RegistrationError: no method gave a usable transform.
    """
    steps = STEPS[kind]
    target = require_writable(Path(output), steps.products)
    chosen = merge_settings(load_preset(preset, kind), config or {})
    settings = load_config({"kind": kind, "samples": moving.moving, **chosen})
    recorder, count = RunRecorder(moving.sample, progress), threads or count_cores()
    with ThreadPoolExecutor(max(2, count)) as pool, steps.open_workers(settings, count) as workers:
        job = PairJob(moving, settings, recorder, count, pool, workers, inverse_image)
        prepared, pair, refined = _align(steps, job)
        with write_whole_directory(target) as folder, explain_full_disk(folder):
            stored = steps.write_transforms(folder, job, pair, refined)
            applied = pool.submit(_apply, folder, steps, job, prepared, pair, stored)
            assessment = _assess(folder, steps, job, pair, preset)
            for part in (*stored, applied):
                part.result()
            seconds = recorder.sum_seconds()
            made = {"sample": moving.sample, "seconds": seconds, "processor": read_processor()}
            source = {"transform_from": find_transform_source(recorder.stages)}
            quality = {**made, **source, **assessment.quality}
            write_json(folder / "quality.json", quality)
    return PairRecord(target, refined.ladder.transform, assessment.verdict, quality, seconds)


def _align(steps: PairSteps, job: PairJob) -> tuple[Any, Any, Any]:
    """Return the working images, what was found between them, and what the refine stage says of it."""
    with job.recorder.record_stage("ingest"):
        refuse_unfit(job.pool.map(steps.examine, (job.moving.fixed, job.moving)))
        originals = steps.read(job)
    prepared = steps.prepare(job, originals)
    with job.recorder.record_stage("initialize") as record:
        start = steps.initialize(job, prepared)
        record.update(verdict=start.verdict.to_dict(), steps=start.steps, details=start.details)
    with job.recorder.record_stage("refine") as record:
        refined = steps.refine(job, prepared, start)
        ladder = refined.ladder
        record.update(verdict=ladder.verdict.to_dict(), steps=ladder.steps, details=ladder.details)
    verdicts = {"initialize": start.verdict, "refine": ladder.verdict}
    return prepared, steps.join(job, prepared, start, refined, verdicts), refined


def _apply(
    folder: Path,
    steps: PairSteps,
    job: PairJob,
    prepared: Any,
    pair: Any,
    stored: Sequence[Future[Any]],
) -> None:
    """Write what follows the transform."""
    with job.recorder.record_stage("apply") as record:
        record["steps"] = steps.apply(folder, job, prepared, pair, stored)


def _assess(folder: Path, steps: PairSteps, job: PairJob, pair: Any, preset: str) -> Any:
    """Measure the result, while the products are written, and write its page."""
    from regflow.reporting.shared.story import describe_source

    with job.recorder.record_stage("assess") as record:
        assessment = steps.assess(folder, job, pair)
        record.update(verdict=assessment.verdict.to_dict(), steps=assessment.steps)
    fixed, moving = job.moving.fixed.image, job.moving.moving
    source = find_transform_source(job.recorder.stages)
    with job.recorder.record_stage("report"):
        steps.report(
            folder,
            job,
            pair,
            assessment,
            [("onto", Path(fixed).name), ("preset", preset), *describe_source(source)],
            [
                ("Input files", f"fixed   {fixed}\nmoving  {moving}"),
                ("Processor", describe_processor()),
            ],
        )
    return assessment
