"""Cloud-optimized GeoTIFFs written block by block.

GDAL's COG driver wants the whole raster at once, so blocks go to a tiled temporary GeoTIFF beside
the target, through one handle, and the driver makes the COG from that: overviews, tiles in order,
the same bytes whatever the order or size of the blocks.
"""

import shutil
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import whole
from regflow.core.grid import Grid
from regflow.core.io.rasters import Band, gdal, geotransform, open_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

TILE_PIXELS = 512
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "DEFLATE", "level": 1},
    "zstd": {"compress": "ZSTD", "level": 1},
    "none": {"compress": "NONE"},
}
"""Deflate is read everywhere; zstd is smaller, for tools that have it. Higher levels take three to
four times as long for a tenth of the size."""

_COLORS = ("gray", "red", "green", "blue", "alpha", "palette")
_STATISTICS = "STATISTICS_"
_STRUCTURAL = ("OVR_RESAMPLING_ALG", "INTERLEAVE", "COMPRESSION", "LAYOUT")


@dataclass(frozen=True)
class CogProfile:
    """What a COG says beside its pixels.

    Attributes:
        grid: of the pixels; without a CRS and with an identity affine no georeference is written.
        dtype: numpy's name of the type of samples.
        bands: one for each, with the names, scales, offsets and colors to write; numbers, types and
            nodata values in them are not looked at.
        nodata: of all bands (GeoTIFF has one), or None.
        tags: of the file.
        colormap: of the first band, ``{value: (red, green, blue, alpha)}``, or None.
        classes: whether samples are classes: overviews then take the nearest sample, not the mean.
        compression: one of :data:`COMPRESSIONS`.
    """

    grid: Grid
    dtype: str
    bands: tuple[Band, ...]
    nodata: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None
    classes: bool = False
    compression: str = "deflate"


def plain_bands(*names: str, dtype: str = "float32") -> tuple[Band, ...]:
    """Return gray bands of these names, for rasters that are not made from another's bands."""
    return tuple(Band(n, name, dtype, None, 1.0, 0.0, "gray") for n, name in enumerate(names, start=1))


def profile_like(path: str | Path, grid: Grid, bands: tuple[Band, ...], **changes: Any) -> CogProfile:
    """Return the profile of a raster's bands on another grid: type, nodata, tags, colors.

    Args:
        path: the raster.
        grid: of the result.
        bands: those of the raster that are kept, all of one type.
        changes: of further attributes.
    """
    dataset = open_raster(path)
    tags = {key: value for key, value in dataset.tags().items() if key not in _STRUCTURAL}
    profile = CogProfile(grid, bands[0].dtype, bands, bands[0].nodata, tags, _colormap(dataset, bands))
    return replace(profile, **changes)


class CogWriter:
    """Writes a COG block by block: ``with CogWriter(path, profile) as cog: cog.write(...)``.

    The file appears, whole, when the block ends without an error. One thread writes.
    """

    def __init__(self, path: str | Path, profile: CogProfile, *, threads: int = 1) -> None:
        self.path = Path(path)
        self.profile = profile
        self.threads = threads
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._part = stack.enter_context(whole(self.path))
            self._raw = self._part.with_name("raw.tif")
            self._target = self._open()
            stack.callback(self._close)
            self._stack = stack.pop_all()
        return self

    def write(self, values: NDArray[Any], rows: slice, cols: slice) -> None:
        """Write a window of all bands, ``(C, h, w)``; windows may come in any order.

        Raises:
            OSError: the disk is full, or fails.
        """
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            self._target.write(values, window=Window.from_slices(rows, cols))
        except RasterioError as error:
            raise self._failed(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack as stack:
            if error is None:
                self._finish()
            else:
                # An error inside leaves nothing behind.
                stack.__exit__(kind, error, trace)

    def _open(self) -> "DatasetWriter":
        rasterio = gdal()
        from rasterio.errors import NotGeoreferencedWarning

        profile = self.profile
        rows, cols = profile.grid.shape
        colors = [band.color for band in profile.bands]
        rgb = colors[:3] == ["red", "green", "blue"] and profile.dtype in ("uint8", "uint16")
        layout = {
            "tiled": True,
            "blockxsize": TILE_PIXELS,
            "blockysize": TILE_PIXELS,
            "interleave": "band",
            "bigtiff": "yes",
            "sparse_ok": True,
            "photometric": "RGB" if rgb else "MINISBLACK",
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            target = rasterio.open(
                self._raw,
                "w",
                driver="GTiff",
                width=cols,
                height=rows,
                count=len(profile.bands),
                dtype=profile.dtype,
                nodata=profile.nodata,
                **layout,
                **_georeference(profile.grid),
            )
        self._describe(target)
        return target

    def _describe(self, target: "DatasetWriter") -> None:
        """Write all that is not pixels."""
        from rasterio.enums import ColorInterp

        profile = self.profile
        if profile.colormap:
            target.write_colormap(1, dict(profile.colormap))
        else:
            colors = [band.color if band.color in _COLORS else "undefined" for band in profile.bands]
            target.colorinterp = [ColorInterp[color] for color in colors]
        target.scales = tuple(band.scale for band in profile.bands)
        target.offsets = tuple(band.offset for band in profile.bands)
        for number, band in enumerate(profile.bands, start=1):
            if band.name:
                target.set_band_description(number, band.name)
        target.update_tags(**profile.tags)

    def _finish(self) -> None:
        """Close the temporary file and make the COG from it.

        Raises:
            OSError: the disk is full, or fails.
        """
        gdal()
        from rasterio import Env
        from rasterio._err import CPLE_BaseError
        from rasterio.errors import RasterioError
        from rasterio.shutil import copy

        options = COMPRESSIONS[self.profile.compression]
        if options["compress"] != "NONE":
            options = {**options, "predictor": "YES"}
        try:
            self._close()
            with Env(GDAL_NUM_THREADS=str(self.threads)):
                copy(
                    self._raw,
                    self._part,
                    driver="COG",
                    blocksize=TILE_PIXELS,
                    overview_resampling="NEAREST" if self.profile.classes else "AVERAGE",
                    bigtiff="IF_SAFER",
                    num_threads=str(self.threads),
                    **options,
                )
        except (RasterioError, CPLE_BaseError) as error:
            raise self._failed(error) from error
        self._raw.unlink()

    def _close(self) -> None:
        if not self._target.closed:
            self._target.close()

    def _failed(self, error: Exception) -> OSError:
        free = shutil.disk_usage(self._part.parent).free / 1e6
        reason = error.__cause__ or error
        return OSError(f"{self.path}: could not be written ({reason}); {free:,.0f} MB are free on its disk")


def _georeference(grid: Grid) -> dict[str, Any]:
    if grid.crs is None and np.array_equal(grid.affine, np.eye(3)):
        return {}
    return {"crs": grid.crs, "transform": geotransform(grid)}


def _colormap(dataset: Any, bands: tuple[Band, ...]) -> dict[int, tuple[int, int, int, int]] | None:
    if len(bands) != 1 or bands[0].color != "palette":
        return None
    return dict(dataset.colormap(bands[0].number))
