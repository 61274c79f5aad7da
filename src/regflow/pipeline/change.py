"""Change between aligned scenes given by name, without a cohort: what ``regflow detect`` runs."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.core.files import write_whole_directory
from regflow.core.gate import Verdict, find_worst_verdict
from regflow.core.processor import describe_processor
from regflow.provenance.run_record import RunRecorder, require_writable
from regflow.stages.rasters.detect import ChangeInterval, detect_changes, list_date_pairs
from regflow.stages.rasters.detect_inputs import DatedScene, open_pair

if TYPE_CHECKING:
    from regflow.core.chunks import Workers

log = logging.getLogger(__name__)

PRODUCTS = {
    "magnitude.tif",
    "probability.tif",
    "change.tif",
    "changes.gpkg",
    "normalized.tif",
    "detect.json",
    "report.html",
}
"""What a folder of results may hold when it is replaced."""


def detect_series(
    scenes: Sequence[DatedScene],
    output: str | Path,
    settings: Mapping[str, Any],
    *,
    pairs: str = "reference",
    chunk: int | None = None,
    threads: int | None = None,
) -> Verdict:
    """Compare aligned scenes and write what changed, each comparison whole or not at all.

    Args:
        scenes: two or more, on the same pixels; the first is the reference.
        output: the folder to make; with more than two scenes each comparison gets a folder in it,
            ``BEFORE_AFTER``.
        settings: the ``detect`` section of a configuration, complete.
        pairs: ``reference`` or ``consecutive``.
        chunk: side of the blocks that are read, in pixels; no result depends on it.
        threads: most threads to use, all cores when None; no result depends on it.

    Returns:
        The most severe verdict.

    Raises:
        InputError: the scenes, the folder or a setting is wrong.
        RegistrationError: nothing to hold a change against was found.
    """
    from regflow.core.chunks import open_workers

    compared = list_date_pairs([scene.date for scene in scenes], pairs)
    folders = [_folder(Path(output), scenes[i], scenes[j], len(compared)) for i, j in compared]
    verdicts = []
    with open_workers({"chunk": chunk} if chunk else {}, threads=threads) as workers:
        for (first, second), folder in zip(compared, folders, strict=True):
            log.info("%s to %s", scenes[first].name, scenes[second].name)
            verdicts.append(_compare(scenes[first], scenes[second], folder, settings, workers))
    return find_worst_verdict(verdicts)


def _compare(
    before: DatedScene, after: DatedScene, output: Path, settings: Mapping[str, Any], workers: "Workers"
) -> Verdict:
    from regflow.stages.rasters.report import report_change

    pair = open_pair(before, after, settings["bands"], settings["margin_px"])
    between = ChangeInterval((before.name, after.name), (before.date, after.date))
    recorder = RunRecorder(f"{before.name}_{after.name}")
    with write_whole_directory(output) as folder:
        with recorder.record_stage("detect") as record:
            found = detect_changes(pair, folder, settings, between, workers)
            record.update(verdict=found.verdict.to_dict(), steps=found.steps)
        files = f"before  {before.path}\nafter   {after.path}"
        report_change(
            folder / "report.html",
            pair=pair,
            detected=folder,
            stages=recorder.stages,
            provenance=[("Input files", files), ("Processor", describe_processor())],
        )
    return found.verdict


def _folder(output: Path, before: DatedScene, after: DatedScene, count: int) -> Path:
    """Return where a comparison goes.

    Raises:
        InputError: it is a file, or holds what this program did not write.
    """
    return require_writable(output if count == 1 else output / f"{before.name}_{after.name}", PRODUCTS)
