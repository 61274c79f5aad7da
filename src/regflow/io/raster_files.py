"""Small rasters from memory to disk: overviews, known corrections, scenes made for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import whole
from regflow.core.grid import Grid
from regflow.io.open_rasters import gdal
from regflow.io.rasters import geotransform


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
    import warnings

    rasterio = gdal()
    from rasterio.errors import NotGeoreferencedWarning

    count, height, width = bands.shape
    profile = {"driver": "GTiff", "dtype": bands.dtype.name, "nodata": nodata, **layout}
    if grid.crs is not None or not np.array_equal(grid.affine, np.eye(3)):
        profile.update(crs=grid.crs, transform=geotransform(grid))
    with whole(path) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(part, "w", **profile, count=count, height=height, width=width) as target:
            target.write(bands)
            for number, name in enumerate(names, start=1):
                target.set_band_description(number, name)
