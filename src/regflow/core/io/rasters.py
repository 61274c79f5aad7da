"""Rasters through GDAL: what a file says about itself, and windows of its pixels.

Everything that rasterio opens is read: GeoTIFF, COG, JP2, VRT, netCDF sub-datasets, local or by
``http(s)://``, ``s3://`` and ``zip://`` addresses.
"""

import math
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid

if TYPE_CHECKING:
    import rasterio
    from rasterio.io import DatasetReader

Georeference = Literal["affine", "gcps", "rpcs", "none"]
Nodata = float | Literal["file"] | None
"""A value that means "no measurement", ``"file"`` for what each band declares, None for none."""

GDAL_DEFAULTS = {
    "GDAL_CACHEMAX": "128",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "15",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
}
"""GDAL's own cache is 5% of the memory, per process; megabytes here. Without the last three (seconds,
and bytes in a second) it waits forever for a server that falls silent. The environment overrides."""

_NETWORK = re.compile(r"(https?|ftp|s3|gs|az|adls|oss|swift)://|/vsi(curl|s3|gs|az|adls|oss|swift)", re.I)
_REMOTE_REFUSALS = (
    (
        r"access.?denied|access key|credentials|AWS_SECRET|signature|response code: 40[13]",
        "the server refuses access ({reason}); give it credentials (of S3: AWS_PROFILE, or "
        "AWS_NO_SIGN_REQUEST=YES for public data)",
    ),
    (
        r"response code: 404|(key|bucket) does not exist",
        "there is nothing at this address ({reason}); correct it",
    ),
    (r"CURL error|response code", "the server does not answer ({reason}); check address and network"),
)
"""What GDAL says of an address, as a pattern, and what a user is told; the first that fits."""

_HANDLES_PER_THREAD = 8


@dataclass(frozen=True)
class Band:
    """What a file says about one of its bands.

    Attributes:
        number: 1 for the first.
        name: its description, None without one.
        dtype: numpy's name of its type of samples.
        nodata: the value that means "no measurement", None without one.
        scale: physical value = ``scale`` x stored value + ``offset``.
        offset: see ``scale``.
        color: GDAL's color interpretation, lower case: ``gray``, ``red``, ``alpha`` ...
    """

    number: int
    name: str | None
    dtype: str
    nodata: float | None
    scale: float
    offset: float
    color: str


@dataclass(frozen=True)
class RasterHeader:
    """What a raster file says about itself; no pixel is read.

    Attributes:
        path: as it was given.
        driver: GDAL's short name of the format.
        shape: ``(rows, columns)``.
        bands: in file order.
        georeference: how pixels are tied to the ground.
        crs: of the geotransform, the GCPs or the RPCs (longitude and latitude) as WKT, else None.
        grid: for georeference ``affine``, else None; its CRS is None where the file names none.
        overviews: decimation factors of the first band's overviews.
        block_shape: ``(rows, columns)`` of the blocks in which the first band is stored.
    """

    path: str
    driver: str
    shape: tuple[int, int]
    bands: tuple[Band, ...]
    georeference: Georeference
    crs: str | None
    grid: Grid | None
    overviews: tuple[int, ...]
    block_shape: tuple[int, int]

    @property
    def pixel_grid(self) -> Grid:
        """The file's pixels in pixel space: x = column, y = row, down; centers are whole numbers."""
        return Grid(self.shape, np.eye(3))

    def band_number(self, band: int | str) -> int:
        """Return the number of a band given by number or by name (case does not matter).

        Raises:
            InputError: there is no such band, or several of that name.
        """
        names = [(item.name or "").lower() for item in self.bands]
        wanted = str(band).strip()
        if names.count(wanted.lower()) == 1:
            return names.index(wanted.lower()) + 1
        if wanted.isdecimal() and 1 <= int(wanted) <= len(self.bands):
            return int(wanted)
        known = ", ".join(f"{b.number} ({b.name})" if b.name else str(b.number) for b in self.bands)
        if names.count(wanted.lower()) > 1:
            raise InputError(f"{self.path}: several bands are named {wanted}; give one by number: {known}")
        raise InputError(f"{self.path}: there is no band {wanted}; choose from {known}")


