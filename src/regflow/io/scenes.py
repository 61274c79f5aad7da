"""Large scenes, read window by window: lazy images on their working grid.

A working image of a scene is an :class:`~regflow.core.image.Image` whose ``data`` is a
:class:`SceneData`: nothing of it is in memory. :func:`~regflow.core.blocks.read_block` reads a window
of any image, lazy or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.block_source import Block
from regflow.core.blocks import decimate_data
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.reprojection import build_north_up_grid, is_same_crs
from regflow.core.transform import Composite
from regflow.core.warp import PixelMap, warp_window
from regflow.io.raster_header import Nodata, RasterHeader
from regflow.io.rasters import read_raster_header, read_window
from regflow.io.sample_values import compute_luminance, refuse_complex, refuse_unheld
from regflow.io.sensor_models import find_sensor_source


@dataclass(frozen=True)
class SceneView:
    """How to open the working image of a scene; JSON-ready through :meth:`to_dict`.

    Attributes:
        path: the raster file.
        bands: numbers of the bands that are read.
        grid: the file's pixels where they lie in the working world, else a north-up grid in the
            fixed scene's CRS.
        weights: of a linear combination of the bands into one channel; None keeps each band.
        nodata: value of samples that are no measurements, see
            :data:`~regflow.io.rasters.Nodata`.
        physical: apply the bands' scales and offsets, and take the brightness of a palette's colors.
        scaling: scale and offset of each band that is read.
        mask: raster of classes, on the same pixels or parallel to them; None without one.
        mask_values: classes of ``mask`` whose pixels are excluded.
        mask_band: number of the band of ``mask``.
        name: of the channel, kept as the image's modality.
        height: for RPCs, see :class:`~regflow.core.reprojection.SensorModel`.
        dem: for RPCs, likewise.
    """

    path: str
    bands: tuple[int, ...]
    grid: Grid
    weights: tuple[float, ...] | None = None
    nodata: Nodata = "file"
    physical: bool = True
    scaling: tuple[tuple[float, float], ...] = ()
    mask: str | None = None
    mask_values: tuple[float, ...] = ()
    mask_band: int = 1
    name: str | None = None
    height: float | None = None
    dem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        content = {key: getattr(self, key) for key in self.__dataclass_fields__}
        listed = {key: list(value) for key, value in content.items() if isinstance(value, tuple)}
        return {**content, **listed, "grid": self.grid.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "SceneView":
        """Rebuild a view from :meth:`to_dict`."""
        lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
        scaling = tuple((float(scale), float(offset)) for scale, offset in content["scaling"])
        return cls(**{**content, **lists, "scaling": scaling, "grid": Grid.from_dict(content["grid"])})


@dataclass(frozen=True)
class SceneData:
    """Samples of a scene, read when asked for.

    They are the file's own pixels where the view's grid is the file's; where the scene lies in
    another CRS, or only GCPs or RPCs tie it to the ground, they are interpolated (cubic).
    """

    view: SceneView

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)``."""
        channels = 1 if self.view.weights is not None else len(self.view.bands)
        rows, cols = self.view.grid.shape
        return channels, rows, cols

    def read(self, rows: slice, cols: slice) -> Block:
        """Read a window that lies within the scene.

        Raises:
            InputError: the file cannot be decoded there.
        """
        mapped = _pixel_map(self.view)
        if mapped is None:
            return self._read_file(rows, cols)

        def read(*window: slice) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            block = self._read_file(*window)
            return block.values, np.broadcast_to(block.valid, block.values.shape)

        values, valid = warp_window(read, mapped, rows, cols, resampling="cubic")
        return Block(values, np.asarray(valid.all(axis=0)))

    def _read_file(self, rows: slice, cols: slice) -> Block:
        """Read a window of the file's own pixels."""
        view = self.view
        stored, measured = read_window(view.path, view.bands, rows, cols, view.nodata)
        valid = np.asarray(measured.all(axis=0))
        if view.mask is not None:
            valid &= _unmasked(view, rows, cols)
        values = _physical(view, stored) if view.physical else stored.astype(np.float32)
        if view.weights is not None:
            values = _combined(values, view.weights)
        if np.issubdtype(stored.dtype, np.inexact):
            valid &= np.isfinite(values).all(axis=0)
        if not valid.all():
            values[:, ~valid] = 0
        return Block(values, valid)


