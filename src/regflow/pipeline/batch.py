"""A batch of samples through a run of stages, in one process.

The stages write what they write in jobs of their own, in the same places; Python starts once and libraries
load once. A stage whose output is what it would make is left alone, so that a batch that was killed goes on
where it was. What only the next stages need lies in a temporary folder where one job runs them all.
"""

import importlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regflow.config.workflow import WORKFLOWS
from regflow.core.errors import RegistrationError
from regflow.core.files import write_json, write_whole_directory
from regflow.core.logs import log_stage
from regflow.io.object_store import drop_copies
from regflow.pipeline.stored_results import Results, open_results
from regflow.stages import layout
from regflow.stages.freshness import STAGE_FILE, is_current
from regflow.stages.shell import compute_stage_key, read_outcome, run_stage

log = logging.getLogger(__name__)

INGEST, PREPROCESS, REFINE, REPORT = "ingest", "preprocess", "refine", "report"


@dataclass(frozen=True)
class BatchJob:
    """What a job of a batch knows.

    Attributes:
        results: the study's folder of results, in which the job works.
        kind: ``volumes`` or ``rasters``.
        stages: that it runs, in order.
        settings: the complete configuration.
        sources: version and digest of each stage's sources.
        networks: by stage those that it may ask, with the checksums of their files.
        earlier: of each sample whose changes are wanted the sample before it, None for the fixed scene.
        threads: most threads to use.
    """

    results: Results
    kind: str
    stages: Sequence[str]
    settings: Mapping[str, Any]
    sources: Mapping[str, str]
    networks: Mapping[str, Mapping[str, str]]
    earlier: Mapping[str, str | None]
    threads: int

    def locate(self, place: str, name: str) -> Path:
        """Return where something of a sample or a fixed image lies."""
        return self.results.folder / place.format(sample=name, fixed=name)

    def describe_stage(self, stage: str) -> dict[str, Any]:
        """Return what :func:`~regflow.stages.shell.run_stage` wants of a stage, whatever the sample."""
        asked = self.networks.get(stage, {})
        return {"stage": stage, "kind": self.kind, "source": self.sources[stage], "networks": asked}


@dataclass(frozen=True)
class Step:
    """A stage of an image, ready to run.

    Attributes:
        stage: its name.
        output: what it makes.
        log: where it logs.
        arguments: all that it may take.
        record: file for its key, where its output holds none.
        kept_record: directory for the record of an output that does not stay.
    """

    stage: str
    output: Path
    log: Path
    arguments: Mapping[str, Any]
    record: Path | None = None
    kept_record: Path | None = None

    def list_products(self) -> list[Path]:
        """Return what it leaves in the folder of results."""
        made = [self.kept_record or self.output, self.record, self.log]
        made += [self.arguments["picture"]] if self.stage == REPORT else []
        return [path for path in made if path is not None]


@dataclass
class BatchProgress:
    """How far a batch has come.

    Attributes:
        failed: by image, the sentence of the program's failure.
        ran: stages that ran, of all images.
    """

    failed: dict[str, str] = field(default_factory=dict)
    ran: int = 0


def run_batch(
    output: str | Path,
    *,
    samples: Sequence[Any],
    fixed: Sequence[Any],
    settings: Mapping[str, Any],
    **how: Any,
) -> int:
    """Take samples through stages; each is whole or absent, and fails by itself.

    Args:
        output: the file to write when all is done: the samples of the batch.
        samples: of the batch.
        fixed: the fixed images that no other batch prepares.
        settings: the configuration, as far as the stages take it.
        how: the other attributes of :class:`BatchJob`.

    Returns:
        How many stages ran, of all images; those that were up to date did not.

    Raises:
        RegistrationError: the program failed at samples, or had too little memory for them; they are named,
            and the others are done.
        OSError: the machine failed: a full disk, a folder that cannot be written.
    """
    progress = BatchProgress()
    with open_results(settings["output"]) as results:
        _run_all(BatchJob(results, settings=settings, **how), samples, fixed, progress)
    log.info("%d samples: %d stages ran", len(samples), progress.ran)
    if progress.failed:
        told = "; ".join(f"{name}: {reason}" for name, reason in progress.failed.items())
        raise RegistrationError(f"the program failed at {len(progress.failed)} images; {told}")
    names = {"samples": [sample.sample for sample in samples], "fixed": [image.name for image in fixed]}
    write_json(output, names)
    return progress.ran


