"""The pages that people read: one per sample, one for the cohort."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import read_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.resample import resample_array
from regflow.io.volumes import read_volume
from regflow.reporting.shared import drawing
from regflow.reporting.shared.story import Story, clock, duration, source_fact
from regflow.reporting.volumes import pictures
from regflow.reporting.volumes.sample import sample_page
from regflow.stages.pages import ingested, sources_told, write_page, write_picture
from regflow.stages.shell import transform_source
from regflow.stages.volumes.assess import (
    Assessment,
    Pair,
    deformation,
    moved_images,
    read_pair,
    stage_records,
)

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
        write_picture(picture, drawing.word_sheet(f"{sample}: {verdict['reason']}"))
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
    settings = fill_defaults(OPTIONS, settings)
    return pictures.make_scene(
        fixed,
        moved,
        displacement,
        determinant,
        slices=settings["slices"],
        neurological=settings["orientation"] == "neurological",
    )


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
