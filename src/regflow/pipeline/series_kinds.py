"""What a series does with a kind of images; the one mechanism is :mod:`regflow.pipeline.series`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regflow.cohort.rasters.samples import Scene
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.pipeline.series_samples import SeriesSample
from regflow.pipeline.series_steps import SeriesJob


@dataclass(frozen=True)
class SeriesKind:
    """What differs between volumes and scenes.

    Attributes:
        prepare: make an image's working image in a folder, in the world of a reference image's folder.
        choose_hub: the name of the image that all others are linked to.
        register: measure the link between two images' folders, in a folder.
        find_grid: of the aligned images, of the reference image, its folder and its map to the common world.
        apply: write an aligned image and its transform (from common to image points) in a folder.
        draw: read an aligned image for a picture, with what is valid of it.
        image_file: name of an aligned image's file.
    """

    prepare: Callable[[SeriesJob, SeriesSample, Path, Path | None], None]
    choose_hub: Callable[[SeriesJob, Sequence[str]], str]
    register: Callable[[SeriesJob, Path, tuple[Path, Path]], None]
    find_grid: Callable[[SeriesSample, Path, Affine], Grid]
    apply: Callable[[SeriesJob, SeriesSample, Path, Grid, Affine], None]
    draw: Callable[[Path], Image]
    image_file: str


def find_series_kind_steps(kind: str) -> SeriesKind:
    """Return what a series does with ``volumes`` or ``rasters``."""
    return _KINDS[kind]


def _prepare_scene(job: SeriesJob, sample: SeriesSample, folder: Path, reference: Path | None) -> None:
    from regflow.stages.rasters.series_links import prepare_series_scene

    prepare_series_scene(folder, _make_scene(sample), job.settings["preprocess"], reference)


def _choose_clearest(job: SeriesJob, names: Sequence[str]) -> str:
    """Return the scene with most valid samples, the first of equal ones."""
    from regflow.stages.rasters.working import read_overview

    def count(name: str) -> int:
        overview = read_overview(job.find_image_folder(name))
        return int(overview.data.size if overview.mask is None else overview.mask.sum())

    return max(names, key=count)


def _register_scenes(job: SeriesJob, folder: Path, pair: tuple[Path, Path]) -> None:
    from regflow.core.chunks import open_workers
    from regflow.stages.rasters.series_links import register_series_scenes

    with open_workers(job.settings["dask"], threads=job.threads) as workers:
        register_series_scenes(
            folder,
            scenes=pair,
            model=job.options["model"],
            settings=job.settings,
            workers=workers,
            threads=job.threads,
        )


def _find_scene_grid(_sample: SeriesSample, folder: Path, _pose: Affine) -> Grid:
    """Return the reference's own pixels: what aligned dates are laid beside lies on them."""
    from regflow.stages.rasters.working import read_scene

    return read_scene(folder).view.grid


def _apply_scene(job: SeriesJob, sample: SeriesSample, folder: Path, grid: Grid, pull: Affine) -> None:
    """Write the scene and its mask, each resampled once from its file."""
    from regflow.core.chunks import open_workers
    from regflow.io.raster_transforms import write_raster_transform
    from regflow.stages.rasters.apply import list_warp_inputs
    from regflow.stages.rasters.warping import warp_raster
    from regflow.stages.rasters.working import read_scene

    view = read_scene(job.find_image_folder(sample.name)).view
    write_raster_transform(folder, pull, grid)
    sources = list_warp_inputs(_make_scene(sample), view.nodata, {}, {}, {})
    with open_workers(job.settings["dask"], threads=job.threads) as workers:
        for name, source in sources.items():
            warp_raster(
                source,
                folder / f"{name}.tif",
                fixed=grid,
                moving=view,
                refined=folder,
                settings={**job.settings["apply"], "resolution": "reference"},
                workers=workers,
            )


def _draw_scene(path: Path) -> Image:
    from regflow.core.blocks import decimate_data, load_block
    from regflow.io.raster_header import RasterHeader
    from regflow.io.rasters import read_raster_header
    from regflow.io.scenes import describe_view, open_view

    header: RasterHeader = read_raster_header(path)
    image = open_view(describe_view(header, bands=(header.bands[0].number,)))
    across = max(image.grid.shape)
    if across > _PICTURE_PX:
        image = decimate_data(image, float(image.grid.spacing.max()) * across / _PICTURE_PX)
    return load_block(image)


def _make_scene(sample: SeriesSample) -> Scene:
    how = sample.reading
    return Scene(
        sample.image,
        bands=how.bands,
        nodata=how.nodata,
        mask=sample.mask,
        quality=how.quality,
        date=sample.date,
    )


def _prepare_volume(job: SeriesJob, sample: SeriesSample, folder: Path, _reference: Path | None) -> None:
    from regflow.stages.volumes.template_images import prepare_template_image

    prepare_template_image(
        folder,
        files=sample.list_files(),
        channels={},
        settings=job.settings["preprocess"],
        threads=job.threads,
    )


def _choose_middle(_job: SeriesJob, names: Sequence[str]) -> str:
    """Return the session in the middle of the series."""
    return names[(len(names) - 1) // 2]


def _register_volumes(job: SeriesJob, folder: Path, pair: tuple[Path, Path]) -> None:
    from regflow.stages.volumes.series_links import register_series_volumes

    register_series_volumes(
        folder, images=pair, model=job.options["model"], settings=job.settings, threads=job.threads
    )


def _find_volume_grid(sample: SeriesSample, _folder: Path, pose: Affine) -> Grid:
    """Return the reference's samples, moved along with what they show."""
    from regflow.io.volumes import read_header

    grid = read_header(sample.image).grid
    shift = Affine.from_parts(np.eye(grid.ndim), pose.apply(grid.center[None])[0] - grid.center)
    return Grid(grid.shape, shift.matrix @ grid.affine, grid.crs)


def _apply_volume(job: SeriesJob, sample: SeriesSample, folder: Path, grid: Grid, pull: Affine) -> None:
    """Write the volume, resampled once from its file, and its transform."""
    from regflow.io.transforms import write_transform
    from regflow.io.volumes import read_volume, write_volume
    from regflow.stages.volumes.apply import warp_image

    options: Mapping[str, Any] = job.settings["apply"]
    write_transform(folder / "transform.h5", pull)
    write_transform(folder / "inverse.h5", pull.inverse())
    image = read_volume(sample.image)
    warped = warp_image(image, grid, pull, options["interpolation"], options["outside"])
    write_volume(folder / "warped.nii.gz", warped.channel, grid)


def _draw_volume(path: Path) -> Image:
    """Return the middle slice."""
    from regflow.io.volumes import read_volume

    image = read_volume(path)
    middle = np.asarray(image.channel[image.grid.shape[0] // 2][::-1], np.float32)
    return Image(middle[None], Grid(middle.shape, np.eye(3)))


_PICTURE_PX = 480
_KINDS: Mapping[str, SeriesKind] = {
    "rasters": SeriesKind(
        _prepare_scene,
        _choose_clearest,
        _register_scenes,
        _find_scene_grid,
        _apply_scene,
        _draw_scene,
        "warped.tif",
    ),
    "volumes": SeriesKind(
        _prepare_volume,
        _choose_middle,
        _register_volumes,
        _find_volume_grid,
        _apply_volume,
        _draw_volume,
        "warped.nii.gz",
    ),
}
