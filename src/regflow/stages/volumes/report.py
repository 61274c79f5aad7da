"""The pages on volumes that people read: one per sample of a cohort, one per pair."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.resample import resample_array
from regflow.io.volumes import read_volume
from regflow.reporting.shared import drawing
from regflow.reporting.shared.story import PageStory
from regflow.reporting.volumes import pictures
from regflow.reporting.volumes.sample import render_sample_page
from regflow.stages.pages import SamplePage, report_sample, write_page
from regflow.stages.volumes.assess import (
    RegisteredVolumes,
    VolumeAssessment,
    read_registered_volumes,
    sample_deformation,
    warp_states,
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

    def draw(story: PageStory) -> tuple[str, Callable[[], drawing.Bytes]]:
        pair = read_registered_volumes(manifests, prepared, initial, refined)
        rendering = _render(
            pair.fixed,
            warp_states(pair),
            sample_deformation(pair),
            np.asarray(read_volume(Path(assessed) / "jacobian.nii.gz").channel, dtype=np.float32),
            settings,
        )
        warped = read_volume(Path(applied) / "warped.nii.gz")
        product = resample_if_needed(
            np.asarray(warped.channel, dtype=np.float32), warped.grid, pair.fixed.grid
        )
        return render_sample_page(story, rendering, product), partial(pictures.draw_contact_sheet, rendering)

    report_sample(
        page,
        SamplePage(
            ("modality", "group", "session"), _size, lambda story: render_sample_page(story, None), draw
        ),
        sample=sample,
        manifests=manifests,
        prepared=prepared,
        later=(initial, refined, applied, assessed),
        picture=picture,
        home=home,
    )


def report_pair(
    page: str | Path,
    *,
    sample: str,
    pair: RegisteredVolumes,
    assessment: VolumeAssessment,
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
    rendering = _render(
        pair.fixed, assessment.moved, assessment.displacement, assessment.determinant, settings or {}
    )
    story = PageStory(
        sample,
        assessment.verdict.status,
        assessment.verdict.reason,
        stages,
        assessment.quality,
        facts,
        provenance,
    )
    shown = None if product is None else resample_if_needed(product.channel, product.grid, pair.fixed.grid)
    write_page(page, render_sample_page(story, rendering, shown))


def resample_if_needed(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Return a volume on a target grid; as it is where the two match."""
    return values if source.matches(target) else resample_array(values, source, target)


def _render(
    fixed: Image,
    moved: Mapping[str, NDArray[np.float32]],
    displacement: NDArray[np.float32],
    determinant: NDArray[np.float32],
    settings: Mapping[str, Any],
) -> pictures.Rendering:
    settings = fill_defaults(OPTIONS, settings)
    return pictures.make_rendering(
        fixed,
        moved,
        displacement,
        determinant,
        slices=settings["slices"],
        neurological=settings["orientation"] == "neurological",
    )


def _size(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if manifest["grid"] is not None:
        grid = Grid.from_dict(manifest["grid"])
        yield "size", " x ".join(map(str, grid.size))
        yield "spacing", " x ".join(f"{step:.3g}" for step in grid.spacing) + " mm"
