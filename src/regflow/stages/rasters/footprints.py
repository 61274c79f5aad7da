"""Where scenes lie on the ground, and whether two of them can be brought onto one another."""

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.reprojection import is_same_crs
from regflow.core.scales import check_comparable_samples
from regflow.core.transform import Points
from regflow.io.raster_header import RasterHeader

STEPS_PER_SIDE = 32
"""Points along each side of a footprint: a side that is straight in one CRS is bent in another."""
TEAR_RATIO = 20.0
"""A step along a footprint that is so many times the usual one jumps across the world."""
SLIVER_PERCENT = 1.0
"""Overlap, in percent of the smaller scene, below which a warning says so."""


def check_footprints(fixed: RasterHeader, moving: RasterHeader) -> tuple[str | None, str | None]:
    """Return what makes it impossible to lay a moving scene on a fixed one, and what is odd.

    Returns:
        A problem and a warning, each one sentence or None.
    """
    without = [header for header in (fixed, moving) if header.georeference == "none"]
    if len(without) == 1:
        return None, (
            f"{without[0].path}: has no georeference, and its partner has one: its first pixel starts on "
            "the other's first pixel"
        )
    if without:
        return None, None
    if (fixed.crs is None) != (moving.crs is None):
        bare = moving if moving.crs is None else fixed
        return f"{bare.path}: has coordinates but names no CRS; assign it (gdal_edit -a_srs EPSG:...)", None
    try:
        outline = _outline_in(fixed, moving)
    except InputError as error:
        return f"{moving.path}: {error}", None
    return _judged(fixed, moving, outline)


def check_scale(fixed: RasterHeader, moving: RasterHeader) -> str | None:
    """Return why the pixels of two scenes that overlap cannot be compared, or None: one holds too few."""
    if "none" in (fixed.georeference, moving.georeference):
        return None
    outline = _outline_in(fixed, moving)
    across = [float(np.sqrt(np.prod(header.shape))) for header in (fixed, moving)]
    told = check_comparable_samples(across[0], across[1], float(np.sqrt(_area(outline))) / across[1])
    if told is None:
        return None
    return (
        f"{moving.path}: its pixels are {told}; correct the pixel size or the CRS of one of them, or name "
        "another reference"
    )


def _judged(fixed: RasterHeader, moving: RasterHeader, outline: Points) -> tuple[str | None, str | None]:
    lost = ~np.isfinite(outline).all(axis=1)
    if lost.any():
        return (
            f"{moving.path}: lies partly where the coordinate system of {fixed.path} has no answer; bring "
            "both to a CRS made for their region"
        ), None
    if _is_torn(outline):
        return (
            f"{moving.path}: its outline is torn apart in the coordinate system of {fixed.path} "
            "(antimeridian or pole); bring both to a CRS made for their region"
        ), None
    share = _overlap_percent(outline, _pixel_bounds(fixed))
    if share == 0:
        return (
            f"{moving.path}: does not overlap {fixed.path}; correct the georeference of one of them, or name "
            "another reference"
        ), None
    if share < SLIVER_PERCENT:
        return None, f"{moving.path}: overlaps {fixed.path} by {share:.2g} percent of the smaller one only"
    return None, None


def _outline_in(fixed: RasterHeader, moving: RasterHeader) -> Points:
    """Return the moving scene's outline in pixels of the fixed one, ``(N, 2)``."""
    from regflow.core.reprojection import Reprojection, is_geographic, turn_degrees

    points = _ground(moving, _border(moving.shape))
    if fixed.crs is None or moving.crs is None:
        return _to_pixels(fixed, points)
    middle, other = (
        _ground(header, np.array([[(header.shape[1] - 1) / 2, (header.shape[0] - 1) / 2]]))[0]
        for header in (fixed, moving)
    )
    if not is_same_crs(fixed.crs, moving.crs):
        longitude = float(middle[0]) if is_geographic(fixed.crs) else None
        points = Reprojection(moving.crs, fixed.crs, longitude).apply(points)
    elif np.isfinite(other[0] - middle[0]):
        points[:, 0] += turn_degrees(fixed.crs, other[0], float(middle[0]))
    return _to_pixels(fixed, points)


def _ground(header: RasterHeader, pixels: Points) -> Points:
    """Map a scene's pixels to its own coordinates."""
    if header.grid is not None:
        return header.grid.to_world(pixels)
    from regflow.io.sensor_models import SensorModel

    return SensorModel(header.path).inverse().apply(pixels)


def _to_pixels(header: RasterHeader, points: Points) -> Points:
    if header.grid is not None:
        return header.grid.to_index(points)
    from regflow.io.sensor_models import SensorModel

    return SensorModel(header.path).apply(points)


def _border(shape: tuple[int, int]) -> Points:
    """Return pixel positions around a scene's outer border, in order, without closing it."""
    height, width = shape
    t = np.arange(STEPS_PER_SIDE) / STEPS_PER_SIDE
    zero, one = np.zeros_like(t), np.ones_like(t)
    sides = [(t, zero), (one, t), (1 - t, one), (zero, 1 - t)]
    unit = np.concatenate([np.stack(side, axis=1) for side in sides])
    return np.asarray(unit * [width, height] - 0.5)


def _pixel_bounds(header: RasterHeader) -> NDArray[np.float64]:
    return np.array([[-0.5, -0.5], [header.shape[1] - 0.5, header.shape[0] - 0.5]])


def _is_torn(outline: Points) -> bool:
    steps = np.linalg.norm(np.roll(outline, -1, axis=0) - outline, axis=1)
    return bool(steps.max() > TEAR_RATIO * np.median(steps))


def _overlap_percent(outline: Points, bounds: NDArray[np.float64]) -> float:
    """Return the area that a polygon and a box share, in percent of the smaller of the two."""
    clipped = outline
    for axis in (0, 1):
        for side, limit in ((1.0, bounds[0, axis]), (-1.0, bounds[1, axis])):
            clipped = _clipped(clipped, axis, side, float(limit))
    smaller = min(_area(outline), float(np.prod(bounds[1] - bounds[0])))
    return 100 * _area(clipped) / smaller if smaller > 0 else 0.0


def _clipped(polygon: Points, axis: int, side: float, limit: float) -> Points:
    """Return the part of a polygon on one side of a line (Sutherland and Hodgman, 1974)."""
    depth = side * (polygon[:, axis] - limit) if len(polygon) else np.empty(0)
    kept: list[NDArray[np.float64]] = []
    for number in range(len(polygon)):
        here, after = depth[number], depth[(number + 1) % len(polygon)]
        point, follower = polygon[number], polygon[(number + 1) % len(polygon)]
        if here >= 0:
            kept.append(point)
        if (here >= 0) != (after >= 0):
            kept.append(point + (follower - point) * (here / (here - after)))
    return np.array(kept).reshape(-1, 2)


def _area(polygon: Points) -> float:
    if len(polygon) < 3:
        return 0.0
    # About the first corner: products of coordinates of millions would leave no digits.
    x, y = (polygon - polygon[0]).T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2
