"""What the samples of a raster mean: nodata that their type can hold, scales, complex numbers, palettes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError

if TYPE_CHECKING:
    from regflow.io.raster_header import RasterHeader

_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in brightness: ITU-R BT.601."""


def apply_stated_scaling(header: "RasterHeader", scaling: Sequence[Sequence[float]]) -> "RasterHeader":
    """Return a header with the scales and offsets that a catalog states of its bands.

    Args:
        header: of the raster; what its file declares itself stays.
        scaling: scale and offset of the first bands, in file order; a single one is that of all bands.
    """
    bands = list(header.bands)
    stated = list(scaling) * len(bands) if len(scaling) == 1 else scaling[: len(bands)]
    for at, (scale, offset) in enumerate(stated):
        if (bands[at].scale, bands[at].offset) == (1.0, 0.0):
            bands[at] = replace(bands[at], scale=float(scale), offset=float(offset))
    return replace(header, bands=tuple(bands))


def represent_nodata(nodata: float | None, dtype: str) -> float | None:
    """Return a nodata value as samples of a type hold it; None where they cannot, or without one.

    Whole numbers stay whole: those at the end of a 64-bit range are no floats.
    """
    kind = np.dtype(dtype)
    if nodata is None:
        return None
    if not np.issubdtype(kind, np.integer):
        with np.errstate(over="ignore"):
            return nodata if not math.isfinite(nodata) or np.isfinite(kind.type(nodata)) else None
    if not math.isfinite(nodata) or nodata != int(nodata):
        return None
    limits = np.iinfo(kind)
    # GDAL tells nodata as a float, which rounds the largest of 64 bits up by one.
    whole = limits.max if nodata == float(limits.max) else int(nodata)
    return whole if limits.min <= whole <= limits.max else None


def refuse_unheld(path: str, nodata: float, dtypes: Sequence[str], remedy: str) -> float:
    """Return a nodata value that was asked for, as samples hold it.

    Args:
        path: of the raster.
        nodata: the value.
        dtypes: of the raster's bands.
        remedy: what the user may do, the end of the sentence.

    Raises:
        InputError: the samples of no band can hold it.
    """
    dtype = np.result_type(*dtypes)
    held = represent_nodata(nodata, dtype.name)
    if held is None:
        raise InputError(
            f"{path}: its samples are {dtype}, which cannot hold the nodata value {nodata:g}; {remedy}"
        )
    return held


def refuse_complex(header: "RasterHeader", numbers: Sequence[int] | None = None) -> None:
    """Refuse complex samples, as of single-look radar scenes, which have no order and no brightness.

    Args:
        header: of the raster.
        numbers: of the bands that are wanted; None for all.

    Raises:
        InputError: one of them is complex.
    """
    wanted = range(1, len(header.bands) + 1) if numbers is None else numbers
    if any(np.issubdtype(np.dtype(header.bands[number - 1].dtype), np.complexfloating) for number in wanted):
        raise InputError(
            f"{header.path}: its samples are complex numbers, which cannot be registered or resampled; give "
            f"their magnitude, DERIVED_SUBDATASET:AMPLITUDE:{header.path}"
        )


def compute_luminance(path: str | Path, number: int) -> NDArray[np.float32] | None:
    """Return how bright each value of a band with a palette is, 0 to 255; None for a band without one.

    The same color may have other numbers in another file. Source: ITU-R BT.601.
    """
    from regflow.io.open_rasters import open_raster

    dataset = open_raster(path)
    if dataset.colorinterp[number - 1].name != "palette":
        return None
    table = np.zeros(1 + int(np.iinfo(dataset.dtypes[number - 1]).max), np.float32)
    for value, color in dataset.colormap(number).items():
        table[value] = np.dot(color[:3], _LUMA)
    return table