def open_scene(
    path: str | Path,
    *,
    bands: Sequence[int | str] | None = None,
    weights: Sequence[float] | None = None,
    nodata: Nodata = "file",
    physical: bool = True,
    mask: str | Path | None = None,
    mask_values: Sequence[float] = (),
    crs: str | None = None,
    near: Grid | None = None,
    spacing: float | None = None,
    pixels: bool = False,
    height: float | None = None,
    dem: str | Path | None = None,
) -> Image:
    """Open a scene as a lazy image; no pixel is read.

    Args:
        path: the raster file.
        bands: to read, by number or name; None takes all but alpha.
        weights: one per band, of a linear combination into one channel; None keeps each band.
        nodata: overrides what the file declares.
        physical: apply the file's scale and offset.
        mask: raster of classes (clouds, quality) on the same pixels or parallel to them.
        mask_values: classes that are excluded.
        crs: WKT of the fixed scene; the image's grid lies in it. None takes the scene's own.
        near: the fixed scene's grid; of a scene in another CRS only what lies near it is covered.
        spacing: of the working grid in world units; a finer scene is averaged. None keeps pixels.
        pixels: use pixel space, whatever the georeference.
        height: above the ellipsoid in meters, for scenes with RPCs; None takes their middle height.
        dem: raster of heights for scenes with RPCs.

    Returns:
        The image; ``data`` is lazy.

    Raises:
        InputError: something of the above does not fit the file.
    """
    header = read_raster_header(path)
    view = describe_view(
        header,
        bands=bands,
        weights=weights,
        nodata=nodata,
        physical=physical,
        mask=mask,
        mask_values=mask_values,
        crs=crs,
        near=near,
        pixels=pixels,
        height=height,
        dem=dem,
    )
    image = open_view(view)
    return image if spacing is None else decimate_data(image, spacing)


def describe_view(
    header: RasterHeader,
    *,
    bands: Sequence[int | str] | None = None,
    weights: Sequence[float] | None = None,
    nodata: Nodata = "file",
    physical: bool = True,
    mask: str | Path | None = None,
    mask_values: Sequence[float] = (),
    crs: str | None = None,
    near: Grid | None = None,
    pixels: bool = False,
    height: float | None = None,
    dem: str | Path | None = None,
) -> SceneView:
    """Return how to open a scene's working image; see :func:`open_scene`."""
    if bands is None:
        numbers = tuple(band.number for band in header.bands if band.color != "alpha")
    else:
        numbers = tuple(header.find_band_number(band) for band in bands)
    refuse_complex(header, numbers)
    if nodata is not None and nodata != "file":
        types = [band.dtype for band in header.bands]
        nodata = refuse_unheld(header.path, nodata, types, "give a value of their type, or none")
    if weights is not None and len(weights) != len(numbers):
        raise InputError(
            f"{header.path}: {len(weights)} weights for {len(numbers)} bands; give one weight for each"
        )
    chosen = [header.bands[number - 1] for number in numbers]
    names = [band.name for band in chosen]
    view = SceneView(
        path=header.path,
        bands=numbers,
        grid=_working_grid(header, crs, pixels, near, height, None if dem is None else str(dem)),
        weights=None if weights is None else tuple(float(w) for w in weights),
        nodata=nodata,
        physical=physical,
        scaling=tuple((band.scale, band.offset) for band in chosen),
        mask=None if mask is None else str(mask),
        mask_values=tuple(float(v) for v in mask_values),
        name="+".join(name for name in names if name) or None,
        height=height,
        dem=None if dem is None else str(dem),
    )
    if view.mask is not None:
        _mask_steps(view)
    return view


def open_view(view: SceneView) -> Image:
    """Open the lazy image that a view describes."""
    return Image(SceneData(view), view.grid, modality=view.name)


