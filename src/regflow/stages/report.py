"""The pages that people read: one per sample, one for the cohort."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import read_json, whole
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.io.volumes import read_volume
from regflow.core.resample import resample_array
from regflow.metrics.catalog import VOLUMES, Catalog
from regflow.reporting import drawing, pictures
from regflow.reporting.cohort import cohort_page, status_of
from regflow.reporting.sample import Story, clock, duration, sample_page, source_fact
from regflow.stages.assess import Assessment, Pair, deformation, moved_images, read_pair, stage_records
from regflow.stages.gather import read_table
from regflow.stages.outcome import transform_source

log = logging.getLogger(__name__)

OPTIONS: dict[str, dict[str, Any]] = {
    "slices": {
        "type": "integer",
        "minimum": 1,
        "maximum": 15,
        "description": "slices of each plane on a sample's page; an odd number has one in the middle",
        "default": 7,
    },
    "orientation": {
        "enum": ["radiological", "neurological"],
        "description": "the patient's left is on the right of the picture (radiological) or on the left",
        "default": "radiological",
    },
}

MOST_THUMBNAILS = 300
"""In a larger cohort only the samples that want a look have a picture on the cohort's page."""
THUMBNAIL_WIDTH = 320
LONGEST_TEXT = 200_000


def report(
    page: str | Path,
    *,
    sample: str,
    manifests: tuple[str | Path, str | Path],
    prepared: tuple[str | Path, str | Path],
    initial: str | Path,
    refined: str | Path,
    applied: str | Path,
    assessed: str | Path,
    settings: Mapping[str, Any],
    picture: str | Path | None = None,
    home: str | None = "index.html",
) -> None:
    """Write the page of one sample of a cohort, also of one that failed.

    Args:
        page: the ``.html`` file to write.
        sample: its id.
        manifests: of the fixed and the moving image, written by ingest.
        prepared: directories of the fixed and the moving image, written by preprocess.
        initial: directory written by initialize.
        refined: directory written by refine.
        applied: directory written by apply.
        assessed: directory written by assess.
        settings: the ``report`` section of the configuration.
        picture: a ``.png`` to write beside: the warped image with the fixed image's contours.
        home: link from the page to the cohort's page.
    """
    told = [read_json(manifest) for manifest in manifests]
    stages = [*ingested(told), *stage_records(prepared, initial, refined, applied, assessed)]
    verdict, state = stages[-1]["verdict"], stages[-1]["state"]
    story = {
        "sample": sample,
        "status": verdict["status"] if state == "done" else "error",
        "reason": verdict["reason"],
        "stages": stages,
        "facts": _facts(told, stages),
        "provenance": sources_told(told),
        "home": home,
    }
    if state != "done":
        write_page(page, sample_page(Story(**story), None))
        write_picture(picture, pictures.word_sheet(f"{sample}: {verdict['reason']}"))
        return
    pair = read_pair(manifests, prepared, initial, refined)
    scene = _scene(
        pair.fixed,
        moved_images(pair),
        deformation(pair),
        np.asarray(read_volume(Path(assessed) / "jacobian.nii.gz").channel, dtype=np.float32),
        settings,
    )
    warped = read_volume(Path(applied) / "warped.nii.gz")
    product = on_grid(np.asarray(warped.channel, dtype=np.float32), warped.grid, pair.fixed.grid)
    quality = read_json(Path(assessed) / "quality.json")
    write_page(page, sample_page(Story(**story, quality=quality), scene, product))
    if picture is not None:
        write_picture(picture, pictures.contact_sheet(scene))


def report_pair(
    page: str | Path,
    *,
    sample: str,
    pair: Pair,
    assessment: Assessment,
    stages: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any] | None = None,
    product: Image | None = None,
    facts: Sequence[tuple[str, str]] = (),
    provenance: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page of one pair from what is in memory.

    Args:
        page: the ``.html`` file to write.
        sample: a name for the pair.
        pair: what was assessed.
        assessment: what came of it.
        stages: what each stage's ``stage.json`` would hold: ``stage``, ``state``, ``verdict``,
            ``steps``, ``seconds`` and, if wanted, ``title``.
        settings: the ``report`` section of the configuration; missing keys take their default.
        product: the warped image, if it is to be shown too.
        facts: short lines under the title: name and value.
        provenance: titles and texts to fold out.
    """
    scene = _scene(
        pair.fixed, assessment.moved, assessment.displacement, assessment.determinant, settings or {}
    )
    story = Story(
        sample,
        assessment.verdict.status,
        assessment.verdict.reason,
        stages,
        assessment.quality,
        facts,
        provenance,
    )
    shown = None if product is None else on_grid(product.channel, product.grid, pair.fixed.grid)
    write_page(page, sample_page(story, scene, shown))


def report_cohort(
    page: str | Path,
    *,
    tables: Mapping[str, str | Path],
    assessed: Sequence[str | Path],
    pages: Mapping[str, str | Path],
    images: Mapping[str, str | Path],
    provenance: str | Path | None = None,
    configuration: str | Path | None = None,
    catalog: Catalog = VOLUMES,
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
        catalog: of the figures that were measured.
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
    write_page(page, cohort_page(rows, structures, stages, links, thumbnails, told, catalog))


def on_grid(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Return a volume on a target grid; as it is where the two match."""
    return values if source.matches(target) else resample_array(values, source, target)


def _scene(
    fixed: Image,
    moved: Mapping[str, NDArray[np.float32]],
    displacement: NDArray[np.float32],
    determinant: NDArray[np.float32],
    settings: Mapping[str, Any],
) -> pictures.Scene:
    settings = {**{key: schema["default"] for key, schema in OPTIONS.items()}, **settings}
    return pictures.make_scene(
        fixed,
        moved,
        displacement,
        determinant,
        slices=settings["slices"],
        neurological=settings["orientation"] == "neurological",
    )


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


def _facts(
    manifests: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    fixed, moving = manifests
    facts = [("onto", fixed["name"])]
    facts += [(key, moving[key]) for key in ("modality", "group", "session") if moving.get(key)]
    if moving["grid"] is not None:
        grid = Grid.from_dict(moving["grid"])
        facts.append(("size", " x ".join(map(str, grid.size))))
        facts.append(("spacing", " x ".join(f"{step:.3g}" for step in grid.spacing) + " mm"))
    total = sum(part["seconds"] for part in clock(stages))
    return [*facts, *source_fact(transform_source(stages)), *([("time", duration(total))] if total else [])]


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
