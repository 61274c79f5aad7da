"""The cohort in two tables: one row per sample, and one row per structure of a sample."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regflow.cohort.metadata import METADATA_COLUMNS, metadata_columns
from regflow.core.addresses import redact_value
from regflow.core.files import read_json, write_whole
from regflow.metrics.catalog import STATES, VOLUMES, Catalog
from regflow.metrics.catalogs import CATALOGS
from regflow.metrics.outliers import compute_robust_scores
from regflow.reporting.shared.multiqc import write_multiqc_files
from regflow.stages import layout
from regflow.stages.shell import STAGE_FILE, read_outcome

log = logging.getLogger(__name__)

OUTLIER_SCORE = 3.5
"""Robust score beyond which a sample stands apart (Iglewicz and Hoaglin, 1993)."""

COMPARABLE = ("modality", "sensor", "group")
"""Samples that are equal in these columns are compared."""
VERDICT_COLUMNS = ("state", "status", "reason", "outliers", "transform_from")
TEXT_COLUMNS = frozenset(("sample", "fixed", *METADATA_COLUMNS, *VERDICT_COLUMNS))
"""The columns of text; every other column of the samples' table is a number."""
FORMULA_MARKS = ("=", "+", "-", "@")
"""How text begins that a spreadsheet computes."""
LABEL_COLUMNS = ("sample", "label", "fixed_ml")
LABEL_FIGURES = ("dice", "hd95_mm", "asd_mm")

Figures = dict[str, Any]


def gather(
    tables: Mapping[str, str | Path],
    assessed: Sequence[str | Path],
    subjects: Mapping[str, Mapping[str, Any]] | None = None,
    kind: str = "volumes",
    multiqc: str | Path | None = None,
    measure: Callable[[str], float | None] | None = None,
) -> list[Figures]:
    """Collect the figures of all samples, failed and skipped ones included.

    Args:
        tables: where to write: ``samples`` and, if wanted, ``labels``; each becomes a ``.tsv`` and a
            ``.parquet``, whose suffix is put in place of one that is given.
        assessed: directories that assess wrote, named by sample.
        subjects: what the sheet tells of each sample: ``fixed`` and what
            :func:`~regflow.cohort.metadata.metadata_columns` names.
        kind: ``volumes`` or ``rasters``.
        multiqc: folder for the files that MultiQC reads.
        measure: tells the megabytes of what the stages keep of a sample, where that does not lie here.

    Returns:
        The rows of the samples' table, in the order of ``assessed``.
    """
    rows, structures = [], []
    for folder in map(Path, assessed):
        row, of_labels = _read(folder, (subjects or {}).get(folder.name, {}), metadata_columns(kind))
        if measure is not None and row["state"] == "done":
            row["stored_mb"] = measure(folder.name) or row["stored_mb"]
        rows.append(row)
        structures += of_labels
    mark_outliers(rows, CATALOGS[kind])
    columns = ("sample", "fixed", *metadata_columns(kind), *VERDICT_COLUMNS)
    write_table(tables["samples"], rows, columns)
    if "labels" in tables:
        columns = (*LABEL_COLUMNS, *(f"{figure}_{stage}" for figure in LABEL_FIGURES for stage in STATES))
        write_table(tables["labels"], structures, columns)
    if multiqc is not None:
        write_multiqc_files(multiqc, rows, CATALOGS[kind])
    counts = {state: sum(row["state"] == state for row in rows) for state in ("done", "error", "skipped")}
    log.info("%d samples: %s", len(rows), ", ".join(f"{n} {state}" for state, n in counts.items()))
    return rows