def read_raster_header(path: str | Path) -> RasterHeader:
    """Read what a raster file says about itself.

    Raises:
        InputError: the file does not exist, is no raster, holds sub-datasets instead of bands, or
            its georeference is degenerate.
    """
    dataset = open_raster(path)
    if dataset.count == 0:
        names = ", ".join(dataset.subdatasets) or "none"
        raise InputError(f"{path}: holds no bands of its own; name one of its sub-datasets: {names}")
    try:
        georeference, crs = _georeference(dataset)
        bands = tuple(_band(dataset, number) for number in dataset.indexes)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: a text in its header is not UTF-8 ({error}); write the file again"
        ) from error
    shape = (dataset.height, dataset.width)
    return RasterHeader(
        path=str(path),
        driver=dataset.driver,
        shape=shape,
        bands=bands,
        georeference=georeference,
        crs=crs,
        grid=Grid(shape, _affine(dataset, str(path)), crs) if georeference == "affine" else None,
        overviews=tuple(dataset.overviews(1)),
        block_shape=tuple(dataset.block_shapes[0]),
    )


def read_window(
    path: str | Path, bands: Sequence[int], rows: slice, cols: slice, nodata: Nodata = "file"
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a window of some bands, as stored.

    Args:
        path: the file.
        bands: numbers, 1 for the first.
        rows: start and stop within the file.
        cols: likewise.
        nodata: overrides what the file declares; not-a-number is never valid.

    Returns:
        Values ``(C, h, w)`` in the bands' type, and which of them are measurements: not nodata, not
        NaN, and not masked by the file's mask or alpha band.

    Raises:
        InputError: the file cannot be decoded there: it is damaged or cut off.
    """
    from rasterio.errors import RasterioIOError
    from rasterio.windows import Window

    window = Window.from_slices(rows, cols)
    dataset = open_raster(path)
    try:
        types = {dataset.dtypes[number - 1] for number in bands}
        values = dataset.read(list(bands), window=window, out_dtype=np.result_type(*types))
        hidden = _masked(dataset, bands, window)
    except RasterioIOError as error:
        reason = str(error.__cause__ or error).rstrip(".")
        remote = is_remote(str(path))
        fault = "its server fell silent or it is damaged" if remote else "the file is damaged or incomplete"
        remedy = "run it again" if remote else "fetch it again"
        raise InputError(
            f"{path}: rows {rows.start} to {rows.stop} cannot be read, {fault} ({reason}); {remedy}"
        ) from error
    valid = np.ones(values.shape, dtype=bool) if hidden is None else np.broadcast_to(~hidden, values.shape)
    valid = valid.copy()
    for channel, number in enumerate(bands):
        declared = dataset.nodatavals[number - 1] if nodata == "file" else nodata
        if declared is not None and not math.isnan(declared):
            valid[channel] &= values[channel] != declared
    if np.issubdtype(values.dtype, np.inexact):
        valid &= ~np.isnan(values)
    return values, valid


def open_raster(path: str | Path) -> "DatasetReader":
    """Return this thread's handle of a raster, opening it if need be; never close it.

    GDAL's handles may not be shared by threads; a few of each thread stay open, because opening
    costs more than reading a window. A local file that was replaced since is opened anew.

    Raises:
        InputError: the file does not exist or is no raster.
    """
    name = str(path)
    key = (os.getpid(), name, _stamp(name))
    handles: OrderedDict[Any, DatasetReader] = _local.__dict__.setdefault("handles", OrderedDict())
    if key in handles:
        handles.move_to_end(key)
        return handles[key]
    handles[key] = _open(name)
    while len(handles) > _HANDLES_PER_THREAD:
        handles.popitem(last=False)[1].close()
    return handles[key]


def gdal() -> "rasterio":
    """Import rasterio with GDAL's memory bounded (:data:`GDAL_DEFAULTS`) and return it."""
    for key, value in GDAL_DEFAULTS.items():
        os.environ.setdefault(key, value)
    import rasterio

    return rasterio


def same_crs(one: str | None, other: str | None) -> bool:
    """Tell whether two CRSs (WKT) are the same, however they are spelled."""
    if one is None or other is None:
        return one is other
    if one == other:
        return True
    from rasterio.crs import CRS

    return bool(CRS.from_wkt(one) == CRS.from_wkt(other))


def is_remote(path: str) -> bool:
    """Tell whether GDAL fetches a raster over a network."""
    return bool(
        re.search(r"(https?|ftp|s3|gs|az|adls|oss|swift)://|/vsi(curl|s3|gs|az|adls|oss|swift)", path)
    )


def geotransform(grid: Grid) -> Any:
    """Return a raster grid's rasterio ``Affine``: from (column, row) of pixel CORNERS to world."""
    from affine import Affine

    a, b, c, d, e, f = (float(x) for x in grid.affine[:2].ravel())
    return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)


