"""One pair of scenes, from files to aligned scene, correction, tie points, figures and report.

The chain behind ``regflow register`` for rasters: the stages' own functions, as the workflow calls
them, without Snakemake and without intermediate files.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.rasters.samples import Nodata, RasterSample
from regflow.config.loading import load_config
from regflow.config.presets import load_preset, merge_settings
from regflow.core.files import write_json, write_whole_directory
from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.processor import describe_processor, read_processor
from regflow.core.progress import StageListener, ignore_events
from regflow.core.threads import count_cores
from regflow.core.transform import Transform
from regflow.provenance.run_record import (
    PairRecord,
    RunRecorder,
    explain_full_disk,
    refuse_unfit,
    require_writable,
)
from regflow.stages.rasters.working import WorkingScene
from regflow.stages.shell import find_transform_source

if TYPE_CHECKING:
    from regflow.core.chunks import Workers
    from regflow.stages.rasters.assess import RegisteredScenes
    from regflow.stages.rasters.refine import SceneRefinement

_Prepared = tuple[WorkingScene, Image]
"""A working scene and its overview."""

log = logging.getLogger(__name__)

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
"""What the folder of a pair may hold; a folder that holds anything else is not written over."""


@dataclass(frozen=True, eq=False)
class _Job:
    """What all steps of one pair share."""

    moving: RasterSample
    settings: Mapping[str, Any]
    journal: RunRecorder
    inverse_image: bool
    threads: int
    workers: "Workers"


def register_scenes(
    moving: RasterSample,
    output: str | Path,
    *,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    inverse_image: bool = False,
    threads: int | None = None,
    progress: StageListener = ignore_events,
) -> PairRecord:
    """Bring a moving scene onto its fixed one and write the result into a folder, whole or not at all.

    Args:
        moving: the moving scene, and the fixed one it goes to.
        output: the folder to make; one that holds an earlier result is replaced.
        preset: ``default`` or another of the rasters' :data:`regflow.config.presets.PRESETS`.
        config: sections of the configuration that replace the preset's, key by key.
        inverse_image: also write ``inverse_fixed.tif``, the fixed scene over the moving one's footprint.
        threads: most threads to use, all cores when None; no byte of the products but the seconds
            in ``quality.json`` and ``report.html`` depends on it.
        progress: is told when a stage begins and when it ends.

    Raises:
        InputError: a file, the folder, the preset or a key of ``config`` is wrong.
        RegistrationError: no method gave a usable transform.
    """
    from regflow.core.chunks import open_workers
    from regflow.stages.rasters.ingest import examine_scene

    target = require_writable(Path(output), PRODUCTS)
    chosen = merge_settings(load_preset(preset, "rasters"), config or {})
    settings = load_config({"kind": "rasters", "samples": moving.moving, **chosen})
    journal = RunRecorder(moving.sample, progress)
    count = threads or count_cores()
    with (
        ThreadPoolExecutor(max(2, count)) as pool,
        open_workers(settings["dask"], threads=count) as workers,
    ):
        job = _Job(moving, settings, journal, inverse_image, count, workers)
        with journal.stage("ingest"):
            refuse_unfit(pool.map(examine_scene, (moving.fixed, moving)))
        scenes = _prepare(job)
        if inverse_image:
            _refuse_without_way_back(moving, scenes[0][0])
        pair, refined = _align(job, scenes)
        with write_whole_directory(target) as folder, explain_full_disk(folder):
            _write_correction(folder, pair, refined)
            applying = pool.submit(_apply, folder, job, scenes)
            quality, verdict, seconds = _assess(folder, job, pair, refined, applying)
    return PairRecord(target, pair.refined, verdict, quality, seconds)


def _prepare(job: _Job) -> tuple[_Prepared, _Prepared]:
    """Return the fixed and the moving working scene, each with its overview."""
    from regflow.stages.rasters.preprocess import prepare_scene

    settings = job.settings["preprocess"]
    with job.journal.stage("preprocess", "fixed") as record:
        fixed, overview, record["steps"] = prepare_scene(job.moving.fixed.scene, settings)
    with job.journal.stage("preprocess", "moving") as record:
        moving, image, record["steps"] = prepare_scene(
            job.moving.scene, settings, reference=(fixed, overview)
        )
    return (fixed, overview), (moving, image)


def _refuse_without_way_back(moving: RasterSample, fixed: WorkingScene) -> None:
    """Refuse a moving scene on whose pixels nothing can be brought, before anything is computed.

    Raises:
        InputError: its pixels are not on a map, or only one of the two scenes has a CRS.
    """
    from regflow.io.rasters import read_raster_header
    from regflow.pipeline.raster_warp import choose_target_grid

    choose_target_grid(read_raster_header(moving.moving), fixed.view.grid.crs, moving.fixed.image)


def _align(job: _Job, scenes: tuple[_Prepared, _Prepared]) -> tuple["RegisteredScenes", "SceneRefinement"]:
    """Initialize and refine; return what was found between the scenes, ready to be assessed."""
    from regflow.stages.rasters.assess import RegisteredScenes
    from regflow.stages.rasters.initialize import align_scenes
    from regflow.stages.rasters.refine import refine_scene

    (fixed, fixed_overview), (moving, moving_overview) = scenes
    shared: dict[str, Any] = {"threads": job.threads, "seed": job.settings["seed"]}
    with job.journal.stage("initialize") as record:
        start = align_scenes(fixed_overview, moving_overview, job.settings["initialize"], **shared)
        record.update(verdict=start.verdict.to_dict(), steps=start.steps, details=start.details)
    images = fixed.matched(moving).open(), moving.open()
    with job.journal.stage("refine") as record:
        refined = refine_scene(
            *images, start.transform, job.settings["refine"], workers=job.workers, **shared
        )
        ladder = refined.ladder
        record.update(verdict=ladder.verdict.to_dict(), steps=ladder.steps, details=ladder.details)
    verdicts = {"initialize": start.verdict, "refine": ladder.verdict}
    truth = _truth(job.moving)
    return RegisteredScenes(*images, start.transform, refined.transform, truth, verdicts), refined


def _truth(moving: RasterSample) -> Transform | None:
    from regflow.io.raster_transforms import read_displacement

    return None if moving.truth is None else read_displacement(moving.truth)


def _write_correction(folder: Path, pair: "RegisteredScenes", refined: "SceneRefinement") -> None:
    """Write ``transform.json`` with its field, ``displacement.tif`` and ``tie_points.gpkg``."""
    from regflow.io.raster_transforms import write_raster_transform
    from regflow.stages.rasters.refine import write_tie_points

    write_raster_transform(folder, pair.refined, pair.fixed.grid)
    if refined.points is not None:
        write_tie_points(folder / "tie_points.gpkg", refined.points, pair.fixed.grid, pair.initial)


def _apply(folder: Path, job: _Job, scenes: tuple[_Prepared, _Prepared]) -> None:
    """Write what follows the correction: the scene, its mask, companions and classes."""
    from regflow.stages.rasters.warping import WarpInput, warp_raster

    fixed, moving = (scene.view for scene, _ in scenes)
    scene = job.moving.scene
    files = {"warped": WarpInput(scene.image, nodata=moving.nodata, scaling=scene.scaling)}
    if scene.mask is not None:
        files["mask"] = WarpInput(scene.mask, classes=True)
    files |= {f"companions/{name}": WarpInput(path) for name, path in job.moving.companions.items()}
    files |= {f"classes/{name}": WarpInput(path, True) for name, path in job.moving.classes.items()}
    with job.journal.stage("apply") as record:
        for name, source in files.items():
            warp_raster(
                source,
                folder / f"{name}.tif",
                fixed=fixed.grid,
                moving=moving,
                refined=folder,
                settings=job.settings["apply"],
                workers=job.workers,
            )
            record["steps"].append({"name": name})
        if job.inverse_image:
            record["steps"].append({"name": "inverse_fixed", **_carry_back(folder, job, fixed.nodata)})


def _carry_back(folder: Path, job: _Job, nodata: Nodata) -> dict[str, float]:
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


def _assess(
    folder: Path, job: _Job, pair: "RegisteredScenes", refined: "SceneRefinement", applying: Future[None]
) -> tuple[dict[str, Any], Verdict, dict[str, float]]:
    """Measure while the products are written; then write figures and page."""
    from regflow.reporting.shared.story import describe_source
    from regflow.stages.rasters.assess import assess_scene, write_check_points
    from regflow.stages.rasters.report import report_scene

    journal = job.journal
    with journal.stage("assess") as record:
        found = assess_scene(
            pair,
            job.settings["assess"],
            threads=job.threads,
            seed=job.settings["seed"],
            workers=job.workers,
        )
        write_check_points(folder / "check_points.gpkg", found.points, pair.transforms)
        record.update(verdict=found.verdict.to_dict(), steps=found.steps)
    fixed, moving = job.moving.fixed.image, job.moving.moving
    ties = folder / "tie_points.gpkg"
    source = find_transform_source(journal.stages)
    with journal.stage("report"):
        report_scene(
            folder / "report.html",
            sample=job.moving.sample,
            pair=pair,
            assessment=found,
            stages=journal.stages,
            tie_points=ties if ties.exists() else None,
            settings=job.settings["report"],
            facts=[("onto", Path(fixed).name), *describe_source(source)],
            provenance=[
                ("Input files", f"fixed   {fixed}\nmoving  {moving}"),
                ("Processor", describe_processor()),
            ],
        )
    applying.result()
    seconds = journal.seconds()
    made = {"sample": job.moving.sample, "seconds": seconds, "processor": read_processor()}
    content = {**made, "transform_from": source, **found.quality}
    write_json(folder / "quality.json", content)
    return content, found.verdict, seconds