def _run_all(job: BatchJob, samples: Sequence[Any], fixed: Sequence[Any], progress: BatchProgress) -> None:
    """Prepare fixed images, then take the samples through the stages."""
    for name in {image.name for image in fixed} | {sample.fixed.name for sample in samples}:
        for place in (layout.FIXED_MANIFEST, layout.FIXED_WORKING):
            job.results.fetch(job.locate(place, name))
    for image in fixed:
        for step in _fixed_steps(job, image):
            _take(job, step, image.name, progress)
    together = job.settings.get(REFINE, {}).get("batch", 1)
    for start in range(0, len(samples), together):
        _carry(job, samples[start : start + together], progress)


def _carry(job: BatchJob, samples: Sequence[Any], progress: BatchProgress) -> None:
    """Take some samples through the stages, a network being asked about all of them together."""
    _fetch_products(job, samples)
    with _working_folders(job, samples) as working:
        for stage in job.stages:
            due = {}
            for sample in samples:
                name, folder = sample.sample, working[sample.sample]
                step = _moving_step(job, stage, sample, folder)
                if name in progress.failed or _is_current(job, step):
                    continue
                due[name] = step
                if stage not in (INGEST, PREPROCESS) and _lacks_images(job, folder):
                    _take(job, _moving_step(job, PREPROCESS, sample, folder), name, progress)
            predictions = _ask_network(job, due.values()) if stage == REFINE and len(due) > 1 else {}
            for name, step in due.items():
                _take(job, step, name, progress, prediction=predictions.get(name))
    for sample in samples if _drops_images(job) else ():
        for part in WORKFLOWS[job.kind].passing:
            job.results.remove(job.locate(layout.MOVING_WORKING, sample.sample) / part)
    drop_copies(file for sample in samples for file in sample.list_files().values())


def _fetch_products(job: BatchJob, samples: Sequence[Any]) -> None:
    """Fetch what is there of samples, and of the dates before them, where results lie on a server."""
    for sample in samples:
        # Where the first stage has left nothing no other one has.
        if job.results.fetch(job.locate(layout.MOVING_MANIFEST, sample.sample)):
            for place in (*layout.OF_A_SAMPLE.values(), layout.SAMPLE_RECORD):
                job.results.fetch(job.locate(place, sample.sample))
        if before := job.earlier.get(sample.sample):
            for place in (layout.MOVING_MANIFEST, layout.APPLIED):
                job.results.fetch(job.locate(place, before))


def _take(job: BatchJob, step: Step, name: str, progress: BatchProgress, **more: Any) -> None:
    """Run a step in a log of its own, and note it if the program fails at it."""
    if name in progress.failed:
        return
    try:
        with log_stage(step.log):
            how = {**job.describe_stage(step.stage), **step.arguments, **more}
            run_stage(output=step.output, record=step.record, **how)
        if step.kept_record is not None:
            with write_whole_directory(step.kept_record) as folder:
                shutil.copy2(step.output / STAGE_FILE, folder / STAGE_FILE)
        for product in step.list_products():
            job.results.send(product)
    except OSError:
        raise
    except Exception as error:  # must not stop the other samples; run_batch raises it at the end
        progress.failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        log.exception("%s: %s", name, step.stage)
        return
    progress.ran += 1
    log.info("%s: %s", name, step.stage)


def _is_current(job: BatchJob, step: Step) -> bool:
    """Tell whether a step's output is what it would make."""
    key = compute_stage_key(**job.describe_stage(step.stage), **step.arguments)
    return is_current(step.record or step.output, key)


