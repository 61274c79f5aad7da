"""Small rasters for tests, with all that a file may say about itself."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from regflow.core.grid import Grid
from regflow.io.rasters import compute_geotransform

UTM33 = CRS.from_epsg(32633).to_wkt()
PLACE = Affine(10, 0, 330000, 0, -10, 5822040)
TEXTURE = np.random.default_rng(7).integers(1, 4000, (300, 400)).astype(np.uint16)


def write_raster(path: Path, values=TEXTURE, *, grid: Grid | None = None, **profile: Any) -> str:
    """Write ``(H, W)`` or ``(C, H, W)`` values as a GeoTIFF; keywords as rasterio's, and some more."""
    values = values[None] if values.ndim == 2 else values
    names, scales, offsets, colors, alpha_tags = (
        profile.pop(key, None) for key in ("names", "scales", "offsets", "colors", "tags")
    )
    place = {"crs": UTM33, "transform": PLACE}
    if grid is not None:
        place = {"crs": grid.crs, "transform": compute_geotransform(grid)}
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    profile = {"driver": "GTiff", "dtype": values.dtype, **place, **profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        target = rasterio.open(path, "w", **size, **profile)
    with target:
        if colors:
            target.colorinterp = colors
        if names:
            target.descriptions = names
        if scales:
            target.scales, target.offsets = scales, offsets
        if alpha_tags:
            target.update_tags(**alpha_tags)
        target.write(values)
    return str(path)


def smooth_texture(shape: tuple[int, int], seed: int = 0, sigma: float = 2.0):
    """Return a smooth random image of mean 1000 and deviation 180, float64."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma, mode="wrap")
    return 1000 + 180 * noise / noise.std()


def linear_rpc(longitude: float = 15.0, latitude: float = 52.0, degrees: float = 1e-4, tilt: float = 0.0):
    """Return RPCs of a camera that looks straight down at ``degrees`` per pixel, row 0 in the north.

    The place is the middle of :data:`TEXTURE`; ``tilt`` moves columns by that many pixels per meter.
    """
    from rasterio.rpc import RPC

    one = [1.0] + [0.0] * 19
    east, south = [0.0] * 20, [0.0] * 20
    east[1], east[3], south[2] = 1.0, tilt * 500 / 200, -1.0
    return RPC(
        height_off=100.0,
        height_scale=500.0,
        lat_off=latitude,
        lat_scale=150 * degrees,
        long_off=longitude,
        long_scale=200 * degrees,
        line_off=150.0,
        line_scale=150.0,
        samp_off=200.0,
        samp_scale=200.0,
        line_num_coeff=south,
        line_den_coeff=one,
        samp_num_coeff=east,
        samp_den_coeff=one,
    )
