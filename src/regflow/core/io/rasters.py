"""Rasters through GDAL: what a file says about itself, and windows of its pixels.

Everything that rasterio opens is read: GeoTIFF, COG, JP2, VRT, netCDF sub-datasets, local or by
``http(s)://``, ``s3://`` and ``zip://`` addresses.
"""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from regflow.core.addresses import public, resolved
from regflow.core.errors import InputError
from regflow.core.files import absence
from regflow.core.grid import Grid
from regflow.core.io.raster_names import local_file, opened_name
from regflow.core.io.sample_values import held_nodata
from regflow.core.io.transparency import alpha_bands

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
_MOST_NAMED = 4
_READ_AS = {"complex_int16": "complex64"}
"""Types of samples that numpy lacks, and the type in which they are read."""


@dataclass(frozen=True)
class Band:
    """What a file says about one of its bands.

    Attributes:
        number: 1 for the first.
        name: its description, None without one.
        dtype: numpy's name of the type in which its samples are read.
        nodata: the value that means "no measurement", None without one, or with one that the type
            cannot hold, so that no sample has it.
        scale: physical value = ``scale`` x stored value + ``offset``.
        offset: see ``scale``.
        color: GDAL's color interpretation, lower case: ``gray``, ``red``, ``nir``, ``alpha`` ...
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
    """What a raster file says about itself.

    Attributes:
        path: as it was given, without secrets (:mod:`regflow.core.addresses`).
        driver: GDAL's short name of the format.
        shape: ``(rows, columns)``.
        bands: in file order.
        georeference: how pixels are tied to the ground.
        crs: of the geotransform, the GCPs or the RPCs (longitude and latitude) as WKT, else None.
        grid: for georeference ``affine``, else None; its CRS is None where the file names none.
        overviews: decimation factors of the first band's overviews.
        block_shape: ``(rows, columns)`` of the blocks in which the first band is stored.
        notes: sentences on what was decided about the file, for whoever gave it.
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
    notes: tuple[str, ...] = ()

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

    Of a band that is marked as alpha some samples are looked at: with those of a measurement it is
    taken for one (:mod:`regflow.core.io.transparency`).

    Raises:
        InputError: the file does not exist, is no raster, holds sub-datasets instead of bands, or
            its georeference is degenerate.
    """
    path = public(str(path))
    dataset = open_raster(path)
    if dataset.count == 0:
        names = ", ".join(dataset.subdatasets) or "none"
        raise InputError(f"{path}: holds no bands of its own; name one of its sub-datasets: {names}")
    try:
        georeference, crs = _georeference(dataset)
        alphas = alpha_bands(dataset)
        bands = tuple(_band(dataset, number, alphas) for number in dataset.indexes)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: a text in its header is not UTF-8 ({error}); write the file again"
        ) from error
    shape = (dataset.height, dataset.width)
    return RasterHeader(
        path=path,
        driver=dataset.driver,
        shape=shape,
        bands=bands,
        georeference=georeference,
        crs=crs,
        grid=Grid(shape, _affine(dataset, str(path)), crs) if georeference == "affine" else None,
        overviews=tuple(dataset.overviews(1)),
        block_shape=tuple(dataset.block_shapes[0]),
        notes=tuple(_notes(dataset, path, alphas)),
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
        nodata: overrides what the file declares; infinite values and not-a-number are never valid.

    Returns:
        Values ``(C, h, w)`` in the bands' type, and which of them are measurements: not nodata,
        finite, and not masked by the file's mask or alpha band.

    Raises:
        InputError: the file cannot be decoded there: it is damaged or cut off.
    """
    from rasterio.errors import RasterioIOError
    from rasterio.windows import Window

    window = Window.from_slices(rows, cols)
    path = public(str(path))
    dataset = open_raster(path)
    try:
        values = _samples(dataset, bands, window)
        hidden = _masked(dataset, bands, window)
    except RasterioIOError as error:
        reason = str(error.__cause__ or error).rstrip(".")
        remote = is_remote(path)
        fault = "its server fell silent or it is damaged" if remote else "the file is damaged or incomplete"
        remedy = "run it again" if remote else "fetch it again"
        raise InputError(
            f"{path}: rows {rows.start} to {rows.stop} cannot be read, {fault} ({reason}); {remedy}"
        ) from error
    valid = np.ones(values.shape, dtype=bool) if hidden is None else np.broadcast_to(~hidden, values.shape)
    valid = valid.copy()
    for channel, number in enumerate(bands):
        declared = dataset.nodatavals[number - 1] if nodata == "file" else nodata
        held = held_nodata(declared, _dtype(dataset, number))
        if held is not None:
            valid[channel] &= values[channel] != held
    if np.issubdtype(values.dtype, np.inexact):
        valid &= np.isfinite(values)
    return values, valid


