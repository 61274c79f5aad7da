"""The tiles of a mosaic as they are read: their headers held against one another, and windows of pixels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.cohort.tiles import Tile, TileSet
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.raster_header import RasterHeader
from regflow.io.rasters import read_raster_header, read_window
from regflow.methods.mosaic.illumination import Illumination

Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TileImages:
    """Tiles that fit together.

    Attributes:
        tiles: in the order of their names.
        shapes: ``(N, 2)`` rows and columns of each.
        dtype: of all samples.
        bands: of each file, for each of a tile's files.
        channels: a name for each band of the mosaic; empty without any.
        grids: where georeferenced tiles lie; None where any has no georeference.
        problems: sentences on tiles that were left out.
    """

    tiles: tuple[Tile, ...]
    shapes: NDArray[np.intp]
    dtype: np.dtype[Any]
    bands: tuple[int, ...]
    channels: tuple[str, ...]
    grids: tuple[Grid, ...] | None
    problems: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tiles."""
        return tuple(tile.name for tile in self.tiles)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Widths and heights in pixels, ``(N, 2)``."""
        return self.shapes[:, ::-1].astype(np.float64)

    def read(self, number: int, rows: slice, columns: slice) -> Plane:
        """Return a window of all bands of a tile, ``(C, h, w)``.

        Raises:
            InputError: a file cannot be decoded there.
        """
        files = zip(self.tiles[number].files, self.bands, strict=True)
        parts = [read_window(file, range(1, count + 1), rows, columns, None)[0] for file, count in files]
        return np.concatenate(parts).astype(np.float32)

    def read_guide(
        self, number: int, window: tuple[slice, slice], light: Sequence[Illumination], channel: int
    ) -> Plane:
        """Return the mean of the bands of one file of a tile in a window, under even light, ``(h, w)``."""
        file = self.tiles[number].files[channel]
        values, _ = read_window(file, range(1, self.bands[channel] + 1), *window, None)
        first = sum(self.bands[:channel])
        rows, columns = (np.arange(part.start, part.stop) for part in window)
        shape = (int(self.shapes[number][0]), int(self.shapes[number][1]))
        planes = [
            plane.astype(np.float32) / light[first + index].compute(rows, columns, shape)
            for index, plane in enumerate(values)
        ]
        return np.asarray(sum(planes[1:], planes[0]) / np.float32(len(planes)))


def open_tiles(found: TileSet) -> TileImages:
    """Read the headers of tiles; those that cannot be read or are of another kind than most are left out.

    Raises:
        InputError: no two tiles are left.
    """
    headers: dict[Tile, tuple[RasterHeader, ...]] = {}
    problems = list(found.problems)
    for tile in found.tiles:
        try:
            headers[tile] = tuple(read_raster_header(file) for file in tile.files)
        except InputError as error:
            problems.append(f"{error}; the tile was left out")
    kinds = {tile: ", ".join(header.describe_bands() for header in parts) for tile, parts in headers.items()}
    if not kinds:
        raise InputError("\n".join(problems) or "no tile can be read")
    usual, _ = Counter(kinds.values()).most_common(1)[0]
    kept = [tile for tile in headers if kinds[tile] == usual]
    problems += [
        f"{tile.name}: is {kind} where most tiles are {usual}; convert it, it was left out"
        for tile, kind in kinds.items()
        if kind != usual
    ]
    if len(kept) < 2:
        raise InputError("\n".join([*problems, "fewer than two tiles are left; a mosaic needs two or more"]))
    first = headers[kept[0]]
    bands = tuple(len(header.bands) for header in first)
    shapes = np.array([headers[tile][0].shape for tile in kept], np.intp)
    grids = tuple(headers[tile][0].grid for tile in kept)
    whole = tuple(grid for grid in grids if grid is not None)
    return TileImages(
        tuple(kept),
        shapes,
        np.dtype(first[0].bands[0].dtype),
        bands,
        _name_channels(found, first),
        whole if len(whole) == len(grids) else None,
        tuple(problems),
    )


def _name_channels(found: TileSet, headers: Sequence[RasterHeader]) -> tuple[str, ...]:
    names = []
    for index, header in enumerate(headers):
        channel = found.channels[index] if index < len(found.channels) else ""
        several = len(header.bands) > 1
        for band in header.bands:
            own = band.name or (f"band {band.number}" if several else "")
            names.append(" ".join(filter(None, (channel, own if several or not channel else ""))))
    return tuple(names) if all(names) else ()


def find_stated_positions(images: TileImages, settings: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return ``(N, 2)`` positions in pixels from a table, names or georeferences, before any is measured.

    Rows and columns of names are counted in tiles; None where nothing is stated.

    Raises:
        InputError: georeferenced tiles differ in CRS or size of pixels.
    """
    tiles = images.tiles
    if all(tile.position is not None for tile in tiles):
        size = settings["pixel_size_um"] if settings["position_unit"] == "um" else 1.0
        if not size:
            raise InputError("positions are in micrometers; give the size of a pixel with --pixel-size-um")
        return np.array([tile.position for tile in tiles], np.float64) / size
    if images.grids is not None:
        return _locate_grids(images)
    return None


def _locate_grids(images: TileImages) -> NDArray[np.float64]:
    assert images.grids is not None
    first = images.grids[0]
    for tile, grid in zip(images.tiles, images.grids, strict=True):
        if grid.crs != first.crs or not np.allclose(
            grid.affine[:2, :2], first.affine[:2, :2], rtol=1e-6, atol=0
        ):
            raise InputError(
                f"{tile.name}: has another CRS or size of pixels than {images.tiles[0].name}; "
                "warp the tiles first"
            )
    return np.array([first.to_index(grid.origin) for grid in images.grids])
