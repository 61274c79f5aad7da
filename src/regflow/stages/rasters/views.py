"""How a scene's file is read for registration: bands, mask and coordinates."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from regflow.cohort.rasters.samples import MaskValues, Scene
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.raster_header import RasterHeader
from regflow.io.rasters import read_raster_header
from regflow.io.sample_values import apply_stated_scaling
from regflow.io.scenes import SceneView, describe_view


def describe_working_view(
    scene: Scene,
    header: RasterHeader,
    weights: Sequence[float] | None = None,
    fixed: Grid | None = None,
    *,
    height: float | None = None,
    dem: str | None = None,
) -> SceneView:
    """Return how a scene's file is read, on its pixels in the fixed scene's coordinates.

    Args:
        scene: the file and how it is to be read.
        header: of the file.
        weights: of the bands; None for their mean.
        fixed: the fixed scene's pixels, for a moving scene.
        height: above the ellipsoid in meters, for scenes with RPCs.
        dem: raster of heights, for scenes with RPCs.

    Raises:
        InputError: the bands, weights or mask do not fit the file, or its coordinates the fixed
            scene's.
    """
    header = apply_stated_scaling(header, scene.scaling)
    bands = scene.bands or (header.bands[0].number,)
    view = describe_view(
        header,
        bands=bands,
        weights=weights or [1 / len(bands)] * len(bands),
        nodata=scene.nodata,
        mask=scene.mask,
        mask_values=list_excluded_values(scene.quality, scene.mask),
        crs=None if fixed is None else fixed.crs,
        near=fixed,
        height=height,
        dem=dem,
        pixels=fixed is not None and is_pixel_space(fixed),
    )
    if fixed is not None and header.georeference == "none" and not is_pixel_space(fixed):
        # A scene without coordinates starts on the fixed scene's first pixels, one to one.
        view = replace(view, grid=Grid(view.grid.shape, fixed.affine, fixed.crs))
    return view


def list_excluded_values(quality: MaskValues, mask: str | None) -> tuple[float, ...]:
    """Return the values of a mask that exclude a pixel, bits spelled out.

    Raises:
        InputError: bits are named and the mask's numbers are too large to spell them out.
    """
    if mask is None:
        return ()
    if not quality.values and not quality.bits:
        return (0.0,)
    values = set(quality.values)
    if quality.bits:
        dtype = np.dtype(read_raster_header(mask).bands[0].dtype)
        if dtype.kind not in "iu" or dtype.itemsize > 2:
            raise InputError(f"{mask}: its samples are {dtype}, which have no bits to look at; name values")
        flags = sum(1 << bit for bit in set(quality.bits))
        numbers = np.arange(np.iinfo(dtype).max + 1)
        values.update(numbers[(numbers & flags) != 0].tolist())
    return tuple(float(value) for value in sorted(values))


def measure_spacing(grid: Grid) -> float:
    """Return the distance of a grid's samples in world units, the geometric mean of its axes'."""
    return float(np.sqrt(np.prod(grid.spacing)))


def is_pixel_space(grid: Grid) -> bool:
    """Tell whether a grid's world is its own pixels."""
    return grid.crs is None and bool(np.array_equal(grid.affine, np.eye(3)))
