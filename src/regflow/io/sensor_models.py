"""From the ground to the pixels of a scene that GCPs, RPCs or a CRS tie to it."""

import atexit
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from regflow.core.addresses import resolve_address
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.reprojection import (
    Reprojection,
    build_reprojection,
    is_same_crs,
    turn_degrees,
    wrap_longitudes,
)
from regflow.core.transform import Points, Transform
from regflow.io.open_rasters import import_gdal, open_raster
from regflow.io.raster_header import RasterHeader

_INVERSION_ROUNDS = 3
_local = threading.local()


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

    def map_to_ground(self, pixels: Points) -> Points:
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
        import_gdal()
        from rasterio.transform import GCPTransformer, RPCTransformer

        dataset = open_raster(self.path)
        points, _ = dataset.gcps
        if points:
            # A thin-plate spline passes through every point; GDAL's polynomial may miss them by pixels.
            return GCPTransformer(points, tps=True)
        if dataset.rpcs:
            if self.dem is not None:
                return RPCTransformer(dataset.rpcs, RPC_DEM=resolve_address(self.dem))
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
            aim = aim + (wanted - self.sensor.apply(self.sensor.map_to_ground(aim)))
        return self.sensor.map_to_ground(aim)

    def inverse(self) -> SensorModel:
        """Return the map from the ground to pixel space."""
        return self.sensor


def find_sensor_source(
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
    if crs is not None and header.crs is not None and not is_same_crs(crs, header.crs):
        change = (build_reprojection(crs, header.crs, header.grid, longitude),)
    elif header.grid is None and longitude is not None and turn_degrees(crs, longitude, 0.0):
        # The models of sensors count from -180 to 180.
        assert crs is not None
        change = (Reprojection(crs, crs, longitude=0.0, back_longitude=longitude),)
    if header.grid is None:
        return header.pixel_grid, (*change, SensorModel(header.path, height, dem))
    return (header.grid if change or longitude is None else wrap_longitudes(header.grid, longitude)), change
