"""What tells of a series in its folder: tables, the record and the page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.files import write_json, write_whole
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.io.text_files import write_tsv
from regflow.pipeline.series_kinds import SeriesKind
from regflow.pipeline.series_solution import ImagePair, SeriesSolution
from regflow.pipeline.series_steps import ALIGNED, JACOBIAN, SeriesJob
from regflow.pipeline.step_folders import STEPS
from regflow.stages.series_link import SeriesLink

RECORD, IMAGES_TABLE, LINKS_TABLE, CLOSURES_TABLE, VOLUMES_TABLE, PAGE = (
    *("series.json", "series.tsv", "links.tsv", "closures.tsv", "volumes.tsv", "report.html"),
)
CHANGES = "changes"
MOST_PICTURES = 40


def list_series_products() -> set[str]:
    """Return what a folder of a series may hold."""
    return {RECORD, IMAGES_TABLE, LINKS_TABLE, CLOSURES_TABLE, VOLUMES_TABLE, PAGE} | {
        *(CHANGES, ALIGNED, JACOBIAN, STEPS)
    }


def write_series_record(
    job: SeriesJob,
    steps: SeriesKind,
    solution: SeriesSolution,
    links: Mapping[ImagePair, SeriesLink],
    changes: Mapping[str, Mapping[str, Any]],
    volumes: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Write tables, record and page.

    Args:
        job: the series.
        steps: of its kind.
        solution: where its images lie.
        links: by the names of both images.
        changes: verdict of each comparison by name.
        volumes: a row for each session whose change of volume was measured.

    Returns:
        The record: ``figures``, ``parts``, and ``images``, ``links``, ``closures`` as lists of rows.
    """
    record: dict[str, Any] = {
        "kind": job.kind,
        "options": dict(job.options),
        "figures": measure_series_figures(job, solution),
        "parts": [list(part) for part in solution.graph.parts],
        "images": list(_list_images(job, solution)),
        "links": list(_list_links(job, solution, links)),
        "closures": list(_list_closures(job, solution)),
        "changes": {name: dict(verdict) for name, verdict in changes.items()},
        "volumes": [dict(row) for row in volumes],
    }
    if volumes:
        _write_rows(job.folder / VOLUMES_TABLE, record["volumes"])
    for name, rows in ((IMAGES_TABLE, "images"), (LINKS_TABLE, "links"), (CLOSURES_TABLE, "closures")):
        _write_rows(job.folder / name, record[rows])
    write_json(job.folder / RECORD, record)
    _write_page(job, steps, record)
    return record


def measure_series_figures(job: SeriesJob, solution: SeriesSolution) -> dict[str, float]:
    """Return counts, and residuals and closures in pixels or millimeters."""
    unit = job.unit
    counts = solution.graph.list_figures(unit)
    ending = f"_{unit}"
    return {
        "images_left_out": float(len(job.samples) - len(solution.poses)),
        **{
            name: value / solution.spacing if name.endswith(ending) else value
            for name, value in counts.items()
        },
    }


def _list_images(job: SeriesJob, solution: SeriesSolution) -> Iterator[dict[str, Any]]:
    places = {name: number for number, part in enumerate(solution.graph.parts, 1) for name in part}
    for sample in job.samples:
        verdict = solution.verdicts[sample.name]
        used = sample.name in solution.poses
        yield {
            "image": sample.name,
            "date": sample.date or "",
            "used": "yes" if used else "no",
            "part": places[sample.name] if used else "",
            "verdict": verdict.status,
            **(_describe_pose(job, solution, sample.name) if used else {}),
            "reason": verdict.reason,
        }


def _describe_pose(job: SeriesJob, solution: SeriesSolution, name: str) -> dict[str, float]:
    """Return how far an image's content was moved on the common grid, at the middle of its links."""
    pull = solution.poses[name].inverse()
    middle = _find_middle(solution, name)
    # Where content goes is the opposite of where it is fetched.
    moved = middle - pull.apply(middle[None])[0]
    if job.kind == "rasters":
        moved = solution.grid.to_index_vectors(moved[None])[0]
    axes = "xyz"[: len(moved)]
    own = {
        f"shift_{axis}_{job.unit}": round(float(value), 6) for axis, value in zip(axes, moved, strict=True)
    }
    return {**own, "scale": round(_measure_scale(pull), 9)}


def _measure_scale(pull: Affine) -> float:
    return float(abs(np.linalg.det(pull.linear)) ** (-1 / pull.ndim))


def _find_middle(solution: SeriesSolution, name: str) -> Any:
    """Return a point of the common world in the middle of what an image shares with others."""
    for each in solution.graph.residuals:
        if each.kept and name in (each.link.first, each.link.second) and each.link.points is not None:
            points = np.asarray(each.link.points, np.float64)
            return solution.poses[each.link.first].apply(points).mean(axis=0)
    return np.zeros(solution.poses[name].ndim)


def _list_links(
    job: SeriesJob, solution: SeriesSolution, links: Mapping[ImagePair, SeriesLink]
) -> Iterator[dict[str, Any]]:
    found = {(each.link.first, each.link.second): each for each in solution.graph.residuals}
    for pair, link in links.items():
        row: dict[str, Any] = {"first": pair[0], "second": pair[1], "verdict": link.verdict.status}
        own = found.get(pair)
        if own is None:
            yield {**row, "kept": "no", "reason": link.verdict.reason}
            continue
        row |= {
            f"residual_{job.unit}": round(own.distance / solution.spacing, 6),
            "deviations": round(own.deviations, 4),
            "kept": "yes" if own.kept else "no",
            "checked": "yes" if own.checked else "no",
        }
        yield {**row, "reason": link.verdict.reason if own.kept else "contradicts the other links"}


def _list_closures(job: SeriesJob, solution: SeriesSolution) -> Iterator[dict[str, Any]]:
    for loop in solution.graph.triples:
        names = dict(zip(("first", "second", "third"), loop.nodes, strict=True))
        closure = round(loop.distance / solution.spacing, 6)
        yield {**names, f"closure_{job.unit}": closure, "kept": "yes" if loop.kept else "no"}


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a table; a column that a row lacks is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "reason"))
    if any("reason" in row for row in rows):
        columns.append("reason")
    write_tsv(path, columns, [[row.get(name) for name in columns] for row in rows])


def _write_page(job: SeriesJob, steps: SeriesKind, record: Mapping[str, Any]) -> None:
    from regflow.reporting.shared.series import render_series_report

    used = [row["image"] for row in record["images"] if row["used"] == "yes"]
    shown = [used[n * len(used) // MOST_PICTURES] for n in range(MOST_PICTURES)]
    names = used if len(used) <= MOST_PICTURES else shown
    pictures: dict[str, Image] = {
        name: steps.draw(job.find_product_folder(name) / steps.image_file) for name in names
    }
    page = render_series_report(pictures, record, job.unit)
    with write_whole(job.folder / PAGE) as part:
        part.write_text(page, encoding="utf-8")
