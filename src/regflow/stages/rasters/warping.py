"""A raster brought onto the fixed scene's grid: one interpolation, from the original pixels.

Window by window, by the composed transform: the correction that was found, then the change of CRS or
the sensor model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.addresses import redact_address
from regflow.core.files import compute_sha256
from regflow.core.grid import Grid
from regflow.core.json_schema import fill_defaults
from regflow.core.transform import Transform, compose_transforms

if TYPE_CHECKING:
    from regflow.core.chunks import Workers
    from regflow.core.warp import PixelMap
    from regflow.io.cog import CogProfile
    from regflow.io.raster_header import BandHeader, Nodata, RasterHeader
    from regflow.io.scenes import SceneView

OPTIONS: dict[str, dict[str, Any]] = {
    "resampling": {
        "enum": ["nearest", "bilinear", "cubic", "lanczos"],
        "description": "of the moving scene and its companions; classes and masks take the nearest pixel",
        "default": "cubic",
    },
    "resolution": {
        "enum": ["own", "reference"],
        "description": "own: each file keeps its pixel size, on pixels nested in the reference's where the "
        "sizes are multiples; reference: all take the reference's grid",
        "default": "own",
    },
    "nodata": {
        "type": ["number", "null"],
        "description": "value where the moving scene has no pixel, of files that declare none; null takes "
        "not-a-number for floats, and an internal mask for integers, all of whose values may be in use",
        "default": None,
    },
    "compression": {
        "enum": ["deflate", "zstd", "none"],
        "description": "of the GeoTIFFs; zstd is a fifth smaller but not read by every tool",
        "default": "deflate",
    },
}

NESTED_TOLERANCE = 0.02
"""Pixel sizes whose ratio is this near to a whole number (or its inverse) count as multiples."""


_LEAST_CHUNK = 64


@dataclass(frozen=True)
class WarpInput:
    """A raster to bring onto the fixed scene's grid.

    Attributes:
        path: the file.
        classes: whether its values are classes, which are never blended.
        nodata: see :data:`~regflow.io.rasters.Nodata`.
        scaling: scale and offset of each band as a catalog states them, for files that declare none.
    """

    path: str
    classes: bool = False
    nodata: "Nodata" = "file"
    scaling: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", redact_address(self.path))


def warp_raster(
    source: WarpInput,
    output: str | Path,
    *,
    fixed: Grid,
    moving: "SceneView",
    refined: str | Path,
    settings: Mapping[str, Any],
    workers: "Workers",
    tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Bring all bands of a raster onto the fixed scene's grid and write them as a COG.

    Args:
        source: the raster; the moving scene's file or another of the same acquisition.
        output: the COG to write, whole or not at all.
        fixed: grid of the fixed scene's pixels.
        moving: how the moving scene was read for registration; its grid's world is the transform's.
        refined: directory with the transform from fixed to moving points.
        settings: the ``apply`` section of the configuration; missing keys take their default.
        workers: who does the work; no bit of the result depends on them.
        tags: to add to those of the file.

    Returns:
        Figures: ``megapixels`` (of all bands), ``valid_percent`` (of the first band, or of all where
        a mask tells).

    Raises:
        InputError: the file cannot be read, or holds complex numbers.
        OSError: the disk is full.
    """
    from regflow.core.chunks import map_blocks, split_blocks
    from regflow.core.warp import measure_source_step
    from regflow.io.cog import CogWriter
    from regflow.io.rasters import read_raster_header
    from regflow.io.sample_values import apply_stated_scaling

    chosen = fill_defaults(OPTIONS, settings)
    header = apply_stated_scaling(read_raster_header(source.path), source.scaling)
    job = _job(source, header, fixed, moving, refined, chosen)
    profile = _profile(source, header, job, chosen["compression"], tags or {})
    spans = max(measure_source_step(_mapped(job)))
    # Where a pixel spans many of the source's, as many samples are read with smaller windows.
    chunk = max(_LEAST_CHUNK, int(workers.chunk / spans))
    windows = split_blocks(job.target.shape, chunk)
    size = len(job.bands) * int(chunk * spans) ** 2 * (4 * np.dtype(job.dtype).itemsize + 3)
    valid = 0
    with CogWriter(output, profile, threads=workers.count) as cog:
        results = map_blocks(
            partial(_warp, job), windows, workers, describe=Path(output).stem, item_bytes=size
        )
        for (rows, cols), (values, known) in zip(windows, results, strict=True):
            cog.write(values, rows, cols, known)
            valid += int(known.sum())
    pixels = int(np.prod(job.target.shape))
    return {"megapixels": pixels * len(job.bands) / 1e6, "valid_percent": 100.0 * valid / pixels}


