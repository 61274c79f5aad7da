"""STAC items of products: where, when, from what, in a form that catalogs read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.grid import Grid
from regflow.core.reprojection import Reprojection
from regflow.io.raster_header import RasterHeader
from regflow.io.rasters import read_raster_header

COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"

_UNKNOWN = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
"""STAC wants a time or a span; without a date, all of it."""
_EDGE_POINTS = 9


def build_stac_item(
    sample: str,
    folder: str | Path,
    products: Sequence[tuple[str, Path]],
    moving: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the STAC item of one sample's products, ready for JSON.

    Args:
        sample: its id.
        folder: that will hold the item; the assets' addresses count from it.
        products: names and files, the warped scene first.
        moving: the moving scene's manifest.
        fixed: the fixed scene's manifest.
    """
    import pystac

    headers = {name: read_raster_header(path) for name, path in products}
    first = next(iter(headers.values()))
    outline = trace_footprint(first)
    when = _time(moving["date"])
    item = pystac.Item(
        id=sample,
        geometry=None if outline is None else {"type": "Polygon", "coordinates": [outline]},
        bbox=None if outline is None else _box(outline),
        datetime=when,
        start_datetime=None if when else _UNKNOWN[0],
        end_datetime=None if when else _UNKNOWN[1],
        properties=_properties(first, moving, fixed),
        stac_extensions=[PROJECTION, RASTER],
    )
    for name, path in products:
        item.add_asset(name, _asset(name, path.relative_to(folder), headers[name]))
    return dict(item.to_dict(include_self_link=False))


def trace_footprint(header: RasterHeader) -> list[list[float]] | None:
    """Return the outline of a raster in longitude and latitude, closed; None without a CRS."""
    grid = header.grid
    if grid is None or grid.crs is None:
        return None
    from rasterio.crs import CRS

    geographic = CRS.from_epsg(4326).to_wkt()
    points = Reprojection(grid.crs, geographic).apply(grid.to_world(_edge(grid)))
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 3:
        return None
    # Across the antimeridian longitudes go on past 180 rather than round the globe.
    points[:, 0] = np.rad2deg(np.unwrap(np.deg2rad(points[:, 0])))
    ring = [[round(float(x), 7), round(float(y), 7)] for x, y in points]
    return [*ring, ring[0]]


def _edge(grid: Grid) -> Any:
    """Return positions (column, row) along the outer edge, counterclockwise on a north-up grid."""
    cols, rows = (size - 0.5 for size in grid.size)
    way = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    corners = np.array([[-0.5, -0.5], [-0.5, rows], [cols, rows], [cols, -0.5]])
    sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    return np.concatenate([a + way[:, None] * (b - a) for a, b in sides])


def _box(ring: list[list[float]]) -> list[float]:
    low, high = np.min(ring, axis=0), np.max(ring, axis=0)
    return [float(value) for value in (*low, *high)]


def _time(date: str | None) -> datetime | None:
    if not date:
        return None
    found = datetime.fromisoformat(date)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _properties(header: RasterHeader, moving: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        **_projection(header),
        "regflow:source": Path(moving["paths"]["image"]).name,
        "regflow:reference": Path(fixed["paths"]["image"]).name,
    }
    for key, manifest in (("source", moving), ("reference", fixed)):
        if "image" in manifest["sha256"]:
            found[f"regflow:{key}_sha256"] = manifest["sha256"]["image"]
    if moving["sensor"]:
        found["instruments"] = [moving["sensor"]]
    return found


def _projection(header: RasterHeader) -> dict[str, Any]:
    if header.grid is None:
        return {"proj:code": None, "proj:shape": list(header.shape)}
    from regflow.io.rasters import compute_geotransform

    found: dict[str, Any] = {
        "proj:code": None,
        "proj:shape": list(header.shape),
        "proj:transform": [float(value) for value in compute_geotransform(header.grid)][:6],
    }
    if header.crs is not None:
        from rasterio.crs import CRS

        crs = CRS.from_wkt(header.crs)
        code = crs.to_authority()
        found["proj:code"] = f"{code[0]}:{code[1]}" if code else None
        if not code:
            found["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
    return found


def _asset(name: str, href: Path, header: RasterHeader) -> Any:
    import pystac

    roles = ["data"] if not name.startswith(("classes", "mask")) else ["metadata"]
    bands = []
    for band in header.bands:
        nodata = None if band.nodata is None else ("nan" if np.isnan(band.nodata) else band.nodata)
        described = {"name": band.name, "data_type": band.dtype, "nodata": nodata}
        if (band.scale, band.offset) != (1.0, 0.0):
            described |= {"scale": band.scale, "offset": band.offset}
        bands.append({key: value for key, value in described.items() if value is not None})
    fields = {**_projection(header), "raster:bands": bands}
    return pystac.Asset(
        f"./{href.as_posix()}", title=name, media_type=COG_TYPE, roles=roles, extra_fields=fields
    )
