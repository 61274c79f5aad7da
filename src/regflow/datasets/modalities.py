"""Scenes moved by a known linear map, and real bands made to look like other sensors'.

Tests and benchmarks measure the initializers with them: real texture, an exact answer.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine

Plane = NDArray[np.float32]
Bands = Mapping[str, Plane]

SPECKLE_LOOKS = 4
"""Of the radar-like image: its speckle has a standard deviation of half the signal."""


def make_linear_truth(
    grid: Grid,
    shift_px: ArrayLike,
    turn_degrees: float = 0.0,
    scale: float = 1.0,
    stretch: float = 0.0,
) -> Affine:
    """Return a map of fixed world points about the grid's center.

    Args:
        grid: the fixed grid.
        shift_px: ``(x, y)`` of the center, in pixels.
        turn_degrees: rotation.
        scale: factor of size.
        stretch: how much more the x axis is scaled than the y axis.
    """
    angle = np.deg2rad(turn_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.diag([1 + stretch / 2, 1 - stretch / 2])
    return Affine.from_parts(linear, grid.affine[:2, :2] @ np.asarray(shift_px, dtype=float), grid.center)


def move_linearly(image: Image, truth: Affine) -> Image:
    """Return the image that ``truth`` brings back onto ``image``, on the same grid, by quintic splines."""
    from scipy.ndimage import map_coordinates

    grid = image.grid
    rows, columns = np.mgrid[: grid.shape[0], : grid.shape[1]]
    world = grid.to_world(np.stack([columns, rows], axis=-1).reshape(-1, 2))
    index = grid.to_index(truth.inverse().apply(world))
    inside = np.all((index >= 0) & (index <= np.array(grid.size) - 1), axis=1).reshape(grid.shape)
    places = index[:, ::-1].T
    mask = np.ones(grid.shape, np.float32) if image.mask is None else image.mask.astype(np.float32)
    seen = map_coordinates(mask, places, order=1).reshape(grid.shape) > 0.999
    values = map_coordinates(np.asarray(image.channel, float), places, order=5, mode="mirror")
    return Image(values.reshape(1, *grid.shape).astype(np.float32), grid, inside & seen)


def simulate_radar(bands: Bands, rng: np.random.Generator) -> Plane:
    """Return short-wave infrared with a radar's speckle: what is rough is bright."""
    rough = np.maximum(bands["B11"] - 0.5 * float(np.median(bands["B11"])), 1)
    return np.asarray(rough * rng.gamma(SPECKLE_LOOKS, 1 / SPECKLE_LOOKS, rough.shape), np.float32)


def simulate_thermal(bands: Bands, rng: np.random.Generator) -> Plane:
    """Return inverted near infrared, blurred and noisy: plants are cool, a thermal sensor is coarse."""
    import cv2

    blurred = cv2.GaussianBlur(-bands["B08"], (0, 0), 1.2)
    return _noisy(blurred, rng, 0.05)


def compute_vegetation_index(bands: Bands, rng: np.random.Generator) -> Plane:
    """Return the vegetation index of red and near infrared."""
    red, infrared = bands["B04"], bands["B08"]
    return _noisy((infrared - red) / (infrared + red + 1), rng, 0.05)


def compute_gradient_sizes(bands: Bands, rng: np.random.Generator) -> Plane:
    """Return the sizes of green's gradients."""
    import cv2

    smooth = cv2.GaussianBlur(bands["B03"], (0, 0), 1.0)
    size = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return _noisy(np.sqrt(size), rng, 0.05)


def simulate_season(bands: Bands, rng: np.random.Generator) -> Plane:
    """Return near infrared of which each kind of surface got another brightness."""
    near, red = bands["B08"], bands["B04"]
    kind = np.digitize(near / (red + 1), np.quantile(near / (red + 1), [0.2, 0.4, 0.6, 0.8]))
    gains = np.array([1.4, 0.5, 1.9, 0.7, 1.2], np.float32)
    return _noisy(near * gains[kind], rng, 0.05)


def simulate_map(bands: Bands, rng: np.random.Generator) -> Plane:
    """Return a map of five kinds of surface in flat tones, in no order."""
    import cv2

    ratio = bands["B08"] / (bands["B04"] + 1)
    smooth = cv2.medianBlur(np.asarray(ratio, np.float32), 5)
    kind = np.digitize(smooth, np.quantile(smooth, [0.2, 0.4, 0.6, 0.8]))
    return np.array([40, 200, 90, 240, 10], np.float32)[kind]


MODALITIES: dict[str, tuple[str, Callable[[Bands, np.random.Generator], Plane]]] = {
    "radar to red": ("B04", simulate_radar),
    "thermal to green": ("B03", simulate_thermal),
    "index to red": ("B04", compute_vegetation_index),
    "gradients to near infrared": ("B08", compute_gradient_sizes),
    "other season to green": ("B03", simulate_season),
    "map to near infrared": ("B08", simulate_map),
}
"""By name: the fixed band, and how the moving image is made."""


def _noisy(plane: Plane, rng: np.random.Generator, share: float) -> Plane:
    return np.asarray(plane + share * float(plane.std()) * rng.normal(size=plane.shape), np.float32)


def read_bands(names: Mapping[str, Any]) -> tuple[dict[str, Plane], Grid]:
    """Read single-band scenes of one extent, the coarser ones repeated onto the finest grid.

    Args:
        names: file of each band.
    """
    from regflow.io.rasters import read_raster_header, read_window

    planes, grids = {}, {}
    for name, path in names.items():
        header = read_raster_header(path)
        assert header.grid is not None
        rows, columns = header.grid.shape
        planes[name] = read_window(path, [1], slice(0, rows), slice(0, columns))[0][0].astype(np.float32)
        grids[name] = header.grid
    finest = max(grids.values(), key=lambda grid: grid.shape[0])
    for name, plane in planes.items():
        times = finest.shape[0] // plane.shape[0]
        planes[name] = np.repeat(np.repeat(plane, times, axis=0), times, axis=1)
    return planes, finest
