"""Phase congruency from steerable quadrature filters of finite width.

Where the Fourier components of a profile agree in phase there is an edge or a line, whatever its
contrast. Kovesi measures it with log-Gabor filters of infinite width; here even and odd responses
come from Freeman and Adelson's steerable pair: the second derivative of a Gaussian and a fit to its
Hilbert transform. Their width is finite, so a window's result does not depend on the window.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.representation.smoothing import filter_separable, find_reach, make_kernel, smooth_valid

FINEST = 1.5
"""Standard deviation of the finest filters' Gaussian, in samples."""
STEP = 2.0
"""How much wider each scale's filters are than the last's."""
_WIDTH = 4.0
_CONTRAST_SIGMA = 12.0
_FADE_SIGMA = 4.0
_TINY = 1e-12


def phase_congruency(
    values: NDArray[np.float32], valid: NDArray[np.bool_], options: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return the phase congruency, 0 to 1, weighted by energy over all orientations, per channel.

    Args:
        values: ``(C, h, w)``.
        valid: ``(h, w)``; invalid samples take the average of what is around them.
        options: ``scales``, ``orientations`` and ``noise``.
    """
    found = np.empty_like(values)
    for channel, samples in enumerate(values):
        found[channel] = _congruency(_filled(samples, valid), valid, options)
    return found


def find_margin(options: Mapping[str, Any]) -> int:
    """Return how far around a sample its result looks."""
    filters = math.ceil(_WIDTH * FINEST * STEP ** (options["scales"] - 1))
    return 2 * find_reach(_CONTRAST_SIGMA) + filters


def _filled(samples: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    around = smooth_valid(samples, valid, _CONTRAST_SIGMA)
    # Without the local mean, sums in float32 keep the digits of a faint texture on a bright ground.
    return np.where(valid, samples - around, np.float32(0))


def _congruency(
    samples: NDArray[np.float32], valid: NDArray[np.bool_], options: Mapping[str, Any]
) -> NDArray[np.float32]:
    responses = [_responses(samples, FINEST * STEP**scale) for scale in range(options["scales"])]
    energy = np.zeros(samples.shape, dtype=np.float32)
    amplitude = np.full(samples.shape, _TINY, dtype=np.float32)
    for number in range(options["orientations"]):
        angle = math.pi * number / options["orientations"]
        pairs = [_steered(basis, angle) for basis in responses]
        total = np.add.reduce([np.hypot(even, odd) for even, odd in pairs])
        floor = np.float32(options["noise"]) * smooth_valid(total, valid, _CONTRAST_SIGMA)
        energy += np.maximum(_in_phase(pairs) - floor, 0)
        amplitude += total
    # Where a filter hangs over a hole it finds the hole: structures fade out towards it.
    seen = filter_separable(valid.astype(np.float32), *[make_kernel(_FADE_SIGMA)] * 2)
    return np.asarray(energy / amplitude * seen**2)


def _in_phase(pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> NDArray[np.float32]:
    """Return how much of the scales' amplitude agrees with their mean phase (Kovesi's measure)."""
    even, odd = (np.add.reduce([pair[part] for pair in pairs]) for part in (0, 1))
    length = np.hypot(even, odd) + np.float32(_TINY)
    even, odd = even / length, odd / length
    parts = [(e * even + o * odd) - np.abs(e * odd - o * even) for e, o in pairs]
    return np.asarray(np.add.reduce(parts))


def _responses(samples: NDArray[np.float32], sigma: float) -> list[NDArray[np.float32]]:
    """Return the seven basis responses: three of the even filter, four of the odd one."""
    steps = np.arange(-math.ceil(_WIDTH * sigma), math.ceil(_WIDTH * sigma) + 1)
    t = steps / (sigma * math.sqrt(2))
    g = np.exp(-(t**2))
    even = ((0.9213 * (2 * t**2 - 1) * g, g), (1.843 * t * g, t * g), (g, 0.9213 * (2 * t**2 - 1) * g))
    odd = (
        (0.978 * (-2.254 * t + t**3) * g, g),
        (0.978 * (-0.7515 + t**2) * g, t * g),
        (t * g, 0.978 * (-0.7515 + t**2) * g),
        (g, 0.978 * (-2.254 * t + t**3) * g),
    )
    # The even filter of a sampled Gaussian keeps a small mean, which a constant would show through.
    bands = [(across - (across.sum() / g.sum()) * g, down) for across, down in even[:1]]
    bands += [even[1]]
    bands += [(across, down - (down.sum() / g.sum()) * g) for across, down in even[2:]]
    scale = 1.0 / sigma**2
    return [filter_separable(samples, down * scale, across) for across, down in (*bands, *odd)]


def _steered(
    basis: list[NDArray[np.float32]], angle: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the even and odd responses along a direction."""
    c, s = math.cos(angle), math.sin(angle)
    even = (c * c, -2 * c * s, s * s)
    odd = (c**3, -3 * c * c * s, 3 * c * s * s, -(s**3))
    weights = (even, odd)
    parts = (basis[:3], basis[3:])
    first, second = (
        sum(np.float32(w) * part for w, part in zip(ws, ps, strict=True))
        for ws, ps in zip(weights, parts, strict=True)
    )
    return np.asarray(first), np.asarray(second)