def make_product_grid(fixed: Grid, source: Grid, change: tuple[Transform, ...], resolution: str) -> Grid:
    """Return the grid of a product: the fixed scene's footprint at the wanted resolution.

    Args:
        fixed: grid of the fixed scene's pixels.
        source: grid of the file's pixels.
        change: from the fixed scene's world to the source's.
        resolution: ``reference``, or ``own`` for the source's pixel size.
    """
    from regflow.core.blocks import decimate_grid
    from regflow.core.warp import PixelMap

    if resolution == "reference":
        return fixed
    mapped = PixelMap(fixed, source, compose_transforms(*change) if change else None, 1)
    middle = (np.array(fixed.size) - 1) / 2
    around = mapped.map_pixels(middle + np.array([[0, 0], [1, 0], [0, 1]]))
    spans = np.linalg.norm(around[1:] - around[0], axis=1)
    if not np.isfinite(spans).all() or not (spans > 0).all():
        return fixed
    across, down = (_nested(1.0 / float(span)) for span in spans)
    return fixed if across == down == 1.0 else decimate_grid(fixed, (down, across))


@dataclass(frozen=True)
class _WarpJob:
    """All that a worker needs to compute any window of one product; small, because it travels.

    Attributes:
        path: the source file.
        bands: numbers of its bands.
        alpha: which of them is alpha; warped as classes are.
        dtype: of the product.
        target: grid of the product.
        source: grid of the file's pixels.
        change: from the fixed scene's world to the source's, after the correction.
        refined: directory with the correction.
        digest: of the correction; two runs may use one directory.
        step: of the lattice, see :class:`~regflow.core.warp.PixelMap`.
        resampling: kernel.
        nodata: of the source.
        fill: value where the source has no pixel.
        declared: that value where it is the product's nodata; else alpha or a mask tells.
    """

    path: str
    bands: tuple[int, ...]
    alpha: int | None
    dtype: str
    target: Grid
    source: Grid
    change: tuple[Transform, ...]
    refined: str
    digest: str
    step: int
    resampling: str
    nodata: "Nodata"
    fill: float
    declared: float | None


def _job(
    source: WarpInput,
    header: "RasterHeader",
    fixed: Grid,
    moving: "SceneView",
    refined: str | Path,
    settings: Mapping[str, Any],
) -> _WarpJob:
    from regflow.core.warp import PixelMap
    from regflow.io.raster_transforms import TRANSFORM_FILE
    from regflow.io.sample_values import refuse_complex

    refuse_complex(header)
    bands = header.bands
    dtype = np.result_type(*(band.dtype for band in bands))
    grid, change = _reached(moving, header)
    target = make_product_grid(fixed, grid, change, settings["resolution"])
    digest = compute_sha256(Path(refined) / TRANSFORM_FILE)
    correction = _correction(str(refined), digest)
    alpha = next((band.number for band in bands if band.color == "alpha"), None)
    classes = source.classes or any(band.color == "palette" for band in bands)
    declared = None if alpha else choose_product_nodata(source, bands, dtype, settings["nodata"])
    return _WarpJob(
        path=source.path,
        bands=tuple(band.number for band in bands),
        alpha=alpha,
        dtype=str(dtype),
        target=target,
        source=grid,
        change=change,
        refined=str(refined),
        digest=digest,
        step=PixelMap.from_grids(target, grid, compose_transforms(correction, *change)).step,
        resampling="nearest" if classes else settings["resampling"],
        nodata=source.nodata,
        fill=0.0 if declared is None else declared,
        declared=declared,
    )


def _profile(
    source: WarpInput, header: "RasterHeader", job: _WarpJob, compression: str, tags: Mapping[str, str]
) -> "CogProfile":
    """Return what the product's file says about itself: all that the source's says, and ``tags``."""
    from regflow.io.cog import copy_profile

    profile = copy_profile(
        source.path,
        job.target,
        tuple(header.bands[number - 1] for number in job.bands),
        dtype=job.dtype,
        nodata=job.declared,
        classes=source.classes,
        masked=job.alpha is None and job.declared is None,
        compression=compression,
    )
    return replace(profile, tags={**profile.tags, **tags})


