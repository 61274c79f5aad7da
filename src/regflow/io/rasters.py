"""Rasters through GDAL: what a file says about itself, and windows of its pixels.

Everything that rasterio opens is read: GeoTIFF, COG, JP2, VRT, netCDF sub-datasets, local or by
``http(s)://``, ``s3://`` and ``zip://`` addresses.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.addresses import redact_address
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.open_rasters import MOST_NAMED, explain_gdal_errors, is_remote, open_raster
from regflow.io.raster_header import BandHeader, Georeference, Nodata, RasterHeader
from regflow.io.sample_values import represent_nodata
from regflow.io.transparency import find_alpha_bands

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


_READ_AS = {"complex_int16": "complex64"}
"""Types of samples that numpy lacks, and the type in which they are read."""


def read_raster_header(path: str | Path) -> RasterHeader:
    """Read what a raster file says about itself.

    Of a band that is marked as alpha some samples are looked at: with those of a measurement it is
    taken for one (:mod:`regflow.io.transparency`).

    Raises:
        InputError: the file does not exist, is no raster, holds sub-datasets instead of bands, or
            its georeference is degenerate.
    """
    path = redact_address(str(path))
    dataset = open_raster(path)
    if dataset.count == 0:
        names = ", ".join(dataset.subdatasets) or "none"
        raise InputError(f"{path}: holds no bands of its own; name one of its sub-datasets: {names}")
    try:
        return _header(dataset, path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: a text in its header is not UTF-8 ({error}); write the file again"
        ) from error
    except explain_gdal_errors() as error:
        reason = str(error).rstrip(".")
        raise InputError(f"{path}: its header is damaged or cut off ({reason}); fetch it again") from error


def _header(dataset: "DatasetReader", path: str) -> RasterHeader:
    georeference, crs = _georeference(dataset)
    alphas = find_alpha_bands(dataset)
    bands = tuple(_band(dataset, number, alphas) for number in dataset.indexes)
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
    from rasterio.windows import Window

    window = Window.from_slices(rows, cols)
    path = redact_address(str(path))
    dataset = open_raster(path)
    try:
        values = _samples(dataset, bands, window)
        hidden = _masked(dataset, bands, window)
    except explain_gdal_errors() as error:
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
        held = represent_nodata(declared, _dtype(dataset, number))
        if held is not None:
            valid[channel] &= values[channel] != held
    if np.issubdtype(values.dtype, np.inexact):
        valid &= np.isfinite(values)
    return values, valid


def list_tiff_pages(path: str) -> list[str]:
    """Return the names by which GDAL opens the pages of a TIFF that holds several; none for other files.

    Overviews and masks are no pages.

    Raises:
        InputError: the file cannot be read.
    """
    dataset = open_raster(path)
    pages = list(dataset.subdatasets) if dataset.driver == "GTiff" else []
    return pages if len(pages) > 1 else []


def compute_geotransform(grid: Grid) -> Any:
    """Return a raster grid's rasterio ``Affine``: from (column, row) of pixel CORNERS to world."""
    from affine import Affine

    a, b, c, d, e, f = (float(x) for x in grid.affine[:2].ravel())
    return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)


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
        named = ", ".join(others[:MOST_NAMED]) + (" ..." if len(others) > MOST_NAMED else "")
        yield (
            f"{path}: holds {len(others)} more images than the first, which alone is read; they are named "
            f"{named} and can be companions of it"
        )


def _band(dataset: "DatasetReader", number: int, alphas: Sequence[int]) -> BandHeader:
    at = number - 1
    color = dataset.colorinterp[at].name
    return BandHeader(
        number=number,
        name=dataset.descriptions[at] or None,
        dtype=_dtype(dataset, number),
        nodata=represent_nodata(dataset.nodatavals[at], _dtype(dataset, number)),
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
    alphas = find_alpha_bands(dataset)
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return np.asarray(dataset.read_masks(bands[0], window=window) == 0)
    if alphas and set(alphas).isdisjoint(bands):
        return np.asarray(dataset.read(alphas[0], window=window) == 0)
    return None