def mark_outliers(rows: Sequence[Figures], catalog: Catalog = VOLUMES) -> None:
    """Fill each row's ``outliers`` with the figures in which it is worse than the samples it compares with.

    These are the samples of its modality (or sensor) and group: a T2 volume is no outlier
    because it correlates otherwise with a T1 atlas. Only the bad side counts: a sample that is better than
    all others needs no look.
    """
    comparable: dict[tuple[Any, ...], list[Figures]] = {}
    for row in rows:
        row["outliers"] = ""
        comparable.setdefault(tuple(row.get(name) for name in COMPARABLE), []).append(row)
    for members in comparable.values():
        for name in catalog.watched:
            column = catalog.name_final_column(name)
            scores = compute_robust_scores([_number(row.get(column)) for row in members])
            sign = 1 if catalog.figures[name].better == "low" else -1
            for row, score in zip(members, scores, strict=True):
                if sign * score > OUTLIER_SCORE:
                    row["outliers"] = ",".join(filter(None, (row["outliers"], column)))


def write_table(path: str | Path, rows: Sequence[Figures], columns: Iterable[str]) -> None:
    """Write rows as a ``.tsv`` and a ``.parquet`` side by side, each whole or not at all.

    Args:
        path: of either; the suffix is exchanged.
        rows: by column name; a missing value is left empty.
        columns: those that come first, in this order, even when no row has them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    rows = [{name: redact_value(value) for name, value in row.items()} for row in rows]
    with write_whole(Path(path).with_suffix(".tsv")) as part, part.open("w", encoding="utf-8") as stream:
        stream.write("\t".join(names) + "\n")
        for row in rows:
            stream.write("\t".join(_cell(row.get(name)) for name in names) + "\n")
    arrays = {name: _array(name, [row.get(name) for row in rows]) for name in names}
    with write_whole(Path(path).with_suffix(".parquet")) as part:
        pq.write_table(pa.table(arrays), part)


def read_table(path: str | Path) -> list[Figures]:
    """Read the rows of a ``.parquet`` that :func:`write_table` wrote."""
    import pyarrow.parquet as pq

    rows: list[Figures] = pq.read_table(Path(path).with_suffix(".parquet")).to_pylist()
    return rows


def _read(folder: Path, subject: Mapping[str, Any], words: Sequence[str]) -> tuple[Figures, list[Figures]]:
    outcome = read_outcome(folder)
    row: Figures = {"sample": folder.name}
    row |= {key: subject.get(key) for key in ("fixed", *words)}
    row |= {"state": outcome.state, "status": outcome.verdict.status, "reason": outcome.verdict.reason}
    row["outliers"] = ""
    if outcome.state != "done":
        return row, []
    quality = read_json(folder / "quality.json")
    row["transform_from"] = quality.get("transform_from")
    row |= {name: _number(value) for name, value in quality["figures"].items()}
    # The fixed image is prepared once for the cohort, so its seconds are no sample's.
    own = [record for record in quality["stages"] if record.get("title") != "preprocess (fixed)"]
    row |= {f"seconds_{record['stage']}": float(record["seconds"]) for record in own}
    row["seconds_assess"] = float(read_json(folder / STAGE_FILE)["seconds"])
    row["stored_mb"] = _stored_mb(folder.parents[1], folder.name)
    return row, [_label_row(folder.name, record) for record in quality.get("labels", ())]


def _stored_mb(results: Path, sample: str) -> float:
    """Return the size of all that the stages keep of a sample, megabytes."""
    places = [results / place.format(sample=sample) for place in layout.OF_A_SAMPLE.values()]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def _label_row(sample: str, record: Mapping[str, Any]) -> Figures:
    row: Figures = {"sample": sample, "label": record["label"], "fixed_ml": record["fixed_ml"]}
    for figure in LABEL_FIGURES:
        for stage, value in record.get(figure, {}).items():
            row[f"{figure}_{stage}"] = _number(value)
    return row


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    # A spreadsheet would take it for a formula and compute it.
    return f"'{text}" if text.startswith(FORMULA_MARKS) else text


def _array(name: str, values: list[Any]) -> Any:
    import pyarrow as pa

    if name in TEXT_COLUMNS:
        return pa.array(values, pa.string())
    kind = pa.int64() if name == "label" else pa.float64()
    return pa.array([None if isinstance(v, float) and math.isnan(v) else v for v in values], kind)
