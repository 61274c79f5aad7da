"""How alike two pictures' edges are at every shift of one over the other, by FFT, within their masks."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.planar import Matrix, find_extent, map_points, resample_to
from regflow.methods.initialize.structure import EdgeStructure, compute_structure

MIN_OVERLAP = 0.1
"""Smallest overlap that counts, as a part of the smaller picture's valid pixels."""
FARTHER = 0.8
"""What a shift that is farther from the georeference counts for."""
SAME_PEAK = 6
"""Shifts within so many pixels of a maximum belong to it."""

Surface = NDArray[np.float32]


@dataclass(frozen=True)
class CorrelationPeak:
    """A maximum of a correlation surface.

    Attributes:
        shift: ``(x, y)`` pixels from a place in the fixed picture to its partner in the moving one.
        height: of the maximum.
        second_peak_ratio: the highest value elsewhere as a part of this one.
    """

    shift: NDArray[np.float64]
    height: float
    second_peak_ratio: float


def compute_similarity_surface(
    fixed: EdgeStructure, moving: EdgeStructure
) -> tuple[Surface, NDArray[np.intp]]:
    """Return the masked correlation at all shifts, times the root of the overlap.

    The correlation of what is unrelated has a spread of one over the root of the number of samples,
    so the product compares shifts of different overlap fairly.
    Source: Padfield, IEEE Trans. Image Processing 21(5):2706-2718, 2012.

    Returns:
        The surface, and the ``(x, y)`` shift of its first entry; shifts grow along both axes.
    """
    from scipy import fft

    shape = [fft.next_fast_len(a + b - 1) for a, b in zip(fixed.valid.shape, moving.valid.shape, strict=True)]

    def spectrum(plane: NDArray[np.generic]) -> NDArray[np.complex64]:
        return np.asarray(fft.rfft2(plane.astype(np.float32), shape))

    def back(product: NDArray[np.complex64]) -> NDArray[np.float32]:
        return np.asarray(fft.irfft2(product, shape))

    parts = [(np.real, np.real), (np.imag, np.imag)]
    top = back(
        sum(
            (np.conj(spectrum(a(fixed.edges))) * spectrum(b(moving.edges)) for a, b in parts),
            np.zeros(1, np.complex64),
        )
    )
    masks = [spectrum(part.valid) for part in (fixed, moving)]
    powers = [spectrum(np.abs(part.edges) ** 2) for part in (fixed, moving)]
    overlap = np.maximum(back(np.conj(masks[0]) * masks[1]), 0)
    energy = np.maximum(back(np.conj(powers[0]) * masks[1]), 0) * np.maximum(
        back(np.conj(masks[0]) * powers[1]), 0
    )
    enough = overlap > MIN_OVERLAP * min(fixed.valid.sum(), moving.valid.sum())
    scale = np.sqrt(np.divide(overlap, energy, out=np.zeros_like(energy), where=enough & (energy > 1e-6)))
    surface = np.fft.fftshift(top * scale)
    first = -np.array([shape[1] // 2, shape[0] // 2], dtype=np.intp)
    return surface, first


def find_highest_peak(
    surface: Surface, first: NDArray[np.intp], exclusion: int = SAME_PEAK
) -> CorrelationPeak:
    """Return the highest maximum of a surface, to a part of a pixel, and how far it stands out."""
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    height = float(surface[row, column])
    rest = surface.copy()
    rest[
        max(row - exclusion, 0) : row + exclusion + 1, max(column - exclusion, 0) : column + exclusion + 1
    ] = 0
    rival = float(rest.max())
    offset = np.zeros(2)
    if 0 < row < surface.shape[0] - 1 and 0 < column < surface.shape[1] - 1:
        patch = surface[row - 1 : row + 2, column - 1 : column + 2]
        offset = fit_subpixel_peak(patch[None].astype(np.float64))[0]
    shift = first + np.array([column, row]) + offset
    return CorrelationPeak(shift, height, rival / height if height > 0 else float("inf"))


def second_peak_ratio(fixed: Image, moving: Image, matrix: Matrix, start: Matrix | None = None) -> float:
    """Return how alike the pictures' edges are at the best other shift, as a part of a map's own.

    Where texture repeats, many shifts are nearly as good, and what decides between equals is where the
    georeference has the moving picture.

    Args:
        fixed: a picture, coarse.
        moving: a picture.
        matrix: from fixed to moving world points: the map that is doubted.
        start: the map of the georeference: shifts that are farther from it than the doubted map count for
            less, as long as they are no better. None where there is no georeference.
    """
    surface, row, column = compute_surface_about(
        fixed.grid, compute_structure(fixed), moving, matrix, _edges_seen
    )
    box = (
        slice(max(row - SAME_PEAK, 0), row + SAME_PEAK + 1),
        slice(max(column - SAME_PEAK, 0), column + SAME_PEAK + 1),
    )
    own = float(surface[box].max(initial=0))
    surface[box] = 0
    if not own > 0:
        return float("inf")
    highest = float(surface.max()) / own
    if start is None or highest > 1:
        return highest
    rows, columns = np.ogrid[: surface.shape[0], : surface.shape[1]]
    center = fixed.grid.center[None]
    back = map_points(np.asarray(np.linalg.inv(matrix), np.float64), map_points(start, center))
    right, down = (fixed.grid.to_index(back) - fixed.grid.to_index(center))[0]
    from_start = np.hypot(rows - row - down, columns - column - right)
    nearer = float(surface[from_start <= math.hypot(down, right) + SAME_PEAK].max(initial=0)) / own
    return max(nearer, FARTHER * highest)


def compute_surface_about(
    fixed: Grid,
    still: EdgeStructure,
    moving: Image,
    matrix: Matrix,
    seen: Callable[[Image, Grid, Matrix], EdgeStructure],
) -> tuple[Surface, int, int]:
    """Compare two pictures at all shifts that add to a map.

    Args:
        fixed: grid of a picture.
        still: what describes it.
        moving: a picture.
        matrix: from fixed to moving world points.
        seen: returns what describes a picture that a map brings onto a grid.

    Returns:
        :func:`compute_similarity_surface`, and the row and the column of the map itself.
    """
    low, high = find_extent(fixed, matrix, moving.grid)
    low, high = (
        np.floor(np.maximum(low, -np.array(fixed.size))),
        np.minimum(high, 2 * np.array(fixed.size)),
    )
    size = np.maximum(np.ceil(high - low).astype(int) + 1, 1)
    affine = fixed.affine.copy()
    affine[:2, 2] = fixed.to_world(low)
    surface, first = compute_similarity_surface(
        still, seen(moving, Grid((int(size[1]), int(size[0])), affine), matrix)
    )
    # In the pixels of the larger plane the map's own place is where that plane begins.
    column, row = (-low - first).astype(int)
    return surface, int(row), int(column)


def _edges_seen(image: Image, grid: Grid, matrix: Matrix) -> EdgeStructure:
    return compute_structure(resample_to(image, grid, matrix))


def fit_subpixel_peak(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where parabolas through 3 x 3 values have their maxima.

    Args:
        patches: ``(N, 3, 3)`` values around maxima.

    Returns:
        ``(N, 2)`` offsets ``(x, y)`` from the middle, at most 1; 0 where there is no maximum.
    """
    gx = (patches[:, :, 2] - patches[:, :, 0]).mean(axis=1) / 2
    gy = (patches[:, 2, :] - patches[:, 0, :]).mean(axis=1) / 2
    hxx = (patches[:, :, 2] - 2 * patches[:, :, 1] + patches[:, :, 0]).mean(axis=1)
    hyy = (patches[:, 2, :] - 2 * patches[:, 1, :] + patches[:, 0, :]).mean(axis=1)
    hxy = (patches[:, 2, 2] - patches[:, 2, 0] - patches[:, 0, 2] + patches[:, 0, 0]) / 4
    determinant = hxx * hyy - hxy**2
    sound = (determinant > 0) & (hxx < 0)
    safe = np.where(sound, determinant, 1.0)
    offsets = np.stack([(hxy * gy - hyy * gx) / safe, (hxy * gx - hxx * gy) / safe], axis=-1)
    return np.where(sound[:, None], np.clip(offsets, -1, 1), 0.0)


def taper_border(image: Image) -> NDArray[np.float32]:
    """Return values around zero that fade out towards the border of what is valid."""
    import cv2

    assert image.mask is not None
    reach = max(2.0, 0.1 * min(image.grid.shape))
    padded = np.pad(image.mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    taper = np.sin(0.5 * np.pi * np.minimum(depth / reach, 1)) ** 2
    mean = float((image.channel * taper).sum() / max(float(taper.sum()), 1e-6))
    return np.asarray((image.channel - mean) * taper, np.float32)
