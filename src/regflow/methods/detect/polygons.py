"""Outlines of numbered regions, seamless over a scene of any size."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid


def trace_outlines(regions: str | Path, kept: str | Path, count: int) -> list[Any]:
    """Return the outline of each region as a shapely polygon or multipolygon in world coordinates.

    GDAL follows the outlines line by line through the whole file, so no block border shows in them
    and memory goes with the polygons, not with the scene.

    Args:
        regions: raster of region numbers from 1, int32, georeferenced.
        kept: raster that is not 0 inside regions, uint8.
        count: number of regions.
    """
    import shapely
    from rasterio import band
    from rasterio.features import shapes

    from regflow.io.open_rasters import open_raster

    parts: list[list[Any]] = [[] for _ in range(count)]
    numbers, mask = open_raster(regions), open_raster(kept)
    # GDAL places the outlines of a file by the file's own georeference.
    found = shapes(band(numbers, 1), band(mask, 1), connectivity=4)
    for shape, number in found:
        shell, *holes = shape["coordinates"]
        parts[int(number) - 1].append(shapely.Polygon(shell, holes))
    # Pixels that touch by a corner only are separate polygons of one region.
    return [own[0] if len(own) == 1 else shapely.MultiPolygon(own) for own in parts]


def measure_areas(
    polygons: list[Any], pixels: NDArray[np.int64], grid: Grid
) -> tuple[str, NDArray[np.float64]]:
    """Return the name of the area's column, with its unit, and the area of each polygon.

    Square meters: by the pixels where the CRS is projected, on the ellipsoid where it is geographic.
    Without a CRS the unit is the pixel.
    """
    if grid.crs is None:
        return "area_px", pixels.astype(np.float64)
    from pyproj import CRS

    crs = CRS.from_wkt(grid.crs)
    geod = crs.get_geod()
    if crs.is_geographic and geod is not None:
        found = [abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in polygons]
        return "area_m2", np.array(found, dtype=np.float64)
    meters = float(crs.axis_info[0].unit_conversion_factor)
    pixel = abs(float(np.linalg.det(grid.affine[:2, :2]))) * meters**2
    return "area_m2", pixels.astype(np.float64) * pixel
