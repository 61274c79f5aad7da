"""Points and polygons as GeoPackage, which QGIS, GDAL and geopandas open."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import write_whole

_EPOCH = "2000-01-01T00:00:00.000Z"
"""Written as the time of last change, so that equal contents are equal bytes."""


def write_points(
    path: str | Path,
    columns: Mapping[str, Any],
    xy: NDArray[Any],
    crs: str | None = None,
    *,
    layer: str = "points",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write points with their columns.

    Args:
        path: the ``.gpkg`` file.
        columns: arrays ``(N,)`` of numbers, booleans or texts by name; NaN becomes null.
        xy: ``(N, 2)`` coordinates.
        crs: WKT; None for pixels or another plane without georeference.
        layer: name of the table.
        tags: further metadata of the layer.
    """
    from regflow.io.geopackage import write_point_layer

    data = {name: np.asarray(values) for name, values in columns.items()}
    with write_whole(path) as part:
        write_point_layer(part, layer, data, np.asarray(xy, np.float64), crs, tags or {})


def write_polygons(
    path: str | Path,
    columns: Mapping[str, Any],
    polygons: Sequence[Any],
    crs: str | None = None,
    *,
    layer: str = "polygons",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write polygons with their columns; as :func:`write_points`.

    Args:
        path: the ``.gpkg`` file.
        columns: arrays ``(N,)`` by name.
        polygons: shapely polygons or multipolygons.
        crs: WKT, or None.
        layer: name of the table.
        tags: further metadata of the layer.
    """
    import pyogrio
    import shapely

    several = [
        part if part.geom_type == "MultiPolygon" else shapely.MultiPolygon([part]) for part in polygons
    ]
    shapes = np.array(several, dtype=object)
    with write_whole(path) as part, _quiet_and_repeatable():
        pyogrio.raw.write(
            str(part),
            np.asarray(shapely.to_wkb(shapes), dtype=object),
            field_data=[_stored(np.asarray(values)) for values in columns.values()],
            fields=list(columns),
            layer=layer,
            driver="GPKG",
            geometry_type="MultiPolygon",
            crs=crs,
            layer_metadata=dict(tags) if tags else None,
            nan_as_null=True,
        )


def read_points(path: str | Path, layer: str = "points") -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Read what :func:`write_points` wrote: the columns and ``(N, 2)`` coordinates.

    Raises:
        InputError: there is no such file or layer, or it holds something else.
    """
    import sqlite3

    from regflow.io.geopackage import read_point_layer

    try:
        return read_point_layer(Path(path), layer)
    except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: this GeoPackage cannot be read: {error}") from error


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in a type that GeoPackage has."""
    if values.dtype.kind in "USO":
        return values.astype(object)
    return values.astype(np.int64) if values.dtype.kind in "iu" else values


@contextmanager
def _quiet_and_repeatable() -> Iterator[None]:
    """Write one time of change always, and no warning about pixels, which have no CRS."""
    import pyogrio

    option = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: _EPOCH})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
            yield
    finally:
        pyogrio.set_gdal_config_options({option: before})