def _reached(moving: "SceneView", header: "RasterHeader") -> tuple[Grid, tuple[Transform, ...]]:
    """Return the grid of a file's pixels, and how points of the moving scene's world reach its world."""
    from regflow.io.rasters import read_raster_header
    from regflow.io.sensor_models import find_sensor_source

    own = read_raster_header(moving.path)
    if own.georeference != "none" and moving.grid != own.pixel_grid:
        longitude = float(moving.grid.center[0])
        return find_sensor_source(
            header, moving.grid.crs, longitude=longitude, height=moving.height, dem=moving.dem
        )
    # In pixel space, files of one acquisition show the same extent.
    down, across = (a / b for a, b in zip(moving.grid.shape, header.shape, strict=True))
    place = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    return Grid(header.shape, moving.grid.affine @ place, moving.grid.crs), ()


def choose_product_nodata(
    source: WarpInput, bands: tuple["BandHeader", ...], dtype: np.dtype[Any], wanted: float | None
) -> float | None:
    """Return the value that means "no measurement" in a product; None where no value can be spared.

    Args:
        source: of the product.
        bands: of the source.
        dtype: of the product.
        wanted: the configuration's, for sources that declare none.

    Raises:
        InputError: a value that was asked for does not fit the type of samples.
    """
    from regflow.io.sample_values import refuse_unheld

    floats = np.issubdtype(dtype, np.floating)
    if source.nodata is not None and source.nodata != "file":
        return refuse_unheld(source.path, source.nodata, [dtype.name], "give a value of their type, or none")
    declared = {band.nodata for band in bands}
    if source.nodata == "file" and declared != {None}:
        # One value for all bands: another band's measurements may have that of the first.
        if len(declared) > 1:
            return float("nan") if floats else None
        return bands[0].nodata
    if wanted is not None:
        return refuse_unheld(source.path, wanted, [dtype.name], "choose another in 'apply'")
    return float("nan") if floats else None


def _nested(factor: float) -> float:
    """Return a ratio of pixel sizes, made exact where it is nearly a whole number or its inverse."""
    whole, inverse = max(1, round(factor)), max(1, round(1.0 / factor))
    if abs(factor / whole - 1) < NESTED_TOLERANCE:
        return float(whole)
    if abs(factor * inverse - 1) < NESTED_TOLERANCE:
        return 1.0 / inverse
    return factor


@lru_cache(maxsize=1)
def _correction(refined: str, digest: str) -> Transform:
    """Return the correction of a directory, read once; ``digest`` tells it from an older one there."""
    from regflow.io.raster_transforms import read_raster_transform

    return read_raster_transform(refined)


@lru_cache(maxsize=1)
def _mapped(job: _WarpJob) -> "PixelMap":
    from regflow.core.warp import PixelMap

    correction = _correction(job.refined, job.digest)
    return PixelMap(job.target, job.source, compose_transforms(correction, *job.change), job.step)


def _warp(job: _WarpJob, window: tuple[slice, slice]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Compute a window of all bands; also return which pixels are valid."""
    result = np.empty(
        (len(job.bands), *(part.stop - part.start for part in window)), dtype=np.dtype(job.dtype)
    )
    plain = [number for number in job.bands if number != job.alpha]
    known: NDArray[np.bool_] | None = None
    for numbers, resampling in ((plain, job.resampling), ([job.alpha], "nearest")):
        if numbers and numbers[0] is not None:
            values, valid = _warp_bands(job, window, numbers, resampling)
            result[[job.bands.index(number) for number in numbers]] = values
            if known is None:
                # A file has one mask for all of its bands.
                known = np.asarray(valid.all(axis=0) if job.declared is None else valid[0])
    assert known is not None
    return result, known


def _warp_bands(
    job: _WarpJob, window: tuple[slice, slice], numbers: list[Any], resampling: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    from regflow.core.warp import warp_window
    from regflow.io.rasters import read_window

    def read(rows: slice, cols: slice) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        values, valid = read_window(job.path, numbers, rows, cols, job.nodata)
        return values.astype(job.dtype, copy=False), valid

    # Nearest pixels never come near a value that is not there already.
    avoid = None if resampling == "nearest" else job.declared
    return warp_window(read, _mapped(job), *window, resampling=resampling, nodata=(avoid,), fill=(job.fill,))
