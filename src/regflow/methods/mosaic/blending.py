"""A window of a mosaic from the tiles that lie in it, each interpolated once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

BLENDS = ("feather", "sharpest", "first")
"""How overlaps are filled: weights that fall towards a tile's border, or one tile alone."""
INTERPOLATIONS = ("cubic", "nearest")
MARGIN = 2
"""Pixels around a window that cubic interpolation looks at."""


@dataclass(frozen=True, eq=False)
class PlacedTile:
    """A tile's part in a window.

    Attributes:
        rows: of the window that the tile covers.
        columns: likewise.
        values: ``(C, h, w)`` there.
        weights: ``(h, w)`` above 0.
    """

    rows: slice
    columns: slice
    values: Plane
    weights: Plane


def find_covered(start: float, size: int, window: slice) -> slice | None:
    """Return which pixels of a window along an axis lie within a tile, counted as the mosaic's are.

    Args:
        start: place of the tile's first pixel in the mosaic.
        size: its pixels.
        window: of the mosaic.
    """
    low = max(window.start, int(np.ceil(start - 1e-9)))
    high = min(window.stop, int(np.floor(start + size - 1 + 1e-9)) + 1)
    return slice(low, high) if low < high else None


def shift_pixels(values: Plane, before: tuple[float, float]) -> Plane:
    """Return values between the samples, by Keys' cubic convolution.

    Args:
        values: ``(C, h + 3, w + 3)`` samples, of which the result's first lies between the second and the
            third along both axes.
        before: how far behind the second, 0 to 1, along rows and columns.

    Returns:
        ``(C, h, w)``.
    """
    import cv2

    kernels = [_list_cubic_weights(part) for part in before]
    result = np.empty((values.shape[0], values.shape[1] - 3, values.shape[2] - 3), np.float32)
    for channel, plane in zip(result, values, strict=True):
        filtered = cv2.sepFilter2D(
            np.ascontiguousarray(plane), cv2.CV_32F, kernels[1], kernels[0], anchor=(1, 1)
        )
        channel[:] = filtered[1:-2, 1:-2]
    return result


def compute_border_weights(
    rows: slice, columns: slice, starts: tuple[float, float], shape: tuple[int, int], width: float
) -> Plane:
    """Return weights that rise from a tile's border to 1 at some distance.

    Args:
        rows: of the mosaic.
        columns: likewise.
        starts: row and column of the tile's first pixel in the mosaic.
        shape: rows and columns of the tile.
        width: pixels over which they rise.
    """
    ramps = []
    for part, start, size in zip((rows, columns), starts, shape, strict=True):
        place = np.arange(part.start, part.stop) - start
        depth = np.minimum(place, size - 1 - place) + 1
        ramps.append(np.clip(depth / width, 1e-3, 1))
    return np.asarray(np.minimum(ramps[0][:, None], ramps[1][None]), np.float32)


def merge_tiles(
    tiles: Iterator[PlacedTile], channels: int, shape: tuple[int, int], blend: str
) -> tuple[Plane, NDArray[np.bool_]]:
    """Fill a window.

    Args:
        tiles: those in the window; where one tile alone counts, the best one first.
        channels: of the tiles.
        shape: rows and columns of the window.
        blend: one of :data:`BLENDS`.

    Returns:
        Values ``(channels, *shape)``, 0 where no tile lies, and where one does.
    """
    sums = np.zeros((channels, *shape), np.float32)
    total = np.zeros(shape, np.float32)
    for tile in tiles:
        weights = tile.weights
        place = total[tile.rows, tile.columns]
        if blend != "feather":
            weights = np.where(place > 0, np.float32(0), np.float32(1))
        sums[:, tile.rows, tile.columns] += tile.values * weights
        total[tile.rows, tile.columns] = place + weights
    covered = total > 0
    np.divide(sums, total, out=sums, where=covered)
    return sums, covered


def measure_sharpness(values: Plane) -> float:
    """Return the spread of a tile's Laplacian over its mean brightness."""
    import cv2

    plane = np.ascontiguousarray(values, np.float32)
    return float(cv2.Laplacian(plane, cv2.CV_32F).std() / max(float(np.abs(plane).mean()), 1e-12))


def represent_samples(values: Plane, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Return values in a type of samples; whole numbers are rounded and kept within their range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype.name)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(dtype)


def _list_cubic_weights(part: float) -> NDArray[np.float32]:
    """Return the weights of the samples at -1, 0, 1 and 2 for a place between 0 and 1.

    Source: Keys, IEEE Trans. Acoustics, Speech and Signal Processing 29(6):1153-1160, 1981.
    """
    t = float(part)
    return np.array(
        [
            -0.5 * t**3 + t**2 - 0.5 * t,
            1.5 * t**3 - 2.5 * t**2 + 1,
            -1.5 * t**3 + 2 * t**2 + 0.5 * t,
            0.5 * t**3 - 0.5 * t**2,
        ],
        np.float32,
    )
