"""Small rasters from memory to disk: overviews, known corrections, scenes made for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import write_whole
from regflow.core.grid import Grid
from regflow.io.open_rasters import ignore_missing_georeference, import_gdal
from regflow.io.rasters import compute_geotransform


def write_raster(
    path: str | Path,
    bands: NDArray[Any],
    grid: Grid,
    *,
    names: Sequence[str] = (),
    nodata: float | None = None,
    **layout: Any,
) -> None:
    """Write bands as a GeoTIFF in their own type, whole or not at all.

    Args:
        path: the file.
        bands: ``(C, H, W)``.
        grid: where they lie; pixel space leaves the file without a georeference.
        names: descriptions of the bands.
        nodata: declared for all bands.
        layout: creation options of GDAL's GeoTIFF driver, as ``tiled=True``.
    """
    rasterio = import_gdal()
    count, height, width = bands.shape
    profile = {"dtype": bands.dtype.name, "nodata": nodata, **_place(grid), **layout}
    with (
        write_whole(path) as part,
        ignore_missing_georeference(),
        rasterio.open(
            part, "w", driver="GTiff", count=count, height=height, width=width, **profile
        ) as target,
    ):
        target.write(bands)
        for number, name in enumerate(names, start=1):
            target.set_band_description(number, name)


def write_blank_raster(path: str | Path, grid: Grid) -> None:
    """Write a GeoTIFF that says where pixels lie, but holds none: it is small whatever its size."""
    rasterio = import_gdal()
    height, width = grid.shape
    profile = {"dtype": "uint8", "sparse_ok": True, "tiled": True, **_place(grid)}
    with write_whole(path) as part, ignore_missing_georeference():
        rasterio.open(part, "w", driver="GTiff", count=1, height=height, width=width, **profile).close()


def _place(grid: Grid) -> dict[str, Any]:
    """Return what places a raster; nothing for pixel space."""
    if grid.crs is None and np.array_equal(grid.affine, np.eye(3)):
        return {}
    return {"crs": grid.crs, "transform": compute_geotransform(grid)}
