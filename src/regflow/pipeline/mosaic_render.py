"""The pixels of a mosaic, window by window, into a file of a standard format."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Workers, map_blocks, split_blocks
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.cog import CogProfile, CogWriter, describe_gray_bands
from regflow.io.ome_tiff import OmeTiffWriter
from regflow.io.ome_zarr import CHUNK, OmeProfile, OmeZarrWriter
from regflow.methods.mosaic.blending import (
    MARGIN,
    PlacedTile,
    compute_border_weights,
    find_covered,
    merge_tiles,
    represent_samples,
    shift_pixels,
)
from regflow.methods.mosaic.illumination import Illumination
from regflow.pipeline.mosaic_tiles import TileImages

Array = NDArray[np.float64]
Window = tuple[slice, slice]

FORMATS = {"ome-zarr": "mosaic.ome.zarr", "ome-tiff": "mosaic.ome.tif", "cog": "mosaic.tif"}
"""Names of the files by format."""


@dataclass(frozen=True, eq=False)
class MosaicPlan:
    """What a mosaic is made of.

    Attributes:
        images: the tiles.
        positions: ``(N, 2)`` of each tile's first pixel in the mosaic, ``(x, y)``; the least are about 0.
        shape: rows and columns.
        light: of each band.
        gains: ``(N,)`` factors.
        order: ``(N,)`` numbers of the tiles, the one first that is preferred where one alone counts.
        blend: as of :data:`~regflow.methods.mosaic.blending.BLENDS`.
        interpolation: ``cubic`` or ``nearest``.
        feather_px: width of the border over which weights rise.
    """

    images: TileImages
    positions: Array
    shape: tuple[int, int]
    light: Sequence[Illumination]
    gains: Array
    order: NDArray[np.intp]
    blend: str
    interpolation: str
    feather_px: float

    def find_tiles(self, window: Window) -> list[int]:
        """Return the numbers of the tiles in a window, in order."""
        starts = self.positions[self.order]
        ends = starts + self.images.sizes[self.order] - 1
        rows, columns = window
        inside = (starts[:, 0] <= columns.stop - 1) & (ends[:, 0] >= columns.start)
        inside &= (starts[:, 1] <= rows.stop - 1) & (ends[:, 1] >= rows.start)
        return [int(number) for number in self.order[inside]]


def render_window(plan: MosaicPlan, window: Window) -> tuple[Window, NDArray[Any], NDArray[np.bool_]]:
    """Return a window of the mosaic, its values ``(C, h, w)`` in the tiles' type, and where there are any."""
    tiles = (_cut_tile(plan, number, window) for number in plan.find_tiles(window))
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    kept = (tile for tile in tiles if tile is not None)
    values, covered = merge_tiles(kept, sum(plan.images.bands), shape, plan.blend)
    return window, represent_samples(values, plan.images.dtype), covered


