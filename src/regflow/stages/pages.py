"""What the pages of both kinds share: the cohort's page, provenance, files written whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.files import read_json, whole
from regflow.metrics.catalogs import CATALOGS
from regflow.reporting.shared import drawing
from regflow.reporting.shared.cohort import cohort_page, status_of
from regflow.stages.gather import read_table

MOST_THUMBNAILS = 300
"""In a larger cohort only the samples that want a look have a picture on the cohort's page."""
THUMBNAIL_WIDTH = 320
LONGEST_TEXT = 200_000


def report_cohort(
    page: str | Path,
    *,
    tables: Mapping[str, str | Path],
    assessed: Sequence[str | Path],
    pages: Mapping[str, str | Path],
    images: Mapping[str, str | Path],
    provenance: str | Path | None = None,
    configuration: str | Path | None = None,
    kind: str = "volumes",
) -> None:
    """Write the cohort's page.

    Args:
        page: the ``.html`` file to write.
        tables: ``samples`` and, where there are structures, ``labels``, written by gather.
        assessed: directories that assess wrote.
        pages: each sample's page.
        images: each sample's ``.png``.
        provenance: the run's ``provenance.json``.
        configuration: the run's complete ``config.yaml``.
        kind: ``volumes`` or ``rasters``.
    """
    page = Path(page)
    rows = read_table(tables["samples"])
    structures = read_table(tables["labels"]) if "labels" in tables else []
    links = {sample: Path(path).relative_to(page.parent).as_posix() for sample, path in pages.items()}
    stages: list[dict[str, Any]] = []
    for folder in map(Path, assessed):
        if (folder / "quality.json").exists():
            stages += read_json(folder / "quality.json")["stages"]
    shown = [row for row in rows if row["state"] == "done"]
    if len(shown) > MOST_THUMBNAILS:
        shown = [row for row in shown if status_of(row) != "pass" or row["outliers"]][:MOST_THUMBNAILS]
    thumbnails = {row["sample"]: _thumbnail(images[row["sample"]]) for row in shown}
    told = _provenance(provenance, configuration)
    write_page(page, cohort_page(rows, structures, stages, links, thumbnails, told, CATALOGS[kind]))


def ingested(manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return ingest's part of the stages' table: problems and warnings of the files."""
    records = []
    for manifest, image in zip(manifests, ("fixed", "moving"), strict=True):
        problems, warnings = manifest["problems"], manifest["warnings"]
        status = "fail" if problems else "warn" if warnings else "pass"
        reason = "; ".join([*problems, *warnings]) or "the files are as the sheet says"
        verdict = {"status": status, "reason": reason}
        state, title = manifest["state"], f"ingest ({image})"
        records.append({"stage": "ingest", "title": title, "state": state, "verdict": verdict, "steps": []})
    return records


def sources_told(manifests: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the input files and their checksums as text to fold out."""
    lines = []
    for manifest in manifests:
        lines += [f"{manifest['name']}  {part}: {value}" for part, value in _leaves(manifest["paths"])]
        lines += [
            f"{manifest['name']}  {part} sha256: {value}" for part, value in _leaves(manifest["sha256"])
        ]
    return [("Input files and checksums", "\n".join(lines))]


def _leaves(parts: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in parts.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", text) for inner, text in _leaves(value)]
        else:
            found.append((name, str(value)))
    return found


def _provenance(record: str | Path | None, configuration: str | Path | None) -> list[tuple[str, str]]:
    import yaml

    told = []
    if record is not None:
        content = read_json(record)
        plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
        told.append(("The run", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)))
        for key, value in content.items():
            if isinstance(value, Mapping):
                text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
                if len(text) > LONGEST_TEXT:
                    text = text[:LONGEST_TEXT] + f"... and more, see {Path(record).name}"
                told.append((key.capitalize(), text))
    if configuration is not None:
        told.append(("Configuration", Path(configuration).read_text(encoding="utf-8")))
    return told


def _thumbnail(path: str | Path) -> str:
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        picture.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
        return drawing.data_uri(np.asarray(picture))


def write_page(page: str | Path, content: str) -> None:
    """Write a page, whole or not at all."""
    with whole(page) as part:
        part.write_text(content, encoding="utf-8")


def write_picture(path: str | Path | None, picture: drawing.Bytes) -> None:
    """Write a picture, whole or not at all; nothing where no path is given."""
    from PIL import Image as Pillow

    if path is not None:
        with whole(path) as part:
            Pillow.fromarray(picture).save(part)