@contextmanager
def _working_folders(job: BatchJob, samples: Sequence[Any]) -> Iterator[dict[str, Path]]:
    """Yield where the samples' working images lie: in a temporary folder where no other job reads them.

    A record of what was made once is put there, so that nothing is made that nobody needs.
    """
    kept = {sample.sample: job.locate(layout.MOVING_WORKING, sample.sample) for sample in samples}
    if not _drops_images(job) or PREPROCESS not in job.stages:
        yield kept
        return
    with TemporaryDirectory(prefix="regflow-") as scratch:
        working = {name: Path(scratch, name) for name in kept}
        for name, folder in kept.items():
            if (folder / STAGE_FILE).is_file():
                working[name].mkdir()
                shutil.copy2(folder / STAGE_FILE, working[name])
        yield working


def _drops_images(job: BatchJob) -> bool:
    """Tell whether no later job needs the working images, nor anybody wants them."""
    wanted = PREPROCESS in job.settings.get("keep", ())
    return bool(WORKFLOWS[job.kind].passing) and job.stages[-1] == REPORT and not wanted


def _lacks_images(job: BatchJob, working: Path) -> bool:
    """Tell whether a directory of preprocess has its record, but no images any more."""
    passing = WORKFLOWS[job.kind].passing
    if not passing or not (working / STAGE_FILE).is_file():
        return False
    return read_outcome(working).state == "done" and not (working / passing[0]).exists()


def _fixed_steps(job: BatchJob, image: Any) -> Iterator[Step]:
    """Yield the steps of a fixed image that this job has to prepare and that are not done."""
    manifest = job.locate(layout.FIXED_MANIFEST, image.name)
    arguments = {
        INGEST: {"subject": image},
        PREPROCESS: {"sample": image.name, "manifest": manifest, "settings": job.settings[PREPROCESS]},
    }
    places = {INGEST: layout.FIXED_MANIFEST, PREPROCESS: layout.FIXED_WORKING}
    for stage, place in places.items():
        given = {**arguments[stage], "threads": job.threads}
        step = Step(stage, job.locate(place, image.name), _log(job, place, image.name), given)
        if not _is_current(job, step):
            yield step


def _moving_step(job: BatchJob, stage: str, sample: Any, working: Path) -> Step:
    """Return a stage of a sample."""
    name, place = sample.sample, layout.OF_A_SAMPLE[stage]
    return Step(
        stage,
        working if stage == PREPROCESS else job.locate(place, name),
        _log(job, place, name),
        _arguments(job, stage, sample, working),
        job.locate(layout.SAMPLE_RECORD, name) if stage == REPORT else None,
        job.locate(place, name) if stage == PREPROCESS and working != job.locate(place, name) else None,
    )


def _arguments(job: BatchJob, stage: str, sample: Any, working: Path) -> dict[str, Any]:
    """Return all that a stage of a sample may take."""
    name, fixed = sample.sample, sample.fixed.name
    manifests = job.locate(layout.FIXED_MANIFEST, fixed), job.locate(layout.MOVING_MANIFEST, name)
    reference, applied = job.locate(layout.FIXED_WORKING, fixed), job.locate(layout.APPLIED, name)
    before = job.earlier.get(name)
    earlier = before and (job.locate(layout.MOVING_MANIFEST, before), job.locate(layout.APPLIED, before))
    return {
        **{"subject": sample, "sample": name, "settings": job.settings.get(stage)},
        **{"seed": job.settings["seed"], "threads": job.threads, "dask": job.settings.get("dask")},
        **{"manifests": manifests, "fixed": manifests[0], "manifest": manifests[1]},
        **{"reference": reference, "prepared": (reference, working)},
        **{"initial": job.locate(layout.INITIAL, name), "refined": job.locate(layout.REFINED, name)},
        **{"applied": applied, "warped": applied, "assessed": job.locate(layout.ASSESSED, name)},
        "detected": job.locate(layout.DETECTED, name) if name in job.earlier else None,
        "earlier": earlier,
        "picture": job.locate(layout.SAMPLE_PICTURE, name),
    }


def _log(job: BatchJob, place: str, name: str) -> Path:
    return job.locate(layout.find_log(place), name)


def _ask_network(job: BatchJob, steps: Iterable[Step]) -> dict[str, Any]:
    """Ask the first method about several samples together, where it can be asked; by sample."""
    refine = importlib.import_module(f"regflow.stages.{job.kind}.refine")
    found: dict[str, Any] = refine.predict_batch([step.arguments for step in steps])
    return found
