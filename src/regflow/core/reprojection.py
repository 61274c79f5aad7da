"""Between coordinate reference systems, and from the ground to the pixels of a raw scene."""

import atexit
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.addresses import resolved
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.io.rasters import RasterHeader, gdal, open_raster, same_crs
from regflow.core.transform import Composite, Points, Transform

_INVERSION_ROUNDS = 3
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


@dataclass(frozen=True)
class SensorModel:
    """From the ground to the pixels of a scene that only GCPs or RPCs tie to it.

    Ground points lie in the CRS of the GCPs, or in longitude and latitude (WGS 84) for RPCs; pixel
    space has x = column and y = row with whole numbers at the pixels' centers.

    Attributes:
        path: the scene's file.
        height: above the ellipsoid in meters, at which RPCs are evaluated; None takes the RPCs' own
            middle height.
        dem: raster of heights for RPCs instead of one height; None without one.
    """

    path: str
    height: float | None = None
    dem: str | None = None

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return 2

    def apply(self, points: ArrayLike) -> Points:
        """Map ground points ``(N, 2)`` to pixel space."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        known = np.isfinite(points).all(axis=1)
        pixels = np.full(points.shape, np.nan)
        if known.any():
            x, y = points[known].T
            rows, cols = self._model().rowcol(x, y, op=np.positive)
            pixels[known] = np.stack([cols, rows], axis=1) - 0.5
            pixels[~np.isfinite(pixels).all(axis=1)] = np.nan
        return pixels

    def inverse(self) -> "GroundModel":
        """Return the map from pixel space to the ground."""
        return GroundModel(self)

    def ground(self, pixels: Points) -> Points:
        """Map pixel space ``(N, 2)`` to ground points by the model's own inverse."""
        x, y = self._model().xy(pixels[:, 1], pixels[:, 0], offset="center")
        return np.stack([x, y], axis=1)

    def _model(self) -> Any:
        if "models" not in _local.__dict__:
            _local.models = {}
            # GDAL's transformers cannot be closed once the interpreter has begun to fall apart.
            atexit.register(_local.models.clear)
        models = _local.models
        if self not in models:
            models.clear()
            models[self] = self._build()
        return models[self]

    def _build(self) -> Any:
        gdal()
        from rasterio.transform import GCPTransformer, RPCTransformer

        dataset = open_raster(self.path)
        points, _ = dataset.gcps
        if points:
            # A thin-plate spline passes through every point; GDAL's polynomial may miss them by pixels.
            return GCPTransformer(points, tps=True)
        if dataset.rpcs:
            if self.dem is not None:
                return RPCTransformer(dataset.rpcs, RPC_DEM=resolved(self.dem))
            height = dataset.rpcs.height_off if self.height is None else self.height
            return RPCTransformer(dataset.rpcs, RPC_HEIGHT=height)
        raise InputError(f"{self.path}: holds neither GCPs nor RPCs any more; give the file as it was")


@dataclass(frozen=True)
class GroundModel:
    """From the pixels of a scene to the ground: the inverse of a :class:`SensorModel`.

    A polynomial fitted one way is not the inverse of one fitted the other way, so the model's own
    answer is corrected until the sensor model leads back.
    """

    sensor: SensorModel

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return 2

    def apply(self, points: ArrayLike) -> Points:
        """Map pixel space ``(N, 2)`` to ground points."""
        wanted = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        aim = wanted
        for _ in range(_INVERSION_ROUNDS):
            aim = aim + (wanted - self.sensor.apply(self.sensor.ground(aim)))
        return self.sensor.ground(aim)

    def inverse(self) -> SensorModel:
        """Return the map from the ground to pixel space."""
        return self.sensor


def source_of(
    header: RasterHeader,
    crs: str | None,
    *,
    longitude: float | None = None,
    height: float | None = None,
    dem: str | None = None,
) -> tuple[Grid, tuple[Transform, ...]]:
    """Return how points of a CRS reach the pixels of a scene.

    Args:
        header: of the scene.
        crs: of the points, WKT; None for the scene's own coordinates, or pixel space without any.
        longitude: about which the points lie, if ``crs`` is geographic: some count from 0 to 360, some
            from -180 to 180.
        height: for RPCs, see :class:`SensorModel`.
        dem: for RPCs, see :class:`SensorModel`.

    Returns:
        The grid of the scene's pixels, its longitudes counted as those of the points, and the transforms
        that lead from points of ``crs`` to that grid's world; none where the points are there already.

    Raises:
        InputError: there is no transformation, or only one of both names a CRS.
    """
    if header.georeference == "none":
        return header.pixel_grid, ()
    if header.crs is None and crs is not None:
        raise InputError(
            f"{header.path}: has coordinates but names no CRS, and the reference scene has one; assign it "
            "(gdal_edit -a_srs)"
        )
    change: tuple[Transform, ...] = ()
    if crs is not None and header.crs is not None and not same_crs(crs, header.crs):
        change = (reprojection(crs, header.crs, header.grid, longitude),)
    elif header.grid is None and longitude is not None and turn_degrees(crs, longitude, 0.0):
        # The models of sensors count from -180 to 180.
        assert crs is not None
        change = (Reprojection(crs, crs, longitude=0.0, back_longitude=longitude),)
    if header.grid is None:
        return header.pixel_grid, (*change, SensorModel(header.path, height, dem))
    return (header.grid if change or longitude is None else near_longitude(header.grid, longitude)), change


def near_longitude(grid: Grid, longitude: float) -> Grid:
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


def reprojection(
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


def north_up_grid(
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