def open_raster(path: str | Path) -> "DatasetReader":
    """Return this thread's handle of a raster, opening it if need be; never close it.

    GDAL's handles may not be shared by threads; a few of each thread stay open, because opening
    costs more than reading a window. A local file that was replaced since is opened anew.

    Raises:
        InputError: the file does not exist or is no raster.
    """
    name = public(str(path))
    key = (os.getpid(), name, stamp_of(name))
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
    return _NETWORK.search(path) is not None


def geotransform(grid: Grid) -> Any:
    """Return a raster grid's rasterio ``Affine``: from (column, row) of pixel CORNERS to world."""
    from affine import Affine

    a, b, c, d, e, f = (float(x) for x in grid.affine[:2].ravel())
    return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)


_local = threading.local()


def stamp_of(name: str) -> tuple[int, int, int] | None:
    """Return what changes when a local file does; None for a file elsewhere."""
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _open(name: str) -> "DatasetReader":
    import warnings

    rasterio = gdal()
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    file = local_file(name)
    if not name:
        raise InputError("an empty name: this file does not exist; name one")
    if file is not None and (why := absence(file)) is not None:
        raise InputError(f"{name}: {why}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(opened_name(resolved(name)), sharing=False)
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


def _notes(dataset: "DatasetReader", path: str, alphas: Sequence[int]) -> Iterator[str]:
    """Yield what a user should know of how a file is read."""
    for number, color in enumerate(dataset.colorinterp, start=1):
        if color.name == "alpha" and number not in alphas:
            yield (
                f"{path}: band {number} is marked as alpha but holds measurements; it is read as a band like "
                f"the others (gdal_edit -colorinterp_{number} mends the file)"
            )
    others = dataset.subdatasets[1:] if dataset.driver == "GTiff" else dataset.subdatasets
    if others and "GTIFF_DIR" not in path:
        named = ", ".join(others[:_MOST_NAMED]) + (" ..." if len(others) > _MOST_NAMED else "")
        yield (
            f"{path}: holds {len(others)} more images than the first, which alone is read; they are named "
            f"{named} and can be companions of it"
        )


def _band(dataset: "DatasetReader", number: int, alphas: Sequence[int]) -> Band:
    at = number - 1
    color = dataset.colorinterp[at].name
    return Band(
        number=number,
        name=dataset.descriptions[at] or None,
        dtype=_dtype(dataset, number),
        nodata=held_nodata(dataset.nodatavals[at], _dtype(dataset, number)),
        scale=float(dataset.scales[at]),
        offset=float(dataset.offsets[at]),
        color="undefined" if color == "alpha" and number not in alphas else color,
    )


def _samples(dataset: "DatasetReader", bands: Sequence[int], window: Any) -> NDArray[Any]:
    """Read bands in a type that holds them all; rasterio itself reads those of one type only at once."""
    types = sorted({_dtype(dataset, number) for number in bands})
    wanted = np.result_type(*types)
    if len(types) == 1:
        return np.asarray(dataset.read(list(bands), window=window, out_dtype=wanted))
    return np.stack([dataset.read(number, window=window).astype(wanted) for number in bands])


def _dtype(dataset: "DatasetReader", number: int) -> str:
    """Return numpy's name of the type in which a band's samples are read."""
    name = str(dataset.dtypes[number - 1])
    return _READ_AS.get(name, name)


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
    from rasterio.enums import MaskFlags

    flags = dataset.mask_flag_enums[bands[0] - 1]
    alphas = alpha_bands(dataset)
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return np.asarray(dataset.read_masks(bands[0], window=window) == 0)
    if alphas and set(alphas).isdisjoint(bands):
        return np.asarray(dataset.read(alphas[0], window=window) == 0)
    return None