def _physical(view: SceneView, stored: NDArray[Any]) -> NDArray[np.float32]:
    palettes = [compute_luminance(view.path, number) for number in view.bands]
    if any(palette is not None for palette in palettes):
        bright = (b if p is None else p[b] for b, p in zip(stored, palettes, strict=True))
        stored = np.stack([band.astype(np.float32) for band in bright])
    if set(view.scaling) <= {(1.0, 0.0)}:
        return stored.astype(np.float32)
    scale, offset = np.array(view.scaling).T[..., None, None]
    return np.asarray(stored * scale + offset, dtype=np.float32)


def _combined(values: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return the weighted sum of bands ``(C, h, w)`` as one channel, ``(1, h, w)``.

    Band after band: no sum then depends on how a library of linear algebra would divide it.
    """
    total = values[:1] * np.float32(weights[0])
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total += value * np.float32(weight)
    return total


def _working_grid(
    header: RasterHeader,
    crs: str | None,
    pixels: bool,
    near: Grid | None,
    height: float | None,
    dem: str | None,
) -> Grid:
    if pixels or header.georeference == "none":
        return header.pixel_grid
    wanted = crs or header.crs
    longitude = None if near is None else float(near.center[0])
    source, change = find_sensor_source(header, wanted, longitude=longitude, height=height, dem=dem)
    if not change:
        return Grid(source.shape, source.affine, wanted)
    return build_north_up_grid(header.path, source, Composite(change), wanted, near)


@lru_cache(maxsize=32)
def _pixel_map(view: SceneView) -> PixelMap | None:
    """Return where a view's samples lie in its file; None where they are the file's own pixels."""
    header = read_raster_header(view.path)
    if view.grid.shape == header.shape and view.grid == header.pixel_grid:
        return None
    longitude = float(view.grid.center[0])
    source, change = find_sensor_source(
        header, view.grid.crs, longitude=longitude, height=view.height, dem=view.dem
    )
    if not change:
        return None
    return PixelMap.from_grids(view.grid, source, Composite(change))


def _mask_steps(view: SceneView) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return how a row and a column of the scene become those of its mask: factor and offset each.

    Raises:
        InputError: the mask does not lie on the scene's pixels, or not over all of them.
    """
    header = read_raster_header(str(view.mask))
    scene = read_raster_header(view.path)
    header.find_band_number(view.mask_band)
    pixel_space = view.grid == scene.pixel_grid
    if header.shape == scene.shape and (pixel_space or header.grid is None or scene.grid is None):
        return (1.0, 0.0), (1.0, 0.0)
    if header.grid is None or scene.grid is None or not is_same_crs(header.crs, scene.crs):
        raise InputError(
            f"{view.mask}: this mask has {header.shape[0]} x {header.shape[1]} pixels and its scene "
            f"{view.path} {scene.shape[0]} x {scene.shape[1]}, and no common georeference; give a mask of "
            "the scene's size"
        )
    step = np.linalg.inv(header.grid.affine) @ scene.grid.affine
    far = step @ [scene.shape[1] - 1.0, scene.shape[0] - 1.0, 1.0]
    corners = np.array([step[:2, 2], far[:2]])
    limit = np.array(header.shape[::-1]) - 0.5 + 1e-3
    skewed = max(abs(step[0, 1]) * scene.shape[0], abs(step[1, 0]) * scene.shape[1]) > 0.5
    if skewed or (corners < -0.5 - 1e-3).any() or (corners > limit).any():
        raise InputError(
            f"{view.mask}: this mask does not cover its scene {view.path} with parallel pixels; "
            "bring it onto the scene's pixels first"
        )
    return (float(step[1, 1]), float(step[1, 2])), (float(step[0, 0]), float(step[0, 2]))


def _unmasked(view: SceneView, rows: slice, cols: slice) -> NDArray[np.bool_]:
    header = read_raster_header(str(view.mask))
    lines, columns = (
        np.clip(np.floor(np.arange(s.start, s.stop) * factor + offset + 0.5), 0, size - 1).astype(int)
        for s, (factor, offset), size in zip((rows, cols), _mask_steps(view), header.shape, strict=True)
    )
    down, across = (slice(int(i.min()), int(i.max()) + 1) for i in (lines, columns))
    values, measured = read_window(str(view.mask), [view.mask_band], down, across)
    kept = measured[0] & ~np.isin(values[0], view.mask_values)
    return np.asarray(kept[np.ix_(lines - down.start, columns - across.start)])
