"""How long a unit of a raster's world is, in meters."""

from functools import lru_cache

from regflow.core.grid import Grid


def find_meters_per_unit(grid: Grid) -> tuple[float, float] | None:
    """Return the meters in a CRS unit along x and y at a grid's center; None without a CRS.

    Exact up to the projection's own distortion; for degrees, on the CRS's ellipsoid.
    """
    if grid.crs is None:
        return None
    x, y = (float(value) for value in grid.center)
    return _meters(grid.crs, round(x, 3), round(y, 3))


def find_meters_per_pixel(grid: Grid) -> tuple[float, float] | None:
    """Return the meters in a pixel along columns and rows at a grid's center; None without a CRS."""
    unit = find_meters_per_unit(grid)
    if unit is None:
        return None
    along = [float((grid.affine[:2, k] ** 2 @ [unit[0] ** 2, unit[1] ** 2]) ** 0.5) for k in (0, 1)]
    return along[0], along[1]


@lru_cache(maxsize=64)
def _meters(crs: str, x: float, y: float) -> tuple[float, float] | None:
    import pyproj

    known = pyproj.CRS.from_user_input(crs)
    if known.is_geographic:
        geod = known.get_geod()
        if geod is None:
            return None
        step = 1e-4
        latitude = min(max(y, -89.9), 89.9)
        east = geod.inv(x - step, latitude, x + step, latitude)[2]
        north = geod.inv(x, latitude - step, x, latitude + step)[2]
        return float(east) / (2 * step), float(north) / (2 * step)
    factors = [axis.unit_conversion_factor for axis in known.axis_info[:2]]
    return (float(factors[0]), float(factors[1])) if len(factors) == 2 else None


def describe_place(grid: Grid, index: tuple[float, float]) -> str:
    """Return where a pixel ``(x, y)`` of a grid lies, in words: row and column, and map coordinates."""
    x, y = grid.to_world(index)
    digits = 5 if grid.crs is not None and max(abs(grid.spacing)) < 0.1 else 0
    here = f"around row {index[1]:.0f}, column {index[0]:.0f} of the working grid"
    return f"{here} (x {x:.{digits}f}, y {y:.{digits}f})" if grid.crs is not None else here
