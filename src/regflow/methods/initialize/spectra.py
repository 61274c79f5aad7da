"""Shifts to a hundredth of a pixel from the phases of windows' cross-spectra.

The cross-spectra of many windows, averaged, tell for each frequency how much of one picture is in
the other: the coherence. Frequencies weighted by it give the shift with the least variance, and
that variance too. Whitening so makes the estimate one of edges and fine texture; illumination,
seasons and shadows differ mostly in low frequencies, which hold large areas of slow phase and pull
a plain correlation aside (red to near infrared: by more than a pixel at 0.05 cycles per pixel, by
nothing above 0.2). The sign of the contrast is taken per ring of frequencies, so inverted contrast
is no matter.

Source: Knapp and Carter, IEEE Trans. Acoustics, Speech and Signal Processing 24(4):320-327, 1976;
Kuglin and Hines, Proc. Int. Conf. Cybernetics and Society, 163-165, 1975.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.methods.initialize.windows import cut_windows, place_windows

MIN_VALID = 0.75
"""Part of a window that must be valid in both pictures."""
LOWEST = 0.1
HIGHEST = 0.45
"""Frequencies used, in cycles per pixel: below is illumination, above is what interpolation spoils."""
RINGS = 12
MAX_COHERENCE = 0.95
"""Coherence is never trusted beyond this: a few frequencies must not outvote all others."""
LEAKAGE = 1e-4
"""Below this part of the highest power a frequency holds what leaked from others."""
TAPER_SPREAD = 2.25
"""Neighboring frequencies that a Hann taper makes one."""
OVERLAP_LOSS = 1.3
CHANCE_DEVIATIONS = 4.0
"""How far above its mean chance must not lift a ring's coherence, in standard deviations."""
NEWTON_STEPS = 8
STILL = 1e-4
"""A step in pixels below which a window has arrived."""

