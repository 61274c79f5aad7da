"""Working scenes: what steers a registration, never what it produces.

A working scene is a recipe, not a copy: which bands of which file, averaged to which spacing, in
which representation. Windows of it are made when they are read; only a small overview is written.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regflow.cohort.rasters.samples import LANDMARKS, Scene
from regflow.core.errors import InputError
from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.io.ground_control import locate_ground_control, read_ground_control
from regflow.io.object_store import find_copy
from regflow.io.raster_header import RasterHeader
from regflow.io.rasters import read_raster_header
from regflow.io.scenes import SceneView
from regflow.methods.representation import METHODS
from regflow.stages.landmarks import write_landmark_pairs
from regflow.stages.rasters.ingest import find_scene, read_manifest
from regflow.stages.rasters.views import describe_working_view, measure_spacing
from regflow.stages.rasters.working import WorkingScene, read_overview, read_scene, write_working
from regflow.stages.shell import Outcome, make_outcome, record_step, run_stage_work

CLEAR_RATIO = 1.5
"""A scene finer by less keeps its pixels: averaging 1.2 of them only blurs."""


def prepare_scene(
    scene: Scene,
    settings: Mapping[str, Any],
    *,
    reference: tuple[WorkingScene, Image] | None = None,
    header: RasterHeader | None = None,
) -> tuple[WorkingScene, Image, list[dict[str, Any]]]:
    """Decide how a scene is read for registration, and read its overview.

    Args:
        scene: the file and how it is to be read.
        settings: the ``preprocess`` section of the configuration, complete.
        reference: the fixed working scene and its overview, for a moving scene.
        header: of the scene's file, where it has been read.

    Returns:
        The working scene, its overview, and one record per step.

    Raises:
        InputError: the file does not hold what the sheet says, or no sample may steer.
    """
    steps: list[dict[str, Any]] = []
    found = header or read_raster_header(scene.image)
    fixed_grid = None if reference is None else reference[0].view.grid
    with record_step(steps, "view") as record:
        relief = {"height": settings["height"], "dem": settings["dem"]}
        matched = scene if reference is None else _of_the_fixed_name(scene, found, reference[0].view)
        view = describe_working_view(matched, found, settings["weights"], fixed_grid, **relief)
        working = _resolutions(view, settings, reference)
        record.update(spacing=working.spacing, coarse_spacing=working.coarse_spacing)
    with record_step(steps, "overview", representation=working.representation) as record:
        overview = working.load_overview()
        record["valid_share"] = _usable(scene, overview)
    return working, overview, steps


def preprocess(
    output: str | Path,
    *,
    sample: str,
    manifest: str | Path,
    settings: Mapping[str, Any],
    reference: str | Path | None = None,
) -> Outcome:
    """Make the working scene of one original: ``view.json``, ``overview.tif`` and ``stage.json``.

    Of a moving scene with landmarks also ``landmarks.json``, in the fixed scene's CRS.

    Args:
        output: the directory to make.
        sample: the sample's id, or the fixed scene's name.
        manifest: of this scene, written by ingest.
        settings: the ``preprocess`` section of the configuration.
        reference: this stage's directory of the fixed scene, for a moving scene.
    """

    def work(folder: Path) -> Outcome:
        described = read_manifest(manifest)
        scene = find_scene(described)
        fixed = None if reference is None else (read_scene(reference), read_overview(reference))
        working, overview, steps = prepare_scene(scene, settings, reference=fixed)
        write_working(folder, working, overview)
        if fixed is not None:
            points = described["paths"].get(LANDMARKS)
            write_landmark_pairs(folder, read_landmark_file(points, fixed[0], working))
        return make_outcome(Verdict("pass", "the working scene was made"), steps)

    return run_stage_work("preprocess", sample, output, [] if reference is None else [reference], work)


def read_landmark_file(path: str | None, fixed: WorkingScene, moving: WorkingScene) -> LandmarkPairs | None:
    """Read a sample's pairs of points, in the world of its registration; None without a file.

    Raises:
        InputError: the file cannot be read, or its points cannot be brought there.
    """
    if path is None:
        return None
    return locate_ground_control(read_ground_control(find_copy(path)), fixed.view, moving.view)


def _of_the_fixed_name(scene: Scene, header: RasterHeader, fixed: SceneView) -> Scene:
    """Return a moving scene with the fixed scene's band, where it names none and has one of that name."""
    names = [(band.name or "").casefold() for band in header.bands]
    if scene.bands or fixed.name is None or names.count(fixed.name.casefold()) != 1:
        return scene
    return replace(scene, bands=(fixed.name,))


def _resolutions(
    view: SceneView, settings: Mapping[str, Any], reference: tuple[WorkingScene, Image] | None
) -> WorkingScene:
    """Return the working scene at the spacings of the two stages: the pair's, and the overviews'."""
    own = measure_spacing(view.grid)
    both, coarse = [own], settings["spacing"] or 0.0
    if reference is not None:
        fixed, overview = reference
        both.append(fixed.spacing or measure_spacing(fixed.view.grid))
        coarse = measure_spacing(overview.grid)
    spacing = max(*both, settings["spacing"] or 0.0)
    # Whole pixels are averaged quickly, and without favoring any.
    shrink = math.ceil(max(view.grid.shape) / settings["overview"] - 1e-6)
    coarse = max(spacing, coarse, shrink * own)
    method = settings["representation"]["method"]
    options = METHODS[method].complete(settings["representation"]["options"].get(method, {}))
    return WorkingScene(
        view,
        spacing if spacing > CLEAR_RATIO * min(both) else None,
        coarse if coarse > CLEAR_RATIO * own else None,
        method,
        options,
    )


def _usable(scene: Scene, overview: Image) -> float:
    """Return the share of an overview's samples that may steer.

    Raises:
        InputError: none may, or all of them are equal.
    """
    assert overview.mask is not None
    share = float(overview.mask.mean())
    if not share:
        masked = " or masked" if scene.mask else ""
        raise InputError(f"{scene.image}: no pixel may steer: all are nodata{masked}; give another scene")
    values = overview.channel[overview.mask]
    if values.min() == values.max():
        raise InputError(
            f"{scene.image}: the bands to match on are constant ({values[0]:g}) where they are valid; "
            "name other bands or another scene"
        )
    return share
