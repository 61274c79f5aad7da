"""Change of volume over the sessions of a series, each step in its folder."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from regflow.core.grid import Grid
from regflow.pipeline.series_solution import SeriesSolution
from regflow.pipeline.series_steps import SeriesJob
from regflow.pipeline.step_folders import run_step


def measure_volumes(
    job: SeriesJob, solution: SeriesSolution, grid: Grid, keys: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Measure how volume changed between the first session of a series and each other one.

    Args:
        job: the series.
        solution: where its images lie; those of other parts than the largest are left out.
        grid: of the aligned images.
        keys: of what each image holds.

    Returns:
        A row for each session: ``image``, ``date``, ``verdict``, volumes in milliliters, ``reason``.
    """
    from regflow.stages.volumes.series_change import read_volume_change

    used = [sample for sample in job.samples if sample.name in solution.main]
    first = used[0]
    rows = []
    for sample in used[1:]:
        pair = first.name, sample.name
        key = job.make_key(
            [keys[name] for name in pair],
            [solution.poses[name].matrix.tolist() for name in pair],
            grid.to_dict(),
            {name: job.settings[name] for name in ("refine", "seed")},
        )
        folder = job.find_change_folder(sample.name)
        work = partial(_measure_change, job, solution, grid, pair)
        run_step(folder, key, f"measure the volume of {sample.name}", job.progress, work)
        rows.append({"image": sample.name, "date": sample.date or "", **read_volume_change(folder)})
    return rows


def _measure_change(
    job: SeriesJob, solution: SeriesSolution, grid: Grid, pair: tuple[str, str], folder: Path
) -> None:
    from regflow.stages.volumes.series_change import measure_volume_change

    measure_volume_change(
        folder,
        images=(job.find_image_folder(pair[0]), job.find_image_folder(pair[1])),
        poses=(solution.poses[pair[0]], solution.poses[pair[1]]),
        grid=grid,
        settings=job.settings,
        threads=job.threads,
    )