Complex = NDArray[np.complex64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spectra:
    """Cross-spectra of windows and how far each frequency can be trusted.

    Attributes:
        points: ``(N, 2)`` centers ``(x, y)`` of the windows in pixels.
        cross: ``(N, n, n // 2 + 1)`` unit cross-spectra, fixed to moving, contrast made positive.
        total: ``(n, n // 2 + 1)`` the phases of their sum.
        weights: ``(n, n // 2 + 1)`` coherence over the rest, times the squared frequency; 0 where it is
            chance.
        frequencies: ``(2, n, n // 2 + 1)`` angular frequencies along x and y, radians per pixel.
        size: side of a window.
        independent: windows' worth of independent information.
    """

    points: Array
    cross: Complex
    total: Complex
    weights: NDArray[np.float32]
    frequencies: NDArray[np.float32]
    size: int
    independent: float

    @property
    def noise(self) -> float:
        """Standard deviation of the fit of one window's phases where they are unrelated."""
        weights = self.weights.astype(np.float64)
        return math.sqrt(0.5 * TAPER_SPREAD * float((weights**2).sum())) / max(float(weights.sum()), 1e-12)


@dataclass(frozen=True)
class CommonShift:
    """A shift of all windows together.

    Attributes:
        pixels: ``(x, y)`` from fixed to moving.
        sigma: standard deviation along each axis, in pixels, as the coherence has it.
        fit: agreement of the phases with the shift, at most 1.
        neg_log10_p: decimal logarithm of one over the probability that unrelated pictures agree so
            well at some shift.
    """

    pixels: Array
    sigma: Array
    fit: float
    neg_log10_p: float


def compute_spectra(fixed: Image, moving: Image, size: int, most: int) -> Spectra | None:
    """Return the cross-spectra of windows of two pictures on one grid; None when none is valid enough.

    Args:
        fixed: a picture.
        moving: a picture on the same grid, at most half a window off.
        size: side of a window in pixels.
        most: about how many windows, evenly spread.
    """
    from scipy import fft

    assert fixed.mask is not None
    assert moving.mask is not None
    valid = fixed.mask & moving.mask
    starts, step = place_windows(valid, size, most, MIN_VALID)
    if len(starts) == 0:
        return None
    taper = np.hanning(size + 2)[1:-1].astype(np.float32)
    window = cut_windows(valid, starts, size) * np.outer(taper, taper)
    first, second = (
        fft.rfft2(_centered(cut_windows(p.channel, starts, size), window)) for p in (fixed, moving)
    )
    cross = np.conj(first) * second
    power = (np.abs(first) ** 2).sum(axis=0) * (np.abs(second) ** 2).sum(axis=0)
    total = cross.sum(axis=0)
    independent = len(starts) * min(1.0, (2 * step / size) ** 2)
    rings = _rings(size)
    coherence = _smoothed(np.abs(total) ** 2 / np.maximum(power, 1e-30), rings)
    chance = np.float32(min(1.0, _chance(independent, rings)))
    known = np.clip((coherence - chance) / (1 - chance) if chance < 1 else 0 * coherence, 0, MAX_COHERENCE)
    seen = _smoothed(power, rings)
    used = (rings > 0) & (seen > LEAKAGE**2 * seen.max())
    fx, fy = np.meshgrid(fft.rfftfreq(size), fft.fftfreq(size))
    # What differs between bands and seasons though it lies alike, shadows first, fades with frequency.
    weights = np.where(used, known / (1 - known) * (fx**2 + fy**2) / HIGHEST**2, 0).astype(np.float32)
    return Spectra(
        np.asarray(starts[:, ::-1] + (size - 1) / 2, np.float64),
        _unit(cross),
        _unit(total),
        weights,
        (2 * math.pi * np.stack([fx, fy])).astype(np.float32),
        size,
        independent,
    )


def measure_common_shift(found: Spectra) -> CommonShift:
    """Return the shift of all windows together: the highest peak, then Newton's steps."""
    from scipy import fft

    surface = fft.irfft2(found.total * found.weights, (found.size, found.size))
    y, x = np.unravel_index(int(np.argmax(np.abs(surface))), surface.shape)
    sign = math.copysign(1.0, surface[y, x])
    start = np.array([[(x + found.size // 2) % found.size, (y + found.size // 2) % found.size]], float)
    pixels, curvature, fit = _climb(found, sign * found.total[None], start - found.size // 2)
    # Each weight is the inverse variance of a phase of one window; windows add up.
    covariance = np.linalg.pinv(curvature[0] * 2 * found.independent)
    sigma = np.sqrt(np.maximum(np.diag(covariance), 0))
    # The sum of unrelated unit phases is normal; every shift is one try.
    weights = found.weights.astype(np.float64)
    deviations = float(fit[0]) * weights.sum() / math.sqrt(max(0.5 * float((weights**2).sum()), 1e-12))
    neg_log10_p = 0.5 * deviations**2 / TAPER_SPREAD / math.log(10) - 2 * math.log10(found.size)
    return CommonShift(pixels[0], sigma, float(fit[0]), max(0.0, neg_log10_p))


def measure_window_shifts(found: Spectra) -> tuple[Array, Array]:
    """Return each window's own shift ``(N, 2)`` near the common one, and how well its phases fit ``(N,)``.

    Windows are sought within half a pixel or so of the shift of all together. Frequencies at which
    the contrast is inverted are turned over, ring by ring.
    """
    common = measure_common_shift(found).pixels
    turn = np.exp(1j * np.tensordot(common.astype(np.float32), found.frequencies, 1)).astype(np.complex64)
    rings = _rings(found.size)
    votes = np.bincount(rings.ravel(), (found.weights * (found.total * turn).real).ravel(), RINGS + 1)
    signs = np.sign(votes).astype(np.float32)[rings]
    pixels, _, fit = _climb(found, found.cross * turn * signs, np.zeros((len(found.cross), 2)))
    return pixels + common, fit


def _climb(found: Spectra, cross: Complex, start: Array) -> tuple[Array, Array, Array]:
    """Climb the weighted agreement of phases by Gauss-Newton steps.

    Returns:
        Shifts ``(N, 2)``, the agreement's curvature ``(N, 2, 2)``, and its share of the highest
        possible ``(N,)``.
    """
    used = found.weights > 0
    weights = found.weights[used]
    omega = found.frequencies[:, used]
    phases = cross[:, used]
    total = max(float(weights.sum()), 1e-12)
    form = np.einsum("if,jf,f->ij", omega, omega, weights, dtype=np.float64) + 1e-9 * np.eye(2)
    shifts = start.copy()
    fit = np.zeros(len(start))
    moving = np.arange(len(start))
    for _ in range(NEWTON_STEPS):
        turned = phases[moving] * np.exp(1j * (shifts[moving].astype(np.float32) @ omega))
        fit[moving] = (turned.real @ weights).astype(np.float64) / total
        slope = -(turned.imag * weights) @ omega.T
        step = np.linalg.solve(form, slope.astype(np.float64).T).T / np.maximum(fit[moving], 0.2)[:, None]
        shifts[moving] += np.clip(step, -0.5, 0.5)
        moving = moving[np.abs(step).max(axis=1) > STILL]
        if len(moving) == 0:
            break
    return shifts, form * np.maximum(fit, 1e-3)[:, None, None], fit


def _centered(windows: NDArray[np.float32], taper: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take each window's weighted mean away and taper it; strong windows do not outvote weak ones."""
    total = np.maximum(taper.sum(axis=(1, 2), keepdims=True), 1e-6)
    tapered = (windows - (windows * taper).sum(axis=(1, 2), keepdims=True) / total) * taper
    power = np.sqrt((tapered**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(np.divide(tapered, power, out=np.zeros_like(tapered), where=power > 0))


def _unit(values: Complex) -> Complex:
    size = np.abs(values)
    return np.divide(values, size, out=np.zeros_like(values), where=size > 1e-20)


def _rings(size: int) -> NDArray[np.intp]:
    """Return the ring of each frequency from 1, and 0 for those that are not used."""
    from scipy import fft

    fx, fy = np.meshgrid(fft.rfftfreq(size), fft.fftfreq(size))
    radius = np.hypot(fx, fy)
    ring = 1 + ((radius - LOWEST) * (RINGS / (HIGHEST - LOWEST))).astype(np.intp)
    return np.where((radius >= LOWEST) & (radius < HIGHEST), ring, 0)


def _chance(independent: float, rings: NDArray[np.intp]) -> float:
    """Return a mean coherence of a ring that unrelated windows do not reach.

    Of N of them it is 1 / N; overlapping windows are a little less than their number says.
    """
    fewest = float(np.bincount(rings.ravel(), minlength=RINGS + 1)[1:].min()) / TAPER_SPREAD
    return OVERLAP_LOSS / max(independent, 1.0) * (1 + CHANCE_DEVIATIONS / math.sqrt(max(fewest, 1.0)))


def _smoothed(values: NDArray[np.float32], rings: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the mean of each ring in place of its values: few windows make coherence noisy."""
    sums = np.bincount(rings.ravel(), values.ravel(), RINGS + 1)
    counts = np.maximum(np.bincount(rings.ravel(), minlength=RINGS + 1), 1)
    return np.asarray((sums / counts)[rings], np.float32)
