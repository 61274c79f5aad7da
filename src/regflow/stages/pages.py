"""What the pages of both kinds share: the cohort's page, provenance, files written whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.files import read_json, write_whole
from regflow.metrics.catalogs import CATALOGS
from regflow.reporting.shared import drawing
from regflow.reporting.shared.cohort import find_status, render_cohort_page
from regflow.reporting.shared.story import PageStory, describe_source, format_duration, list_stage_seconds
from regflow.stages.checks import list_parts
from regflow.stages.gather import read_table
from regflow.stages.shell import find_transform_source, read_stage_records

MOST_THUMBNAILS = 300
"""In a larger cohort only those of samples that want a look are part of the cohort's page; the others are
loaded when they are seen."""
THUMBNAIL_WIDTH = 320
LONGEST_TEXT = 200_000


@dataclass(frozen=True)
class SamplePage:
    """The page of a kind of image.

    Attributes:
        columns: of the sheet that are shown.
        size: what a moving image's manifest tells of its size: names and values.
        blank: the page of a sample that could not be done.
        draw: the page of one that was, and how to draw its picture.
    """

    columns: Sequence[str]
    size: Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]
    blank: Callable[[PageStory], str]
    draw: Callable[[PageStory], tuple[str, Callable[[], drawing.Bytes]]]


def report_sample(
    page: str | Path,
    of_kind: SamplePage,
    *,
    sample: str,
    manifests: tuple[str | Path, str | Path],
    prepared: tuple[str | Path, str | Path],
    later: Sequence[str | Path],
    picture: str | Path | None,
    home: str | None,
) -> None:
    """Write the page of one sample of a cohort, also of one that failed.

    Args:
        page: the ``.html`` file to write.
        of_kind: what its kind of image shows.
        sample: its id.
        manifests: of the fixed and the moving image, written by ingest.
        prepared: directories of the fixed and the moving image, written by preprocess.
        later: those of the stages after it; assess is among them.
        picture: a ``.png`` to write beside.
        home: link from the page to the cohort's page.
    """
    told = [read_json(manifest) for manifest in manifests]
    stages = [*ingest_records(told), *read_stage_records(prepared, *later)]
    decided, assessed = next(
        (record, Path(folder))
        for record, folder in zip(stages[-len(later) :], later, strict=True)
        if record["stage"] == "assess"
    )
    is_done, verdict = decided["state"] == "done", decided["verdict"]
    story = PageStory(
        sample,
        verdict["status"] if is_done else "error",
        verdict["reason"],
        stages,
        quality=read_json(assessed / "quality.json") if is_done else {},
        facts=_facts(told, stages, of_kind),
        provenance=describe_sources(told),
        home=home,
    )
    if not is_done:
        write_page(page, of_kind.blank(story))
        write_picture(picture, drawing.draw_words(f"{sample}: {verdict['reason']}"))
        return
    text, draw_picture = of_kind.draw(story)
    write_page(page, text)
    if picture is not None:
        write_picture(picture, draw_picture())


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
        shown = [row for row in shown if find_status(row) != "pass" or row["outliers"]][:MOST_THUMBNAILS]
    thumbnails = {row["sample"]: _thumbnail(images[row["sample"]]) for row in shown}
    pictures = {
        name: Path(path).relative_to(page.parent).as_posix()
        for name, path in images.items()
        if len(rows) > MOST_THUMBNAILS and name not in thumbnails
    }
    told = _provenance(provenance, configuration)
    content = render_cohort_page(rows, structures, stages, links, thumbnails, told, CATALOGS[kind], pictures)
    write_page(page, content)


def _facts(
    manifests: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]], of_kind: SamplePage
) -> list[tuple[str, str]]:
    """Return the short lines under the title."""
    fixed, moving = manifests
    facts = [("onto", fixed["name"])]
    facts += [(key, str(moving[key])) for key in of_kind.columns if moving.get(key)]
    facts += of_kind.size(moving)
    total = sum(part["seconds"] for part in list_stage_seconds(stages))
    return [
        *facts,
        *describe_source(find_transform_source(stages)),
        *([("time", format_duration(total))] if total else []),
    ]


def ingest_records(manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
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


def describe_sources(manifests: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the input files and their checksums as text to fold out."""
    lines = []
    for manifest in manifests:
        lines += [f"{manifest['name']}  {part}: {value}" for part, value in list_parts(manifest["paths"])]
        lines += [
            f"{manifest['name']}  {part} sha256: {value}" for part, value in list_parts(manifest["sha256"])
        ]
    return [("Input files and checksums", "\n".join(lines))]


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
        return drawing.encode_data_uri(np.asarray(picture))


def write_page(page: str | Path, content: str) -> None:
    """Write a page, whole or not at all."""
    with write_whole(page) as part:
        part.write_text(content, encoding="utf-8")


def write_picture(path: str | Path | None, picture: drawing.Bytes) -> None:
    """Write a picture, whole or not at all; nothing where no path is given."""
    from PIL import Image as Pillow

    if path is not None:
        with write_whole(path) as part:
            Pillow.fromarray(picture).save(part)
