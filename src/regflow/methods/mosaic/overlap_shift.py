"""How two overlapping tiles lie to one another, to a part of a pixel, and how sure that is.

Phase correlation of what may overlap gives a few candidates; normalized correlation over the pixels that
each candidate makes overlap chooses among them, and the coherence of their spectra gives the part of a pixel
and its uncertainty. Overlaps without texture give nothing.

Source of the search: Preibisch, Saalfeld and Tomancak, Bioinformatics 25(11):1463-1465, 2009.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.spectra import compute_spectra, measure_common_shift

Array = NDArray[np.float64]
Plane = NDArray[np.float32]
Window = tuple[slice, slice]

CANDIDATES = 6
"""Highest peaks of the phase correlation that are looked at."""
SAME_PEAK = 3
"""Shifts within so many pixels of a peak belong to it."""
FINE, COARSE = 0.8, 6.0
"""Blurs in pixels between which texture is compared: noise lies below, illumination above."""
NARROWEST = 8
"""Pixels across the narrowest overlap that is measured."""
WINDOW_SIDES = (64, 32, 16)
MOST_WINDOWS = 64
"""Windows of the measurement of a part of a pixel: their sides, and how many."""
SURE = 5.0
"""Decimal logarithm of one over the chance of such agreement between unrelated tiles, to be taken for one."""
LEAST_CORRELATION = 0.1
MOST_RIVALRY = 0.9
"""Correlation below which, and a second candidate's share of it above which, a link is refused."""
LEAST_SIGMA = 0.03
"""Pixels; what interpolation and sampling leave uncertain, however much texture there is."""


@dataclass(frozen=True, eq=False)
class OverlapShift:
    """Where one tile lies from another.

    Attributes:
        offset: ``(x, y)`` of the second tile's first pixel from the first one's, in pixels.
        sigma: standard deviation of a coordinate, in pixels.
        correlation: of the texture in the overlap, at most 1.
        neg_log10_p: decimal logarithm of one over the chance that unrelated tiles agree so well.
        second_peak_ratio: correlation of the next best candidate, by its significance, as a part of this.
        log_ratio: logarithm of the first tile's mean over the second's, in the overlap.
        pixels: of the overlap.
    """

    offset: Array
    sigma: float
    correlation: float
    neg_log10_p: float
    second_peak_ratio: float
    log_ratio: float
    pixels: int

    @property
    def is_reliable(self) -> bool:
        """Whether the tiles agree by more than chance, and nowhere else as well."""
        return (
            self.neg_log10_p >= SURE
            and self.correlation >= LEAST_CORRELATION
            and self.second_peak_ratio <= MOST_RIVALRY
        )


@dataclass(frozen=True)
class _OffsetCandidate:
    """A whole-pixel offset, and how alike the overlap is there."""

    offset: tuple[int, int]
    correlation: float
    significance: float


def find_overlap_windows(
    first: tuple[int, int], second: tuple[int, int], expected: Array, reach: float
) -> tuple[Window, Window] | None:
    """Return the parts of two tiles that may overlap.

    Args:
        first: rows and columns of the first tile.
        second: of the second.
        expected: ``(x, y)`` offset of the second tile in pixels.
        reach: by how much the offset may differ along each axis.

    Returns:
        Rows and columns of either; None where not enough can overlap.
    """
    ours: list[slice] = []
    theirs: list[slice] = []
    for here, there, offset in zip(first, second, expected[::-1], strict=True):
        ours.append(_clip(offset - reach, there + offset + reach, here))
        theirs.append(_clip(-offset - reach, here - offset + reach, there))
    if min(part.stop - part.start for part in (*ours, *theirs)) < NARROWEST:
        return None
    return (ours[0], ours[1]), (theirs[0], theirs[1])


def measure_overlap_shift(
    first: Plane, second: Plane, origins: tuple[Array, Array], expected: Array, reach: float
) -> OverlapShift | None:
    """Measure the offset between two tiles from the parts of them that may overlap.

    Args:
        first: ``(rows, columns)`` part of the first tile.
        second: of the second.
        origins: ``(x, y)`` of the parts' first pixels within their tiles.
        expected: ``(x, y)`` offset of the second tile, in pixels.
        reach: by how much the offset may differ along each axis.

    Returns:
        The offset; None where there is no texture or no agreement.
    """
    textures = filter_texture(first), filter_texture(second)
    start = expected - origins[0] + origins[1]
    found = _choose_candidates(textures, start, reach)
    if not found:
        return None
    best = found[0]
    offset = np.array(best.offset, np.float64)
    cut = _cut_overlap(first, second, best.offset)
    measured = _measure_part(*cut)
    if measured is None:
        return None
    shift, sigma, neg_log10_p = measured
    rival = found[1].significance / best.significance if len(found) > 1 else 0.0
    means = [float(part.mean(dtype=np.float64)) for part in cut]
    positive = min(means) > 0
    return OverlapShift(
        offset - shift + origins[0] - origins[1],
        sigma,
        best.correlation,
        neg_log10_p,
        max(rival, 0.0),
        float(np.log(means[0] / means[1])) if positive else 0.0,
        int(cut[0].size),
    )


