"""The translation under which the gradients of two images are most alike, and how sure it is.

The gradients as complex numbers, compared over all shifts within the masks, use every pixel:
illumination and slow seasonal change have none, and how far the peak rises above the rest of the
surface tells what it is worth.

Source: Argyriou and Vlachos, Electronics Letters 39(13):980-982, 2003; the masks as in
:mod:`regflow.methods.initialize.correlation`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.correlation import SAME_PEAK, compute_surface_about, fit_subpixel_peak
from regflow.methods.initialize.planar import (
    Matrix,
    coarsen_to,
    find_common_spacing,
    resample_to,
    shift_map,
    smooth_valid_gaussian,
)
from regflow.methods.initialize.structure import EdgeStructure, erode_mask

SIGMA = 0.8
"""Blur in pixels before the gradient."""
ACROSS = 1024
"""Most pixels along the fixed picture's longest side."""
SMALL = 128 * 128
"""Valid pixels that both pictures share, up to which all of them together say more than windows do."""
SURE = 4.0
"""Decimal logarithm of one over the chance of such a peak between unrelated pictures, from which it is
taken for the pictures' own."""
CONTINUED_SIGMA = 2.0
VALID_SHARE = 0.75
"""How far values are continued into gaps, pixels, and how valid a place between samples must be."""
PIXELS_EACH = 8.0
"""Pixels' worth of blurred gradients that make one independent sample, roughly."""
STEPS, STILL = 8, 0.005
"""Steps of the climb to a part of a pixel at most, and one that is as good as none."""


@dataclass(frozen=True)
class GradientShift:
    """What the gradients of two pictures say.

    Attributes:
        matrix: ``(3, 3)`` from fixed to moving world points.
        pixels: length of the shift from where it was sought, in pixels of the coarser picture.
        correlation: of the gradients there, at most 1.
        neg_log10_p: decimal logarithm of one over the probability of so high a peak by chance.
        second_peak_ratio: similarity at the best other shift as a part of that here.
        samples: valid pixels that both share.
    """

    matrix: Matrix
    pixels: float
    correlation: float
    neg_log10_p: float
    second_peak_ratio: float
    samples: int

    @property
    def information(self) -> float:
        """What the gradients leave unexplained, times how many there are: lower is better.

        Differences of it compare with those of Schwarz's criterion.
        """
        count = max(self.samples / PIXELS_EACH, 2.0)
        return count * math.log(max(1 - max(self.correlation, 0.0) ** 2, 1e-6))


def has_few_pixels(fixed: Image, moving: Image, matrix: Matrix) -> bool:
    """Tell whether so few pixels are valid in both pictures that windows say less than all of them."""
    spacing = find_common_spacing(fixed.grid, moving.grid, matrix)
    pixels = np.prod(np.array(fixed.grid.size) * fixed.grid.spacing / spacing)
    if pixels > 4 * SMALL:
        return False
    plane = coarsen_to(fixed, spacing)
    there = resample_to(moving, plane.grid, matrix)
    assert plane.mask is not None
    assert there.mask is not None
    return int((plane.mask & there.mask).sum()) <= SMALL


def measure_gradient_shift(
    fixed: Image, moving: Image, matrix: Matrix, reach: float | None = None
) -> GradientShift | None:
    """Find the translation under which the gradients of two pictures are most alike.

    Args:
        fixed: a picture.
        moving: a picture.
        matrix: from fixed to moving world points, right but for a translation.
        reach: how far to look, in pixels of the coarser picture; everywhere when None.

    Returns:
        The shift; None where no overlap is large enough.
    """
    longest = float((np.array(fixed.grid.size) * fixed.grid.spacing).max())
    plane = coarsen_to(fixed, max(find_common_spacing(fixed.grid, moving.grid, matrix), longest / ACROSS))
    still, whole = compute_gradients(plane), _continued(moving)
    surface, row, column = compute_surface_about(plane.grid, still, whole, matrix, _seen)
    rows, columns = np.ogrid[: surface.shape[0], : surface.shape[1]]
    sought = surface
    if reach is not None:
        sought = np.where(np.hypot(rows - row, columns - column) <= reach, surface, 0)
    top, left = np.unravel_index(int(np.argmax(sought)), sought.shape)
    height = float(surface[top, left])
    away = (np.abs(rows - top) > SAME_PEAK) | (np.abs(columns - left) > SAME_PEAK)
    rest = surface[away & (surface != 0)]
    if height <= 0 or rest.size == 0:
        return None
    deviations = height / math.sqrt(float(np.square(rest, dtype=np.float64).mean()))
    tries = max(rest.size / PIXELS_EACH, 1.0)
    neg_log10_p = max(0.0, deviations**2 / 2 / math.log(10) - math.log10(tries))
    shift = np.array([left - column, top - row], np.float64)
    shift, correlation, samples = _climbed(plane.grid, still, whole, matrix, shift)
    second_peak_ratio = float(rest.max()) / height
    length = float(np.linalg.norm(shift))
    moved = shift_map(plane.grid, matrix, shift)
    return GradientShift(moved, length, correlation, neg_log10_p, second_peak_ratio, samples)


