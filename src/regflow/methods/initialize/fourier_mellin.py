"""Rotation, scale and shift by the Fourier-Mellin transform."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.correlation import taper_border
from regflow.methods.initialize.planar import (
    Matrix,
    find_matrix,
    make_pixel_pair,
    make_transform,
    masked_image,
)
from regflow.methods.initialize.pose_search import make_rotation, refine_best, search_similarities

ACROSS = 512
ANGLES = 720
"""Over half a turn: the spectrum of a real image repeats itself."""
RADII = 512
LOWEST = 4.0
"""Smallest radius of the spectrum that is looked at, in frequency samples."""
PEAKS = 3


def fourier_mellin(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Find rotation and scale from the spectra, the shift by correlation, and refine the best.

    The size of a spectrum does not know where things are, and in log-polar coordinates a rotation
    and a scale are a shift. Half turns look alike to it, so both are tried.
    Source: Reddy and Chatterji, IEEE Trans. Image Processing 5(8):1266-1271, 1996.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography; rotation and scale are sought around it.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, or windows agree at no pose.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    start = find_matrix(initial)
    still = options["model"] == "translation"
    linears = [np.eye(2)] if still else _linears(first, second, start)
    poses = search_similarities(first, second, start, linears, "sobel")
    found = refine_best(first, second, poses, options["model"], context.seed, "fourier-mellin")
    return make_transform(found.matrix, fixed.grid.center)


def _linears(fixed: Image, moving: Image, start: Matrix) -> list[NDArray[np.float64]]:
    """Return the likeliest ``(2, 2)`` rotations times scales of fixed points, by the spectra."""
    pair = make_pixel_pair(fixed, moving, start, ACROSS)
    side = max(*pair.fixed.grid.shape, *pair.moving.grid.shape)
    one, other = (_log_polar(taper_border(image), side) for image in (pair.fixed, pair.moving))
    # A pixel's rotation is the world's seen along the fixed axes.
    axes = pair.before[:2, :2]
    return [
        np.linalg.inv(axes) @ (scale * make_rotation(angle + half)) @ axes
        for angle, scale in _peaks(one, other, side)
        for half in (0.0, math.pi)
    ]


def _log_polar(plane: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the logarithm of the spectrum's size over angle and log radius, ``(ANGLES, RADII)``."""
    from scipy import fft
    from scipy.ndimage import map_coordinates

    size = fft.fftshift(np.abs(fft.fft2(plane, (side, side))))
    angles = np.arange(ANGLES)[:, None] * (math.pi / ANGLES)
    radii = LOWEST * np.exp(np.arange(RADII) * _step(side))
    middle = side // 2
    places = [middle + radii * np.sin(angles), middle + radii * np.cos(angles)]
    found = np.log1p(map_coordinates(size, places, np.float32, order=1, mode="nearest"))
    # Spectra fall with frequency whatever the image shows.
    found -= found.mean(axis=0)
    found /= found.std(axis=0) + 1e-6
    return np.asarray(found, np.float32)


def _peaks(fixed: NDArray[np.float32], moving: NDArray[np.float32], side: int) -> list[tuple[float, float]]:
    """Return the likeliest rotations in radians and scales, from fixed to moving."""
    from scipy import fft

    shape = (ANGLES, 2 * RADII)
    cross = np.conj(fft.rfft2(fixed, shape)) * fft.rfft2(moving, shape)
    surface = fft.irfft2(cross / np.maximum(np.abs(cross), 1e-12) ** 0.5, shape)
    found: list[tuple[float, float]] = []
    for _ in range(PEAKS):
        row, column = np.unravel_index(int(np.argmax(surface)), shape)
        shift = column - shape[1] if column > RADII else column
        # What is larger has a smaller spectrum.
        found.append((float(row) * math.pi / ANGLES, math.exp(-shift * _step(side))))
        rows = np.arange(row - 8, row + 9) % ANGLES
        columns = np.arange(column - 8, column + 9) % shape[1]
        surface[np.ix_(rows, columns)] = -np.inf
    return found


def _step(side: int) -> float:
    return math.log((side / 2 - 1) / LOWEST) / RADII