def filter_texture(values: Plane) -> Plane:
    """Return what lies between noise and illumination in a part of a tile."""
    import cv2

    values = np.ascontiguousarray(values, np.float32)
    fine = cv2.GaussianBlur(values, (0, 0), FINE, borderType=cv2.BORDER_REFLECT)
    return np.asarray(fine - cv2.GaussianBlur(values, (0, 0), COARSE, borderType=cv2.BORDER_REFLECT))


def _clip(low: float, high: float, size: int) -> slice:
    start, stop = max(0, int(np.floor(low))), min(size, int(np.ceil(high)))
    return slice(start, max(start, stop))


def _choose_candidates(textures: tuple[Plane, Plane], start: Array, reach: float) -> list[_OffsetCandidate]:
    """Return whole offsets by falling significance; significant overlaps alone."""
    peaks = _find_peaks(*textures, start, reach)
    candidates = [found for peak in peaks if (found := _compare_overlap(*textures, peak)) is not None]
    return sorted(candidates, key=lambda each: (-each.significance, each.offset))


def _find_peaks(first: Plane, second: Plane, start: Array, reach: float) -> list[tuple[int, int]]:
    """Return ``(x, y)`` whole offsets of the second part at the highest peaks of the phase correlation."""
    from scipy import fft

    low, high = np.floor(start - reach).astype(int), np.ceil(start + reach).astype(int)
    spans = (high - low + 1)[::-1]
    sizes = zip(first.shape, second.shape, spans, strict=True)
    shape = [fft.next_fast_len(int(max(a, b, span)), real=True) for a, b, span in sizes]
    cross = fft.rfft2(_taper(first), shape) * np.conj(fft.rfft2(_taper(second), shape))
    size = np.abs(cross)
    cross = np.divide(cross, size, out=np.zeros_like(cross), where=size > 1e-6 * float(size.max()) + 1e-30)
    fy, fx = np.meshgrid(fft.fftfreq(shape[0]), fft.rfftfreq(shape[1]), indexing="ij")
    surface = fft.irfft2(cross * np.exp(-8.0 * (fx**2 + fy**2)).astype(np.float32), shape)
    rows = np.arange(low[1], high[1] + 1)
    columns = np.arange(low[0], high[0] + 1)
    sought = np.asarray(surface[np.ix_(rows % shape[0], columns % shape[1])])
    peaks: list[tuple[int, int]] = []
    for _ in range(CANDIDATES):
        row, column = np.unravel_index(int(np.argmax(sought)), sought.shape)
        if not sought[row, column] > 0:
            break
        peaks.append((int(columns[column]), int(rows[row])))
        sought[
            max(row - SAME_PEAK, 0) : row + SAME_PEAK + 1, max(column - SAME_PEAK, 0) : column + SAME_PEAK + 1
        ] = 0
    return peaks


def _taper(texture: Plane) -> Plane:
    """Fade a part's borders out, which would be edges else."""
    ramps = []
    for size in texture.shape:
        width = max(1, min(16, size // 8))
        ramp = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)) / (width + 1)
        ramps.append(np.minimum(ramp, 1).astype(np.float32))
    return np.asarray(texture * ramps[0][:, None] * ramps[1])


def _cut_overlap(first: NDArray[np.float32], second: Plane, offset: tuple[int, int]) -> tuple[Plane, Plane]:
    """Return what overlaps when the second part begins ``(x, y)`` pixels from the first one's beginning."""
    ours, theirs = [], []
    for here, there, shift in zip(first.shape, second.shape, offset[::-1], strict=True):
        ours.append(slice(max(0, shift), max(0, min(here, there + shift))))
        theirs.append(slice(max(0, -shift), max(0, min(there, here - shift))))
    return first[ours[0], ours[1]], second[theirs[0], theirs[1]]


def _compare_overlap(first: Plane, second: Plane, offset: tuple[int, int]) -> _OffsetCandidate | None:
    one, other = _cut_overlap(first, second, offset)
    if min(one.shape) < NARROWEST:
        return None
    one, other = one - one.mean(), other - other.mean()
    energy = float((one**2).sum(dtype=np.float64)) * float((other**2).sum(dtype=np.float64))
    if not energy > 0:
        return None
    correlation = float((one * other).sum(dtype=np.float64)) / energy**0.5
    # Correlations of what is unrelated spread with one over the root of the number of samples.
    return _OffsetCandidate(offset, correlation, correlation * one.size**0.5) if correlation > 0 else None


def _measure_part(one: Plane, other: Plane) -> tuple[Array, float, float] | None:
    """Return the shift ``(x, y)`` between overlapping parts, its deviation, and how unlikely chance is."""
    side = next((side for side in WINDOW_SIDES if side <= min(one.shape)), None)
    if side is None:
        side = NARROWEST
    grid = Grid(one.shape, np.eye(3))
    mask = np.ones(one.shape, bool)
    still, moving = (Image(np.ascontiguousarray(part)[None], grid, mask) for part in (one, other))
    spectra = compute_spectra(still, moving, side, MOST_WINDOWS)
    if spectra is None:
        return None
    found = measure_common_shift(spectra)
    if float(np.abs(found.pixels).max()) > SAME_PEAK / 2:
        return None
    sigma = max(LEAST_SIGMA, float(np.sqrt(np.mean(found.sigma**2))))
    return found.pixels, sigma, found.neg_log10_p
