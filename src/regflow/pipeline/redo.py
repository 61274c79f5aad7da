"""Stages that are wanted again: what they made no longer counts as made."""

from collections.abc import Iterable
from pathlib import Path

from regflow.config.workflow import WORKFLOWS
from regflow.core.errors import InputError
from regflow.core.files import read_json, write_json
from regflow.core.names import find_nearest_name
from regflow.stages import layout
from regflow.stages.freshness import MADE_FROM, find_record


def forget_stages(results: str | Path, kind: str, stage: str, names: Iterable[str]) -> int:
    """Let the next run make a stage, and all that come after it, again; nothing is deleted that was made.

    Args:
        results: the study's folder of results.
        kind: ``volumes`` or ``rasters``.
        stage: the first stage to make again.
        names: of the samples.

    Returns:
        How many records were found.

    Raises:
        InputError: there is no such stage.
    """
    results, stages = Path(results), WORKFLOWS[kind].stages
    if stage not in stages:
        near = find_nearest_name(stage, stages)
        raise InputError(f"there is no stage '{stage}'; did you mean '{near}'? They are: {', '.join(stages)}")
    found = 0
    for each in stages[stages.index(stage) :]:
        place = layout.SAMPLE_RECORD if each == "report" else layout.OF_A_SAMPLE[each]
        for name in names:
            record = find_record(results / place.format(sample=name))
            if record.is_file():
                write_json(record, {**read_json(record), MADE_FROM: None})
                found += 1
    for marker in results.glob(layout.BATCH.format(job="*", batch="*")):
        marker.unlink()
    return found
