"""Cloud-optimized GeoTIFFs written block by block.

GDAL's COG driver wants the whole raster at once, so blocks go to a plain file of samples beside the
target, and the driver makes the COG from that: overviews, tiles in order, the same bytes whatever
the order or size of the blocks.
"""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import write_whole
from regflow.core.grid import Grid
from regflow.io.open_rasters import explain_gdal_errors, import_gdal, open_raster
from regflow.io.plain_file import PlainFile
from regflow.io.raster_header import BandHeader
from regflow.io.rasters import compute_geotransform

TILE_PIXELS = 512
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "DEFLATE", "level": 1},
    "zstd": {"compress": "ZSTD", "level": 1},
    "none": {"compress": "NONE"},
}
"""Deflate is read everywhere; zstd is smaller, for tools that have it. Higher levels take three to
four times as long for a tenth of the size."""

_RAW = "raw.bin"
_RAW_MASK = "mask.bin"
_COLORS = {
    **{
        color: color.capitalize()
        for color in (
            *("gray", "red", "green", "blue", "alpha", "palette", "hue", "saturation", "lightness"),
            *("cyan", "magenta", "yellow", "black", "pan", "coastal"),
        )
    },
    **{color: f"YCbCr_{color}" for color in ("Y", "Cb", "Cr")},
    **{color: color.upper() for color in ("nir", "swir", "mwir", "lwir", "tir")},
    **{f"sar_{band}": f"SAR_{band.capitalize()}" for band in ("ka", "k", "ku", "x", "c", "s", "l", "p")},
    "rededge": "RedEdge",
    "other_ir": "OtherIR",
}
"""GDAL's names of color interpretations, by rasterio's."""
_TYPES = {
    "uint8": "Byte",
    **{f"{sign}int{bits}": f"{sign.upper()}Int{bits}" for bits in (16, 32, 64) for sign in ("", "u")},
    "int8": "Int8",
    "float32": "Float32",
    "float64": "Float64",
}
_VALID = 255
"""What GDAL writes into masks."""
_STRUCTURAL = ("OVR_RESAMPLING_ALG", "INTERLEAVE", "COMPRESSION", "LAYOUT")


@dataclass(frozen=True)
class CogProfile:
    """What a COG says beside its pixels.

    Attributes:
        grid: of the pixels; without a CRS and with an identity affine no georeference is written.
        dtype: numpy's name of the type of samples.
        bands: one for each, with the names, scales, offsets and colors to write; numbers, types and
            nodata values in them are not looked at.
        nodata: of all bands (GeoTIFF has one), or None.
        tags: of the file.
        colormap: of the first band, ``{value: (red, green, blue, alpha)}``, or None.
        classes: whether samples are classes: overviews then take the nearest sample, not the mean.
        masked: whether an internal mask tells which pixels are valid, where no value can be spared
            for nodata.
        compression: one of :data:`COMPRESSIONS`.
    """

    grid: Grid
    dtype: str
    bands: tuple[BandHeader, ...]
    nodata: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None
    classes: bool = False
    masked: bool = False
    compression: str = "deflate"


def describe_gray_bands(*names: str, dtype: str = "float32") -> tuple[BandHeader, ...]:
    """Return gray bands of these names, for rasters that are not made from another's bands."""
    return tuple(BandHeader(n, name, dtype, None, 1.0, 0.0, "gray") for n, name in enumerate(names, start=1))


def copy_profile(path: str | Path, grid: Grid, bands: tuple[BandHeader, ...], **changes: Any) -> CogProfile:
    """Return the profile of a raster's bands on another grid: type, nodata, tags, colors.

    Args:
        path: the raster.
        grid: of the result.
        bands: those of the raster that are kept, all of one type.
        changes: of further attributes.
    """
    dataset = open_raster(path)
    tags = {key: value for key, value in dataset.tags().items() if key not in _STRUCTURAL}
    profile = CogProfile(grid, bands[0].dtype, bands, bands[0].nodata, tags, _colormap(dataset, bands))
    return replace(profile, **changes)