def write_mosaic(
    plan: MosaicPlan,
    path: Path,
    form: str,
    workers: Workers,
    *,
    pixel_size_um: float | None = None,
    grid: Grid | None = None,
) -> NDArray[np.float32]:
    """Write a mosaic, window by window.

    Args:
        plan: of the mosaic.
        path: the file or folder.
        form: of :data:`FORMATS`.
        workers: who does the work.
        pixel_size_um: width and height of a pixel, None where it is not known.
        grid: where the mosaic lies on the ground; in pixel space when None.

    Returns:
        A small picture of the first band, ``(h, w)``, not-a-number where no tile lies.
    """
    blocks = split_blocks(plan.shape, CHUNK)
    step = max(1, -(-max(plan.shape) // 1400))
    picture = np.full(tuple(-(-size // step) for size in plan.shape), np.nan, np.float32)
    # All tiles of a window are read, corrected and weighed in turn.
    tile_bytes = 12 * int(plan.images.sizes.prod(axis=1).max()) * sum(plan.images.bands)
    found = map_blocks(
        partial(render_window, plan), blocks, workers, describe="mosaic", item_bytes=2 * tile_bytes
    )
    with _open_writer(plan, path, form, workers.count, pixel_size_um, grid) as writer:
        for (rows, columns), values, covered in found:
            writer.write(values, rows, columns, covered)
            _draw_part(picture, values, covered, (rows, columns), step)
    return picture


def _open_writer(
    plan: MosaicPlan, path: Path, form: str, threads: int, size: float | None, grid: Grid | None
) -> AbstractContextManager[Any]:
    count = sum(plan.images.bands)
    names, dtype = plan.images.channels, plan.images.dtype.name
    if form == "cog":
        bands = describe_gray_bands(*(names or [f"band {n}" for n in range(1, count + 1)]), dtype=dtype)
        place = grid or Grid(plan.shape, np.eye(3))
        return CogWriter(path, CogProfile(place, dtype, bands, masked=True), threads=threads)
    profile = OmeProfile((count, *plan.shape), dtype, names, size)
    if form == "ome-tiff":
        return OmeTiffWriter(path, profile, threads=threads)
    if form == "ome-zarr":
        return OmeZarrWriter(path, profile, threads=threads)
    raise InputError(f"'{form}' is no format of a mosaic; choose from {', '.join(FORMATS)}")


def _cut_tile(plan: MosaicPlan, number: int, window: Window) -> PlacedTile | None:
    """Return a tile's part in a window, corrected and interpolated."""
    shape = (int(plan.images.shapes[number][0]), int(plan.images.shapes[number][1]))
    starts = plan.positions[number][::-1]
    if plan.interpolation == "nearest":
        starts = np.rint(starts)
    covered = [find_covered(*each) for each in zip(starts.tolist(), shape, window, strict=True)]
    rows, columns = covered
    if rows is None or columns is None:
        return None
    values = _interpolate(plan, number, (rows, columns), starts) * np.float32(plan.gains[number])
    weights = compute_border_weights(rows, columns, (starts[0], starts[1]), shape, plan.feather_px)
    inside = [
        slice(part.start - of.start, part.stop - of.start)
        for part, of in zip((rows, columns), window, strict=True)
    ]
    return PlacedTile(inside[0], inside[1], values, weights)


def _interpolate(plan: MosaicPlan, number: int, covered: Window, starts: Array) -> NDArray[np.float32]:
    """Return a tile's values at pixels of the mosaic, under even light."""
    shape = plan.images.shapes[number]
    firsts, parts, takes = [], [], []
    for part, start, size in zip(covered, starts.tolist(), shape.tolist(), strict=True):
        first = part.start - start
        whole = int(np.floor(first + 1e-9))
        wanted = np.arange(whole - 1, whole + (part.stop - part.start) + MARGIN)
        low, high = max(0, whole - 1), min(size, int(wanted[-1]) + 1)
        firsts.append(slice(low, high))
        takes.append(np.clip(wanted, low, high - 1) - low)
        parts.append(min(1.0, max(0.0, first - whole)))
    values = plan.images.read(number, firsts[0], firsts[1])
    rows, columns = (np.arange(part.start, part.stop) for part in firsts)
    for plane, light in zip(values, plan.light, strict=True):
        if light.coefficients:
            plane /= light.compute(rows, columns, (int(shape[0]), int(shape[1])))
    # The border's samples stand for those beyond it.
    padded = values[:, takes[0]][:, :, takes[1]]
    if max(parts) < 1e-6:
        return np.ascontiguousarray(padded[:, 1:-MARGIN, 1:-MARGIN])
    return shift_pixels(padded, (parts[0], parts[1]))


def _draw_part(
    picture: NDArray[np.float32], values: NDArray[Any], covered: NDArray[np.bool_], window: Window, step: int
) -> None:
    first = [-(-part.start // step) for part in window]
    inner = [slice(index * step - part.start, None, step) for index, part in zip(first, window, strict=True)]
    plane = np.where(covered, values[0], np.nan)[inner[0], inner[1]]
    picture[first[0] : first[0] + plane.shape[0], first[1] : first[1] + plane.shape[1]] = plane
