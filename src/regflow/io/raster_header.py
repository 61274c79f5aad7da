"""What the header of a raster says: size, georeference, bands."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from regflow.core.errors import InputError
from regflow.core.grid import Grid

Georeference = Literal["affine", "gcps", "rpcs", "none"]
Nodata = float | Literal["file"] | None
"""A value that means "no measurement", ``"file"`` for what each band declares, None for none."""


@dataclass(frozen=True)
class BandHeader:
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
    bands: tuple[BandHeader, ...]
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

    def describe_bands(self) -> str:
        """Return how many bands there are, of which type: ``3 bands of uint8``."""
        count = len(self.bands)
        return f"{count} band{'s' * (count > 1)} of {self.bands[0].dtype}"

    def find_band_number(self, band: int | str) -> int:
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
