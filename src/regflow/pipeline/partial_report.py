"""The report and the crate of a run in which jobs crashed: from what exists, the crashed samples named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from regflow.cohort.metadata import metadata_by_sample, metadata_columns
from regflow.cohort.samples import list_fixed_images
from regflow.config.workflow import WORKFLOWS
from regflow.core.errors import RegistrationError
from regflow.core.logs import drop_time
from regflow.pipeline.status import find_next_stage
from regflow.provenance.crate import write_crate
from regflow.provenance.digests import compute_source_digest
from regflow.provenance.provenance import collect_provenance
from regflow.stages import layout
from regflow.stages.gather import gather
from regflow.stages.pages import report_cohort
from regflow.stages.shell import Outcome, run_stage_work

if TYPE_CHECKING:
    from regflow.cohort.rasters.samples import RasterSample
    from regflow.cohort.volumes.samples import VolumeSample


def write_partial_report(
    results: str | Path, samples: "Sequence[VolumeSample] | Sequence[RasterSample]", kind: str = "volumes"
) -> Path:
    """Write the cohort's page from the samples that came through, and say where the others stopped.

    The tables behind it are not kept: a run that comes to its end writes them.

    Args:
        results: the run's folder.
        samples: of the whole cohort.
        kind: ``volumes`` or ``rasters``.

    Returns:
        The page.
    """
    results = Path(results)
    note = results / layout.PARTIAL_REPORT
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()
    names = [sample.sample for sample in samples]
    page = results / layout.COHORT_PAGE
    existing = [name for name in names if find_next_stage(results, name) is None]
    with TemporaryDirectory() as scratch:
        assessed = [
            results / layout.ASSESSED.format(sample=name)
            if name in existing
            else _stopped(results, name, Path(scratch))
            for name in names
        ]
        tables = {name: Path(scratch, name) for name in WORKFLOWS[kind].tables}
        gather(tables, assessed, metadata_by_sample(samples, metadata_columns(kind)), kind)
        pages = {name: results / layout.SAMPLE_PAGE.format(sample=name) for name in existing}
        images = {name: results / layout.SAMPLE_PICTURE.format(sample=name) for name in existing}
        report_cohort(page, kind=kind, tables=tables, assessed=assessed, pages=pages, images=images)
    return page


def write_partial_crate(
    settings: Mapping[str, Any], samples: "Sequence[VolumeSample] | Sequence[RasterSample]"
) -> Path:
    """Write the crate of a run in which jobs crashed: what is there, and that it is not all.

    Args:
        settings: the complete configuration.
        samples: of the whole cohort.

    Returns:
        The crate.
    """
    results, kind = Path(settings["output"]), settings["kind"]
    record = results / layout.PROVENANCE
    if not record.is_file():
        stages = WORKFLOWS[kind].stages
        sources = {stage: compute_source_digest(f"stages.{kind}.{stage}", kind) for stage in stages}
        collect_provenance(record, settings=settings, sources=sources)
    names = [sample.sample for sample in samples]
    left = sum(find_next_stage(results, name) is not None for name in names)
    return write_crate(
        results / layout.CRATE,
        settings=settings,
        samples=names,
        fixed=list(list_fixed_images(samples)),
        failure=f"some jobs crashed, and {left} of {len(names)} samples are not done",
    )


def drop_partial_report(results: str | Path) -> None:
    """Remove what was written of a run in which jobs crashed: to Snakemake it looks as if it were done."""
    note = Path(results) / layout.PARTIAL_REPORT
    if note.exists():
        for name in (layout.COHORT_PAGE, layout.CRATE):
            (Path(results) / name).unlink(missing_ok=True)
        note.unlink()


def _stopped(results: Path, sample: str, scratch: Path) -> Path:
    """Write what assess would say of a sample that crashed before it."""

    def work(_folder: Path) -> Outcome:
        raise RegistrationError(_reason(results, sample))

    run_stage_work("assess", sample, scratch / sample, [], work)
    return scratch / sample


def _reason(results: Path, sample: str) -> str:
    stage = str(find_next_stage(results, sample))
    log = results / layout.find_log(layout.OF_A_SAMPLE[stage]).format(sample=sample)
    if not log.exists():
        return f"{stage} left nothing: it, or a job that it waits for, was killed at its start"
    said = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
    return f"{stage} crashed ({drop_time(last)}); see {log}"
