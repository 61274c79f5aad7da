"""Between coordinate reference systems."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.transform import Composite, Points

_OUTLINE_POINTS = 33


@dataclass(frozen=True)
class Reprojection:
    """The change of coordinates from one CRS to another; points without an answer become NaN.

    Attributes:
        source: CRS of the points, WKT.
        target: CRS of the result, WKT.
        longitude: for a geographic target, the meridian in the middle of the longitudes that are
            returned, so that a scene across the antimeridian has no jump.
        back_longitude: the same for a geographic source, used by the inverse.
    """

    source: str
    target: str
    longitude: float | None = None
    back_longitude: float | None = None

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return 2

    def apply(self, points: ArrayLike) -> Points:
        """Map points ``(N, 2)`` of the source CRS to the target CRS.

        Raises:
            InputError: no transformation between the CRSs is known.
        """
        points = np.asarray(points, dtype=np.float64)
        x, y = _transformer(self.source, self.target).transform(points[..., 0], points[..., 1])
        moved = np.stack([x, y], axis=-1)
        moved[~np.isfinite(moved).all(axis=-1)] = np.nan
        if self.longitude is not None:
            west = self.longitude - 180
            moved[..., 0] = west + np.mod(moved[..., 0] - west, 360)
        return np.asarray(moved)

    def inverse(self) -> "Reprojection":
        """Return the change of coordinates back."""
        return Reprojection(self.target, self.source, self.back_longitude, self.longitude)


def wrap_longitudes(grid: Grid, longitude: float) -> Grid:
    """Return a grid with its longitudes counted as others are; as it is where its CRS is not geographic.

    Args:
        grid: some count from 0 to 360, some from -180 to 180.
        longitude: about which the others lie.
    """
    turn = float(turn_degrees(grid.crs, grid.center[0], longitude))
    if not turn:
        return grid
    affine = grid.affine.copy()
    affine[0, 2] += turn
    return Grid(grid.shape, affine, grid.crs)


def turn_degrees(crs: str | None, longitudes: ArrayLike, about: float) -> NDArray[np.float64]:
    """Return the whole turns, in degrees, by which longitudes come to lie about another one.

    Args:
        crs: of both, WKT; where it is not geographic, or None, the turns are 0.
        longitudes: some count from 0 to 360, some from -180 to 180.
        about: what they shall lie near; within 180 degrees of it they are not turned.
    """
    away = about - np.asarray(longitudes, dtype=np.float64)
    if crs is None or not (np.abs(away) > 180).any() or not is_geographic(crs):
        return np.zeros(away.shape)
    return np.asarray(360.0 * np.round(away / 360))


def build_reprojection(
    source: str, target: str, grid: Grid | None = None, longitude: float | None = None
) -> Reprojection:
    """Return the change of CRS without a jump of longitudes.

    Args:
        source: CRS of the points, WKT.
        target: CRS of the result, WKT.
        grid: in the target CRS; what is returned lies about its middle.
        longitude: about which the points lie, if their CRS is geographic.

    Raises:
        InputError: no transformation is known.
    """
    _transformer(source, target)
    about = float(grid.center[0]) if grid is not None and is_geographic(target) else None
    back = longitude if longitude is not None and is_geographic(source) else None
    return Reprojection(source, target, about, back)


def is_geographic(crs: str) -> bool:
    """Tell whether a CRS (WKT) counts in longitude and latitude."""
    from pyproj import CRS

    return bool(CRS.from_wkt(crs).is_geographic)


def build_north_up_grid(
    name: str, source: Grid, change: Composite, crs: str | None, near: Grid | None = None
) -> Grid:
    """Return a north-up grid that covers a scene in another CRS with square pixels of its size.

    Args:
        name: of the scene, for the message.
        source: grid of the scene's pixels.
        change: from points of ``crs`` to the world of ``source``.
        crs: of the result, WKT.
        near: a grid in ``crs``; what lies further from it than half its size is left out.

    Raises:
        InputError: nothing of the scene lies near.
    """
    back = change.inverse()
    lines = [np.linspace(-0.5, n - 0.5, _OUTLINE_POINTS) for n in source.size]
    pixels = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    ground = back.apply(source.to_world(pixels))
    ground = ground[np.isfinite(ground).all(axis=1)]
    low, high = (ground.min(axis=0), ground.max(axis=0)) if ground.size else (np.ones(2), np.zeros(2))
    if near is not None:
        corners = near.to_world(_corner_pixels(near))
        margin = np.ptp(corners, axis=0) / 2
        low, high = (
            np.maximum(low, corners.min(axis=0) - margin),
            np.minimum(high, corners.max(axis=0) + margin),
        )
    if not (high > low).all():
        raise InputError(
            f"{name}: no part of this scene lies near the reference scene; do both show the same place?"
        )
    middle = source.to_index(change.apply((low + high)[None] / 2))
    around = back.apply(source.to_world(middle + np.array([[0, 0], [1, 0], [0, 1]])))
    step = float(np.sqrt(abs(np.linalg.det(around[1:] - around[0]))))
    if not np.isfinite(step) or step == 0:
        raise InputError(f"{name}: its pixels have no size in the CRS of the reference scene; assign its CRS")
    left, bottom = np.floor(low / step) * step
    right, top = np.ceil(high / step) * step
    shape = max(1, round((top - bottom) / step)), max(1, round((right - left) / step))
    affine = np.array([[step, 0, left + step / 2], [0, -step, top - step / 2], [0, 0, 1]])
    return Grid(shape, affine, crs)


def _corner_pixels(grid: Grid) -> NDArray[np.float64]:
    cols, rows = grid.size
    return np.array([[-0.5, -0.5], [cols - 0.5, -0.5], [-0.5, rows - 0.5], [cols - 0.5, rows - 0.5]])


_local = threading.local()


def _transformer(source: str, target: str) -> Any:
    """Return this thread's PROJ transformer; they may not be shared by threads."""
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError, ProjError

    known = _local.__dict__.setdefault("transformers", {})
    if (source, target) not in known:
        try:
            known[source, target] = Transformer.from_crs(source, target, always_xy=True)
        except (CRSError, ProjError) as error:
            names = " and ".join(_title(CRS, CRSError, crs) for crs in (source, target))
            raise InputError(
                f"no transformation is known between the coordinate systems {names}; bring both scenes to "
                "one that PROJ knows"
            ) from error
    return known[source, target]


def _title(crs_type: Any, error_type: type[Exception], wkt: str) -> str:
    try:
        return str(crs_type.from_wkt(wkt).name)
    except error_type:
        return wkt[:60]


def is_same_crs(one: str | None, other: str | None) -> bool:
    """Tell whether two CRSs (WKT) are the same, however they are spelled."""
    if one is None or other is None:
        return one is other
    if one == other:
        return True
    from rasterio.crs import CRS

    return bool(CRS.from_wkt(one) == CRS.from_wkt(other))
