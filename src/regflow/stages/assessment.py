"""What assessing shares between kinds of image: the record of all that was measured, and the verdict."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from regflow.core.files import write_json
from regflow.core.gate import Verdict
from regflow.stages.shell import (
    Outcome,
    find_transform_source,
    make_outcome,
    read_stage_records,
    run_stage_work,
)


class Assessment(Protocol):
    """What measuring a sample came to."""

    @property
    def quality(self) -> Mapping[str, Any]:
        """Content of ``quality.json``."""

    @property
    def verdict(self) -> Verdict:
        """With the figure that decided."""

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]:
        """One record per step."""


def assess_sample(
    output: str | Path,
    sample: str,
    prepared: tuple[str | Path, str | Path],
    later: Sequence[str | Path],
    measure: Callable[[Path], Assessment],
) -> Outcome:
    """Measure one sample of a cohort and write ``quality.json``, with the records of all stages before.

    Args:
        output: the directory to make.
        sample: its id.
        prepared: directories of the fixed and the moving image, written by preprocess.
        later: those of the stages after it, in order.
        measure: gets the directory, in which it writes what its kind has besides.
    """

    def work(folder: Path) -> Outcome:
        found = measure(folder)
        before = read_stage_records(prepared, *later)
        content = {"sample": sample, "transform_from": find_transform_source(before), **found.quality}
        write_json(folder / "quality.json", {**content, "stages": before})
        return make_outcome(found.verdict, found.steps)

    return run_stage_work("assess", sample, output, [*prepared, *later], work)
