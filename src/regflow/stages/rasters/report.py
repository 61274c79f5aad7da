"""The pages on scenes: one per sample of a cohort, one per pair, one for a change map alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import read_json
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.transform import Affine, Transform
from regflow.core.warp import PixelMap
from regflow.reporting.rasters.page import ChangePageData, ScenePageData, render_scene_page
from regflow.reporting.rasters.pictures import MeasuredPoints, draw_contact_sheet
from regflow.reporting.rasters.views import (
    DetailWindow,
    choose_windows,
    list_maps,
    move_window,
    place_box,
    read_layers,
    read_overview,
)
from regflow.reporting.shared.story import PageStory

if TYPE_CHECKING:
    from regflow.methods.detect.scene_pair import DatedScenePair as DatedPair
    from regflow.reporting.shared.drawing import Bytes
    from regflow.stages.rasters.assess import RegisteredScenes, SceneAssessment

OPTIONS: dict[str, dict[str, Any]] = {
    "changes": {
        "type": "integer",
        "minimum": 0,
        "maximum": 12,
        "description": "windows at full resolution on the largest changes",
        "default": 3,
    },
}

Titled = tuple[str, str]


@dataclass(frozen=True, eq=False)
class PointMeasurements:
    """What was measured at points, as the page draws it.

    Attributes:
        ties: at the tie points, or None.
        checks: by state, at the check points.
    """

    ties: MeasuredPoints | None
    checks: Mapping[str, MeasuredPoints]


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
    detected: str | Path | None = None,
    picture: str | Path | None = None,
    home: str | None = "index.html",
) -> None:
    """Write the page of one sample of a cohort, also of one that failed.

    Args:
        page: the ``.html`` file to write.
        sample: its id.
        manifests: of the fixed and the moving scene, written by ingest.
        prepared: directories of the fixed and the moving scene, written by preprocess.
        initial: directory written by initialize.
        refined: directory written by refine.
        applied: directory written by apply.
        assessed: directory written by assess.
        settings: the ``report`` section of the configuration; missing keys take their default.
        detected: directory written by detect, if change was looked for.
        picture: a ``.png`` to write beside: both scenes as checkerboards.
        home: link from the page to the cohort's page.
    """
    from regflow.stages.pages import SamplePage, report_sample
    from regflow.stages.rasters.assess import read_registered_scenes

    def draw(story: PageStory) -> "tuple[str, Callable[[], Bytes]]":
        pair = read_registered_scenes(manifests[1], (str(prepared[0]), str(prepared[1])), initial, refined)
        measured = read_measured(Path(refined) / "tie_points.gpkg", Path(assessed) / "check_points.gpkg")
        change = _change_of(detected)
        view = read_page_data(pair, measured, story.quality, change, _changes_shown(settings))
        return render_scene_page(story, view, change), lambda: draw_contact_sheet(view.windows[:3])

    report_sample(
        page,
        SamplePage(("date", "sensor", "group"), _size, lambda story: render_scene_page(story, None), draw),
        sample=sample,
        manifests=manifests,
        prepared=prepared,
        later=(initial, refined, applied, assessed, *([detected] if detected else [])),
        picture=picture,
        home=home,
    )


def report_scene(
    page: str | Path,
    *,
    sample: str,
    pair: "RegisteredScenes",
    assessment: "SceneAssessment",
    stages: Sequence[Mapping[str, Any]],
    tie_points: str | Path | None = None,
    detected: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Sequence[Titled] = (),
    provenance: Sequence[Titled] = (),
) -> None:
    """Write the page of one pair of scenes from what is in memory.

    Args:
        page: the ``.html`` file to write.
        sample: a name for the pair.
        pair: what was assessed.
        assessment: what came of it.
        stages: what each stage's ``stage.json`` would hold: ``stage``, ``state``, ``verdict``,
            ``steps``, ``seconds`` and, if wanted, ``title``.
        tie_points: the GeoPackage of the refine stage, if its method has them.
        detected: directory with the change maps, if change was looked for.
        settings: the ``report`` section of the configuration; missing keys take their default.
        facts: short lines under the title: name and value.
        provenance: titles and texts to fold out.
    """
    from regflow.stages.pages import write_page

    ties = None if tie_points is None else _tie_points(Path(tie_points))
    measured = PointMeasurements(ties, _checks(pair, assessment))
    change = _change_of(detected)
    view = read_page_data(pair, measured, assessment.quality, change, _changes_shown(settings))
    story = PageStory(
        sample,
        assessment.verdict.status,
        assessment.verdict.reason,
        stages,
        assessment.quality,
        facts,
        provenance,
    )
    write_page(page, render_scene_page(story, view, change))


def report_change(
    page: str | Path,
    *,
    pair: "DatedPair",
    detected: str | Path,
    stages: Sequence[Mapping[str, Any]] = (),
    settings: Mapping[str, Any] | None = None,
    provenance: Sequence[Titled] = (),
) -> None:
    """Write the page of a change map of two aligned scenes.

    Args:
        page: the ``.html`` file to write.
        pair: the scenes that were compared; the first band of each is shown.
        detected: directory with the change maps.
        stages: what ``stage.json`` of the detection would hold.
        settings: the ``report`` section of the configuration; missing keys take their default.
        provenance: titles and texts to fold out.
    """
    from regflow.stages.pages import write_page

    change = _change_of(detected)
    assert change is not None
    before, after = pair.before, pair.after
    overview = read_overview(before)
    moved = read_overview(after).image
    known = np.ones(moved.grid.shape, bool) if moved.mask is None else moved.mask
    windows = read_change_windows(
        change,
        before,
        after,
        {"refine": Affine.identity(2)},
        _changes_shown(settings),
    )
    view = ScenePageData(overview, np.where(known, moved.channel, np.nan).astype(np.float32), windows)
    record = change.record
    names = [record[key]["name"] for key in ("before", "after")]
    facts = [(f"{key} date", record[key]["date"]) for key in ("before", "after") if record[key]["date"]]
    verdict = record["verdict"]
    story = PageStory(" to ".join(names), verdict["status"], verdict["reason"], stages, {}, facts, provenance)
    write_page(page, render_scene_page(story, view, change))


def read_page_data(
    pair: "RegisteredScenes",
    measured: PointMeasurements,
    quality: Mapping[str, Any],
    change: ChangePageData | None = None,
    changes: int = 3,
) -> ScenePageData:
    """Read what the page of a registration draws.

    Args:
        pair: the scenes and transforms.
        measured: at tie points and check points.
        quality: content of ``quality.json``.
        change: the change map, if there is one.
        changes: windows on the largest changes.
    """
    overview = read_overview(pair.fixed)
    small = read_overview(pair.moving)
    rows, cols = (slice(0, size) for size in overview.image.grid.shape)
    mapped = PixelMap.from_grids(overview.image.grid, small.image.grid, pair.refined)
    moved = move_window(small.image, mapped, rows, cols)
    end = measured.checks.get("refine")
    places = end.places[end.used] if end else np.empty((0, 2))
    left = np.hypot(*end.vectors_px[end.used].T) if end else np.empty(0)
    windows = choose_windows(pair.fixed, pair.moving, pair.transforms, places, left)
    if change is not None:
        windows += read_change_windows(change, pair.fixed, pair.moving, pair.transforms, changes)
    figures = quality["figures"]
    rings = {state: figures.get(f"ce90_px_{state}") or 0.0 for state in measured.checks}
    return ScenePageData(overview, moved, windows, measured.ties, measured.checks, rings)


def read_change_windows(
    change: ChangePageData, fixed: Image, moving: Image, transforms: Mapping[str, Transform], count: int
) -> list[DetailWindow]:
    """Return windows at full resolution on the largest changes."""
    found = []
    maps = list_maps(fixed, moving, transforms)
    for number, k in enumerate(change.size_order[:count], start=1):
        middle = change.outlines[k].representative_point()
        box = place_box(fixed.grid.shape, fixed.grid.to_index([middle.x, middle.y]))
        found.append(DetailWindow(f"Change {number}", *box, read_layers(fixed, moving, maps, *box)))
    return found


def read_measured(tie_points: Path, check_points: Path) -> PointMeasurements:
    """Read tie points and check points as the stages wrote them."""
    from regflow.io.vectors import read_points

    columns, places = read_points(check_points, layer="check_points")
    used = ~columns["outlier"].astype(bool)
    checks = {
        state: MeasuredPoints(
            places,
            np.stack([columns[f"residual_x_px_{state}"], columns[f"residual_y_px_{state}"]], axis=1),
            used,
        )
        for state in ("initialize", "refine")
    }
    return PointMeasurements(_tie_points(tie_points) if tie_points.is_file() else None, checks)


def _tie_points(path: Path) -> MeasuredPoints:
    from regflow.io.vectors import read_points

    columns, places = read_points(path, layer="tie_points")
    vectors = np.stack([columns["x_shift_px"], columns["y_shift_px"]], axis=1).astype(np.float64)
    return MeasuredPoints(places, vectors, ~columns["outlier"].astype(bool))


def _checks(pair: "RegisteredScenes", assessment: "SceneAssessment") -> dict[str, MeasuredPoints]:
    points = assessment.points
    return {
        state: MeasuredPoints(
            points.points, points.compute_residuals_px(pair.transforms[state]), points.is_used
        )
        for state in ("initialize", "refine")
    }


def _change_of(folder: str | Path | None) -> ChangePageData | None:
    """Read a change map; None where the stage made none."""
    if folder is None or not (Path(folder) / "detect.json").is_file():
        return None
    import pyogrio
    import shapely

    from regflow.io.scenes import open_scene

    folder = Path(folder)
    magnitude = read_overview(open_scene(folder / "magnitude.tif"))
    meta, _, geometry, values = pyogrio.raw.read(str(folder / "changes.gpkg"))
    assert magnitude.image.mask is not None
    return ChangePageData(
        record=read_json(folder / "detect.json"),
        overview=magnitude,
        shares=_shares(open_scene(folder / "change.tif"), magnitude.image),
        magnitude=np.asarray(magnitude.image.channel),
        valid=magnitude.image.mask,
        columns=dict(zip(meta["fields"], values, strict=True)),
        outlines=list(shapely.from_wkb(geometry)),
    )


def _shares(classes: Image, overview: Image) -> dict[str, NDArray[np.float32]]:
    """Return which share of the pixels in each of the overview's is changed, and which explained."""
    from regflow.core.blocks import read_block
    from regflow.core.decimation import average_blocks
    from regflow.methods.detect.maps import CHANGED, EXPLAINED

    rows, cols = overview.grid.shape
    across, down = (float(part) for part in overview.grid.spacing / classes.grid.spacing)
    found = {name: np.zeros((rows, cols), np.float32) for name in ("changed", "explained")}
    height, width = classes.grid.shape
    for row in range(rows):
        top, bottom = int(row * down), min(int(np.ceil((row + 1) * down)), height)
        block = read_block(classes, slice(top, bottom), slice(0, width))
        for name, kind in (("changed", CHANGED), ("explained", EXPLAINED)):
            part = (block.values == kind).astype(np.float32)
            every = np.ones(block.valid.shape, bool)
            values, _ = average_blocks(part, every, ((row, top), (0, 0)), (1, cols), (down, across))
            found[name][row] = values[0, 0]
    return found


def _size(manifest: Mapping[str, Any]) -> Iterator[Titled]:
    if manifest.get("shape"):
        rows, cols = manifest["shape"]
        yield "size", f"{cols} x {rows} px"


def _changes_shown(settings: Mapping[str, Any] | None) -> int:
    """Return how many changes a page shows from nearby."""
    return int(fill_defaults(OPTIONS, settings or {})["changes"])