_local = threading.local()


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _open(name: str) -> "DatasetReader":
    import warnings

    rasterio = gdal()
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    local = not any(sign in name for sign in ("://", "/vsi")) and name.count(":") < 2
    if local and not Path(name).exists():
        raise InputError(f"{name}: this file does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(name, sharing=False)
    except (RasterioIOError, UnicodeDecodeError) as error:  # the second: texts of a header that are none
        reason = str(error).rstrip(".")
        raise InputError(f"{name}: {_refusal(name, reason)}") from error


def _refusal(name: str, reason: str) -> str:
    """Return what to tell a user of a raster that GDAL did not open for some reason."""
    if is_remote(name):
        for pattern, told in _REMOTE_REFUSALS:
            if re.search(pattern, reason, re.IGNORECASE):
                return told.format(reason=reason)
    return f"not a raster that GDAL reads, or cut off in its header ({reason})"


def _band(dataset: "DatasetReader", number: int) -> Band:
    at = number - 1
    return Band(
        number=number,
        name=dataset.descriptions[at] or None,
        dtype=str(dataset.dtypes[at]),
        nodata=dataset.nodatavals[at],
        scale=float(dataset.scales[at]),
        offset=float(dataset.offsets[at]),
        color=dataset.colorinterp[at].name,
    )


def _georeference(dataset: "DatasetReader") -> tuple[Georeference, str | None]:
    if not dataset.transform.is_identity:
        return "affine", dataset.crs.to_wkt() if dataset.crs else None
    points, crs = dataset.gcps
    if points and crs:
        return "gcps", crs.to_wkt()
    if dataset.rpcs:
        from rasterio.crs import CRS

        return "rpcs", CRS.from_epsg(4326).to_wkt()
    return "none", None


def _affine(dataset: "DatasetReader", path: str) -> NDArray[np.float64]:
    corner = np.array(dataset.transform, dtype=np.float64).reshape(3, 3)
    area = abs(np.linalg.det(corner[:2, :2]))
    if not np.isfinite(corner).all() or area == 0:
        raise InputError(
            f"{path}: its geotransform {tuple(dataset.transform)[:6]} is degenerate: pixels have no area; "
            "write the right one (gdal_edit)"
        )
    affine = corner.copy()
    affine[:2, 2] = corner[:2, :2] @ [0.5, 0.5] + corner[:2, 2]
    return affine


def _masked(dataset: "DatasetReader", bands: Sequence[int], window: Any) -> NDArray[np.bool_] | None:
    """Return where the file's own mask or alpha band hides pixels, ``(h, w)``; None without one."""
    from rasterio.enums import ColorInterp, MaskFlags

    flags = dataset.mask_flag_enums[bands[0] - 1]
    alphas = [n for n, color in enumerate(dataset.colorinterp, start=1) if color == ColorInterp.alpha]
    if MaskFlags.per_dataset in flags and not alphas:
        return np.asarray(dataset.read_masks(bands[0], window=window) == 0)
    if alphas and set(alphas).isdisjoint(bands):
        return np.asarray(dataset.read(alphas[0], window=window) == 0)
    return None
