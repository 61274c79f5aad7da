"""What a stage does with a pair of scenes in memory; see :mod:`regflow.pipeline.pair`."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.rasters.samples import FixedScene, Nodata, RasterSample, Scene
from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.transform import Transform
from regflow.pipeline.pair_steps import PairJob, PairSteps
from regflow.stages.rasters.working import WorkingScene

if TYPE_CHECKING:
    from regflow.core.chunks import Workers
    from regflow.methods.ladder import LadderResult
    from regflow.stages.checks import Findings
    from regflow.stages.rasters.assess import RegisteredScenes, SceneAssessment
    from regflow.stages.rasters.refine import SceneRefinement

PRODUCTS = (
    "warped.tif",
    "mask.tif",
    "companions",
    "classes",
    "inverse_fixed.tif",
    "displacement.tif",
    "field.tif",
    "transform.json",
    "tie_points.gpkg",
    "check_points.gpkg",
    "quality.json",
    "report.html",
)


@dataclass(frozen=True, eq=False)
class PreparedScenes:
    """Both scenes as they steer the registration.

    Attributes:
        working: how the fixed and the moving scene are read.
        overviews: of both, in memory.
        images: both at working resolution, lazy; the fixed one's as coarse as a coarser moving one's.
        landmarks: pairs of points in the fixed scene's CRS; None without any.
    """

    working: tuple[WorkingScene, WorkingScene]
    overviews: tuple[Image, Image]
    images: tuple[Image, Image]
    landmarks: LandmarkPairs | None = None


def _open_workers(settings: Mapping[str, Any], threads: int) -> AbstractContextManager["Workers"]:
    """Open who works on blocks of scenes."""
    from regflow.core import chunks

    return chunks.open_workers(settings["dask"], threads=threads)


def _examine(subject: FixedScene | RasterSample) -> "Findings":
    from regflow.stages.rasters import ingest

    return ingest.examine_scene(subject)


def _read(job: PairJob) -> tuple[Scene, Scene]:
    """Return how both scenes are read; windows of them are, when they are wanted."""
    return job.moving.fixed.scene, job.moving.scene


def _prepare(job: PairJob, originals: tuple[Scene, Scene]) -> PreparedScenes:
    """Make the working scenes."""
    from regflow.stages.rasters import preprocess

    settings = job.settings["preprocess"]
    with job.recorder.record_stage("preprocess", "fixed") as record:
        fixed, overview, record["steps"] = preprocess.prepare_scene(originals[0], settings)
    with job.recorder.record_stage("preprocess", "moving") as record:
        moving, other, record["steps"] = preprocess.prepare_scene(
            originals[1], settings, reference=(fixed, overview)
        )
    if job.inverse_image:
        _refuse_without_way_back(job.moving, fixed)
    images = fixed.match_spacing(moving).open(), moving.open()
    landmarks = preprocess.read_landmark_file(job.moving.landmarks, fixed, moving)
    return PreparedScenes((fixed, moving), (overview, other), images, landmarks)


def _initialize(job: PairJob, prepared: PreparedScenes) -> "LadderResult":
    from regflow.stages.rasters.initialize import align_scenes

    settings = job.settings["initialize"]
    return align_scenes(
        *prepared.overviews,
        settings,
        threads=job.threads,
        seed=job.settings["seed"],
        landmarks=prepared.landmarks,
    )


def _refine(job: PairJob, prepared: PreparedScenes, start: "LadderResult") -> "SceneRefinement":
    """Find what is left between the scenes."""
    from regflow.stages.rasters.refine import refine_scene

    return refine_scene(
        *prepared.images,
        start.transform,
        job.settings["refine"],
        workers=job.workers,
        threads=job.threads,
        seed=job.settings["seed"],
        landmarks=prepared.landmarks,
    )


def _join(
    job: PairJob,
    prepared: PreparedScenes,
    start: "LadderResult",
    refined: "SceneRefinement",
    verdicts: Mapping[str, Verdict],
) -> "RegisteredScenes":
    """Put together what is assessed: scenes, transforms, a known truth."""
    from regflow.stages.rasters.assess import RegisteredScenes

    truth = _read_truth(job.moving)
    return RegisteredScenes(*prepared.images, start.transform, refined.transform, truth, verdicts)


def _write_transforms(
    folder: Path, _job: PairJob, pair: "RegisteredScenes", refined: "SceneRefinement"
) -> list[Future[Any]]:
    """Write ``transform.json`` with its field, ``displacement.tif`` and ``tie_points.gpkg``."""
    from regflow.io.raster_transforms import write_raster_transform
    from regflow.stages.rasters.refine import write_tie_points

    write_raster_transform(folder, pair.refined, pair.fixed.grid)
    if refined.points is not None:
        write_tie_points(folder / "tie_points.gpkg", refined.points, pair.fixed.grid, pair.initial)
    return []


def _apply(
    folder: Path,
    job: PairJob,
    prepared: PreparedScenes,
    _pair: "RegisteredScenes",
    _stored: Sequence[Future[Any]],
) -> list[dict[str, Any]]:
    """Write what follows the correction: the scene, its mask, companions and classes."""
    from regflow.stages.rasters.apply import list_warp_inputs
    from regflow.stages.rasters.warping import warp_raster

    fixed, moving = (scene.view for scene in prepared.working)
    sample: RasterSample = job.moving
    steps: list[dict[str, Any]] = []
    for name, source in list_warp_inputs(
        sample.scene, moving.nodata, sample.companions, sample.classes, sample.stated
    ).items():
        warp_raster(
            source,
            folder / f"{name}.tif",
            fixed=fixed.grid,
            moving=moving,
            refined=folder,
            settings=job.settings["apply"],
            workers=job.workers,
        )
        steps.append({"name": name})
    if job.inverse_image:
        steps.append({"name": "inverse_fixed", **_carry_back(folder, job, fixed.nodata)})
    return steps


def _assess(folder: Path, job: PairJob, pair: "RegisteredScenes") -> "SceneAssessment":
    """Measure the result; write ``check_points.gpkg``."""
    from regflow.stages.rasters.assess import assess_scene, write_check_points

    found = assess_scene(
        pair,
        job.settings["assess"],
        threads=job.threads,
        seed=job.settings["seed"],
        workers=job.workers,
    )
    write_check_points(folder / "check_points.gpkg", found.points, pair.transforms)
    return found


def _report(
    folder: Path,
    job: PairJob,
    pair: "RegisteredScenes",
    assessment: "SceneAssessment",
    facts: Sequence[tuple[str, str]],
    provenance: Sequence[tuple[str, str]],
) -> None:
    from regflow.stages.rasters.report import report_scene

    ties = folder / "tie_points.gpkg"
    report_scene(
        folder / "report.html",
        sample=job.moving.sample,
        pair=pair,
        assessment=assessment,
        stages=job.recorder.stages,
        tie_points=ties if ties.exists() else None,
        settings=job.settings["report"],
        facts=facts,
        provenance=provenance,
    )


def _refuse_without_way_back(moving: RasterSample, fixed: WorkingScene) -> None:
    """Refuse a moving scene on whose pixels nothing can be brought, before anything is computed.

    Raises:
        InputError: its pixels are not on a map, or only one of the two scenes has a CRS.
    """
    from regflow.io.rasters import read_raster_header
    from regflow.pipeline.raster_warp import choose_target_grid

    choose_target_grid(read_raster_header(moving.moving), fixed.view.grid.crs, moving.fixed.image)


def _read_truth(moving: RasterSample) -> Transform | None:
    from regflow.io.raster_transforms import read_displacement

    return None if moving.truth is None else read_displacement(moving.truth)


def _carry_back(folder: Path, job: PairJob, nodata: Nodata) -> dict[str, float]:
    """Write the fixed scene over the moving one's footprint; return how far the inverse errs."""
    from regflow.pipeline.raster_warp import load_transform, warp_raster_file
    from regflow.stages.rasters.warping import WarpInput

    return warp_raster_file(
        load_transform(folder),
        WarpInput(job.moving.fixed.image, nodata=nodata),
        folder / "inverse_fixed.tif",
        reference=job.moving.moving,
        resampling=job.settings["apply"]["resampling"],
        inverse=True,
        threads=job.threads,
    )


STEPS = PairSteps(
    products=PRODUCTS,
    open_workers=_open_workers,
    examine=_examine,
    read=_read,
    prepare=_prepare,
    initialize=_initialize,
    refine=_refine,
    join=_join,
    write_transforms=_write_transforms,
    apply=_apply,
    assess=_assess,
    report=_report,
)