class CogWriter:
    """Writes a COG block by block: ``with CogWriter(path, profile) as cog: cog.write(...)``.

    The file appears, whole, when the block ends without an error. One thread writes.
    """

    def __init__(self, path: str | Path, profile: CogProfile, *, threads: int = 1) -> None:
        self.path = Path(path)
        self.profile = profile
        self.threads = threads
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        shape = (len(self.profile.bands), self.profile.grid.shape[0], self.profile.grid.shape[1])
        with ExitStack() as stack:
            self._part = stack.enter_context(write_whole(self.path))
            raw = PlainFile(self._part.with_name(_RAW), shape, self.profile.dtype)
            mask = PlainFile(self._part.with_name(_RAW_MASK), (1, *shape[1:]), "uint8")
            try:
                self._raw = stack.enter_context(raw)
                self._mask = stack.enter_context(mask) if self.profile.masked else None
            except OSError as error:
                raise self._failed(error) from error
            self._stack = stack.pop_all()
        return self

    def write(
        self, values: NDArray[Any], rows: slice, cols: slice, valid: NDArray[np.bool_] | None = None
    ) -> None:
        """Write a window of all bands, ``(C, h, w)``; windows may come in any order, each pixel once.

        Args:
            values: of the window.
            rows: start and stop.
            cols: likewise.
            valid: which pixels are measurements, ``(h, w)``, for a profile that is ``masked``.

        Raises:
            OSError: the disk is full, or fails.
        """
        try:
            self._raw.write(values, rows, cols)
            if self._mask is not None:
                assert valid is not None
                self._mask.write(np.where(valid, _VALID, 0)[None], rows, cols)
        except OSError as error:
            raise self._failed(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack as stack:
            if error is None:
                self._finish()
            else:
                # An error inside leaves nothing behind.
                stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        """Make the COG from the plain file.

        Raises:
            OSError: the disk is full, or fails.
        """
        rows, cols = self.profile.grid.shape
        if self._raw.pixels != rows * cols:
            raise ValueError(f"{self._raw.pixels} of {rows * cols} pixels of {self.path} were written")
        import_gdal()
        from rasterio import Env
        from rasterio.shutil import copy

        options = COMPRESSIONS[self.profile.compression]
        if options["compress"] != "NONE":
            options = {**options, "predictor": "YES"}
        source = self._part.with_name("raw.vrt")
        source.write_text(describe_vrt(self.profile, self._raw, self._mask), encoding="utf-8")
        try:
            with Env(GDAL_NUM_THREADS=str(self.threads)):
                copy(
                    source,
                    self._part,
                    driver="COG",
                    blocksize=TILE_PIXELS,
                    overview_resampling="NEAREST" if self.profile.classes else "AVERAGE",
                    bigtiff="IF_SAFER",
                    num_threads=str(self.threads),
                    **options,
                )
        except explain_gdal_errors() as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OSError:
        free = shutil.disk_usage(self._part.parent).free / 1e6
        reason = error.__cause__ or error
        return OSError(f"{self.path}: could not be written ({reason}); {free:,.0f} MB are free on its disk")


def describe_vrt(profile: CogProfile, samples: PlainFile, mask: PlainFile | None = None) -> str:
    """Return the GDAL VRT that describes plain files beside it, samples and mask, with all of a profile."""
    rows, cols = profile.grid.shape
    root = Element("VRTDataset", rasterXSize=str(cols), rasterYSize=str(rows))
    if profile.grid.crs is not None:
        _add(root, "SRS", profile.grid.crs)
    if profile.grid.crs is not None or not np.array_equal(profile.grid.affine, np.eye(3)):
        place = compute_geotransform(profile.grid)
        numbers = (place.c, place.a, place.b, place.f, place.d, place.e)
        _add(root, "GeoTransform", ", ".join(repr(float(number)) for number in numbers))
    metadata = SubElement(root, "Metadata")
    for key, value in profile.tags.items():
        SubElement(metadata, "MDI", key=key).text = value
    for index, band in enumerate(profile.bands):
        entry = SubElement(root, "VRTRasterBand", dataType=_TYPES[profile.dtype], band=str(index + 1))
        _describe_band(entry, profile, band)
        _describe_samples(entry, samples, index)
    if mask is not None:
        entry = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", dataType=_TYPES["uint8"])
        _describe_samples(entry, mask, 0)
    return tostring(root, encoding="unicode")


def _describe_samples(entry: Element, samples: PlainFile, index: int) -> None:
    entry.set("subClass", "VRTRawRasterBand")
    SubElement(entry, "SourceFilename", relativeToVRT="1").text = samples.path.name
    _add(entry, "ImageOffset", samples.compute_offset(index))
    _add(entry, "PixelOffset", samples.dtype.itemsize)
    _add(entry, "LineOffset", samples.compute_offset(0, 1))
    _add(entry, "ByteOrder", "LSB")


def _describe_band(entry: Element, profile: CogProfile, band: BandHeader) -> None:
    if band.name:
        _add(entry, "Description", band.name)
    if profile.nodata is not None:
        whole_number = np.issubdtype(np.dtype(profile.dtype), np.integer)
        _add(entry, "NoDataValue", int(profile.nodata) if whole_number else repr(float(profile.nodata)))
    _add(entry, "ColorInterp", _COLORS.get("palette" if profile.colormap else band.color, "Undefined"))
    if profile.colormap:
        table = SubElement(entry, "ColorTable")
        # Entries count from 0 without a gap.
        for value in range(max(profile.colormap) + 1):
            parts = profile.colormap.get(value, (0, 0, 0, 255))
            SubElement(table, "Entry", {f"c{n}": str(part) for n, part in enumerate(parts, start=1)})
    if (band.scale, band.offset) != (1.0, 0.0):
        _add(entry, "Offset", repr(band.offset))
        _add(entry, "Scale", repr(band.scale))


def _add(parent: Element, name: str, content: Any) -> None:
    SubElement(parent, name).text = str(content)


def _colormap(dataset: Any, bands: tuple[BandHeader, ...]) -> dict[int, tuple[int, int, int, int]] | None:
    if len(bands) != 1 or bands[0].color != "palette":
        return None
    return dict(dataset.colormap(bands[0].number))