def find_significant_shift(fixed: Image, moving: Image, matrix: Matrix, reach: float) -> GradientShift | None:
    """Return :func:`measure_gradient_shift` where it stands out from chance, else None."""
    found = measure_gradient_shift(fixed, moving, matrix, reach)
    return None if found is None or found.neg_log10_p < SURE else found


def compute_gradients(image: Image) -> EdgeStructure:
    """Return the gradients of a picture as complex numbers, ``x`` real; 0 where they are not known."""
    import cv2

    assert image.mask is not None
    flat = smooth_valid_gaussian(image.channel, image.mask, SIGMA)
    gx, gy = (cv2.Scharr(flat, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    # An edge of the mask is no edge of the scene.
    valid = erode_mask(image.mask, 1)
    return EdgeStructure(np.where(valid, gx + 1j * gy, 0).astype(np.complex64), valid)


def _continued(image: Image) -> Image:
    """Return a picture of two channels: its values, continued where they are not valid, and its mask.

    Interpolation reaches three samples far: where gaps are narrow hardly a place would have them all.
    """
    assert image.mask is not None
    mask = image.mask.astype(np.float32)
    values = np.where(
        image.mask, image.channel, smooth_valid_gaussian(image.channel, image.mask, CONTINUED_SIGMA)
    )
    return Image(np.stack([values, mask]), image.grid, np.ones_like(image.mask))


def _seen(continued: Image, grid: Grid, matrix: Matrix) -> EdgeStructure:
    """Return the gradients of a picture of :func:`_continued` that a map brings onto a grid."""
    planes = (Image(channel[None], continued.grid, continued.mask) for channel in continued.data)
    values, shares = (resample_to(plane, grid, matrix) for plane in planes)
    assert shares.mask is not None
    return compute_gradients(values.with_mask(shares.mask & (shares.channel > VALID_SHARE)))


def _climbed(
    grid: Grid, still: EdgeStructure, moving: Image, matrix: Matrix, shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, int]:
    """Climb from a whole shift in pixels to the maximum, bringing the moving picture anew each time.

    Returns:
        The shift, the correlation there, and how many valid pixels both pictures share.
    """
    for _ in range(STEPS):
        there = _seen(moving, grid, shift_map(grid, matrix, shift))
        patch = _around(still, there)
        step = fit_subpixel_peak(patch[None])[0]
        if np.abs(step).max() < STILL:
            break
        shift = shift + step
    return shift, float(patch[1, 1]), int((still.valid & there.valid).sum())


def _around(still: EdgeStructure, there: EdgeStructure) -> NDArray[np.float64]:
    """Return the correlation at shifts of -1, 0 and 1 pixel along both axes, ``(3, 3)`` by row and column."""
    patch = np.zeros((3, 3))
    for down, right in np.ndindex(3, 3):
        a, b = _overlap(still, 1 - down, 1 - right), _overlap(there, down - 1, right - 1)
        valid = a.valid & b.valid
        one, other = a.edges[valid].astype(np.complex128), b.edges[valid].astype(np.complex128)
        energy = float(np.vdot(one, one).real * np.vdot(other, other).real)
        patch[down, right] = np.vdot(one, other).real / math.sqrt(energy) if energy > 0 else 0.0
    return patch


def _overlap(part: EdgeStructure, down: int, right: int) -> EdgeStructure:
    """Return what is left of a plane when it is moved up and left by so many pixels, 1 at most."""
    rows, columns = part.valid.shape
    kept = (
        slice(max(down, 0), rows + min(down, 0)),
        slice(max(right, 0), columns + min(right, 0)),
    )
    return EdgeStructure(part.edges[kept], part.valid[kept])
