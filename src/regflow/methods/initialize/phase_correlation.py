"""Translation by phase correlation: coarse over all shifts, then fine by the phases themselves."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.correlation import taper_border
from regflow.methods.initialize.linear_refinement import refine_linear
from regflow.methods.initialize.planar import (
    Matrix,
    coarsen_to,
    find_common_spacing,
    find_extent,
    find_matrix,
    index_transform,
    make_transform,
    map_points,
    masked_image,
    resample_to,
    shift_map,
)
from regflow.methods.initialize.spectra import CommonShift, compute_spectra, measure_common_shift

log = logging.getLogger(__name__)

COARSE_ACROSS = 512
"""Pixels along the longest side of either image at which all shifts are compared."""
LARGEST_CANVAS = 4096
PASS_BAND = 0.25
"""Frequency in cycles per pixel at which the coarse comparison trusts phases by 1/e."""
CANDIDATES = 6
SAME_PEAK = 3
WINDOW = 64
LEAST_WINDOW = 16
SCREENING_WINDOWS = 196
WINDOWS = 400
"""Windows that choose among candidates, and that measure the chosen one and what it is worth."""
WORTH_A_LOOK = 3.0
CERTAIN = 6.0
"""Decimal logarithm of one over the chance of a peak as high between unrelated images: from
where windows and the gate are asked, as small scenes have no more to give, and from where nobody
needs to be."""
OVERWHELMING = 30.0
"""The same, from where nothing better is sought than what lies near the georeference."""
STEPS = 6


@dataclass(frozen=True)
class PhaseShift:
    """What phase correlation says of two pictures.

    Attributes:
        matrix: ``(3, 3)`` from fixed to moving world points.
        sigma: standard deviation of the shift along x and y, in pixels of the common spacing, from
            the coherence of the pictures.
        reliability: decimal logarithm of one over the probability that unrelated pictures agree so
            well at some shift; above :data:`CERTAIN` the shift is not chance.
    """

    matrix: Matrix
    sigma: NDArray[np.float64]
    reliability: float


def phase_correlation(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Find the translation, and from there what the windows of both images ask for.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise; any overlap above a tenth will do, at any shift.
        initial: affine or homography; where the georeference says the moving image is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, or no shift stands out.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    alone = options["model"] == "translation"
    found = measure_phase_shift(first, second, find_matrix(initial), fine=alone)
    if found.reliability < WORTH_A_LOOK:
        raise RegistrationError(
            f"phase-correlation: no shift stands out: its reliability is {found.reliability:.1f}, "
            f"below {WORTH_A_LOOK:g}"
        )
    matrix = found.matrix
    if not alone:
        matrix = refine_linear(first, second, matrix, options["model"], seed=context.seed).matrix
    return make_transform(matrix, fixed.grid.center)


def measure_phase_shift(fixed: Image, moving: Image, matrix: Matrix, *, fine: bool = True) -> PhaseShift:
    """Find the translation between two pictures, whatever their overlap.

    Args:
        fixed: a picture.
        moving: a picture.
        matrix: from fixed to moving world points, right but for a translation.
        fine: follow the phases down to the pictures' own pixels, also where a coarse look is certain.

    Raises:
        RegistrationError: the images have too little in common at any shift.
    """
    spacing = find_common_spacing(fixed.grid, moving.grid, matrix)
    extents = [find_extent(fixed.grid, np.eye(3), fixed.grid), find_extent(fixed.grid, matrix, moving.grid)]
    longest = float(max((high - low).max() for low, high in extents)) * float(fixed.grid.spacing.max())
    coarse = max(spacing, longest / COARSE_ACROSS)
    plane = coarsen_to(fixed, coarse)
    best = _climbed(plane, moving, matrix, SCREENING_WINDOWS)
    if best is None or best.reliability < OVERWHELMING:
        for candidate in _candidates(plane, moving, matrix):
            found = _climbed(plane, moving, candidate, SCREENING_WINDOWS)
            if found is not None and (best is None or found.reliability > best.reliability):
                best = found
    if best is None:
        raise RegistrationError("phase-correlation: the images have too little in common at any shift")
    best = _climbed(plane, moving, best.matrix, WINDOWS) or best
    if coarse > spacing * 1.01 and (fine or best.reliability < CERTAIN):
        finer = _climbed(coarsen_to(fixed, spacing), moving, best.matrix, WINDOWS)
        # Local distortion can undo the agreement of fine details that the coarse images have.
        if finer is not None and finer.reliability >= CERTAIN:
            return finer
    return best


def _candidates(fixed: Image, moving: Image, matrix: Matrix) -> list[Matrix]:
    """Return the translations at the highest peaks of the whitened correlation."""
    from scipy import fft

    low, high = find_extent(fixed.grid, matrix, moving.grid)
    size = np.ceil(high - low).astype(int) + 1
    if size.max() > LARGEST_CANVAS:
        raise RegistrationError("phase-correlation: one image is many times larger than the other; crop it")
    affine = fixed.grid.affine.copy()
    affine[:2, 2] = fixed.grid.to_world(np.floor(low))
    there = resample_to(moving, Grid((int(size[1]), int(size[0])), affine), matrix)
    if not (there.mask is not None and there.mask.any()):
        return []
    shape = [fft.next_fast_len(a + b) for a, b in zip(fixed.grid.shape, there.grid.shape, strict=True)]
    first, second = (fft.rfft2(taper_border(part), shape) for part in (fixed, there))
    cross = np.conj(first) * second
    fx, fy = np.meshgrid(fft.rfftfreq(shape[1]), fft.fftfreq(shape[0]))
    size_of = np.abs(cross)
    unit = np.divide(cross, size_of, out=np.zeros_like(cross), where=size_of > 1e-12 * size_of.max())
    surface = np.abs(fft.irfft2(unit * np.exp(-(fx**2 + fy**2) / PASS_BAND**2).astype(np.float32), shape))
    starts = []
    for _ in range(CANDIDATES):
        row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
        shift = np.array(
            [
                _signed(int(column), fixed.grid.size[0], shape[1]),
                _signed(int(row), fixed.grid.size[1], shape[0]),
            ]
        )
        starts.append(shift_map(fixed.grid, matrix, shift + np.floor(low)))
        rows, columns = (np.arange(-SAME_PEAK, SAME_PEAK + 1) + at for at in (row, column))
        surface[np.ix_(rows % shape[0], columns % shape[1])] = 0
    return starts


def _climbed(fixed: Image, moving: Image, matrix: Matrix, windows: int) -> PhaseShift | None:
    """Follow the phases from one translation until it stays; None where the overlap is too small."""
    size = int(np.clip(2 ** int(math.log2(max(min(fixed.grid.shape) / 3, 1))), LEAST_WINDOW, WINDOW))
    found: CommonShift | None = None
    for _ in range(STEPS):
        whole = _whole(fixed.grid, moving.grid, matrix)
        parts = compute_spectra(fixed, resample_to(moving, fixed.grid, whole), size, windows)
        if parts is None:
            return None
        found = measure_common_shift(parts)
        before, matrix = matrix, shift_map(fixed.grid, whole, found.pixels)
        if (
            np.abs(found.pixels).max() < 0.75
            or np.abs(matrix - before).max() < 0.05 * fixed.grid.spacing.min()
        ):
            break
    assert found is not None
    return PhaseShift(matrix, found.sigma, found.neg_log10_p)


def _whole(fixed: Grid, moving: Grid, matrix: Matrix) -> Matrix:
    """Move a map by less than a pixel so that pixels fall on pixels: interpolation is never exact."""
    if fixed.ndim != 2:
        return matrix
    index = index_transform(moving, fixed, matrix)
    place = map_points(index, np.zeros((1, 2)))[0]
    back = np.linalg.inv(index[:2, :2]) @ (np.rint(place) - place)
    return shift_map(fixed, matrix, back)


def _signed(position: int, fixed: int, length: int) -> int:
    """Return the shift that a position on a circle of shifts means."""
    return position - length if position >= length - fixed else position
