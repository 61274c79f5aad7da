"""Many small windows, each asked on its own where it belongs: what a transform is refined and judged by.

Each window of the fixed picture looks for its partner in the moving one, brought onto the same grid
by the transform in question, within a few pixels. Where the transform is right the windows agree
with each other; where it is wrong each finds something else, all over its range. Agreement by
chance has a probability, and that is what a verdict can rest on.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.initialize.correlation import fit_subpixel_peak
from regflow.methods.initialize.structure import EdgeStructure

MIN_VALID = 0.6
"""Part of a window that must be valid in both pictures."""
NEIGHBORS = 8
TOLERANCE = 1.5
"""Windows agree with their neighbors to so many pixels."""
CROWDING = 3.0
"""The median of random neighbors lies near the middle, where agreement is this much likelier."""


@dataclass(frozen=True)
class WindowMatches:
    """What the windows found.

    Attributes:
        points: ``(N, 2)`` centers ``(x, y)`` in pixels of the fixed picture.
        shifts: ``(N, 2)`` pixels from a center to its partner.
        scores: ``(N,)`` correlation of each window with its partner, at most 1.
        agreeing: which windows agree with their neighbors.
        neg_log10_p: decimal logarithm of one over the probability of so much agreement by chance.
        independent: windows' worth of independent information.
    """

    points: NDArray[np.float64]
    shifts: NDArray[np.float64]
    scores: NDArray[np.float64]
    agreeing: NDArray[np.bool_]
    neg_log10_p: float
    independent: float

    @property
    def share(self) -> float:
        """Part of the windows that agree."""
        return float(self.agreeing.mean()) if len(self.agreeing) else 0.0


def match_windows(
    fixed: EdgeStructure, moving: EdgeStructure, size: int, reach: int, most: int
) -> WindowMatches:
    """Let windows of one picture look for their partners in another one on the same grid.

    Args:
        fixed: directions of edges, ``(H, W)``.
        moving: likewise, of the same shape.
        size: side of a window in pixels.
        reach: how far it may look along each axis, in pixels.
        most: about how many windows, evenly spread.
    """
    starts, step = place_windows(fixed.valid & moving.valid, size, most, MIN_VALID)
    points = np.asarray(starts[:, ::-1] + (size - 1) / 2, np.float64)
    if len(starts) == 0:
        return WindowMatches(points, points.copy(), np.zeros(0), np.zeros(0, bool), 0.0, 0.0)
    surfaces = _surfaces(fixed, moving, starts, size, reach)
    shifts, scores, inside = _peaks(surfaces, reach)
    agreeing = inside & find_consistent_windows(points, shifts)
    chance = min(0.5, CROWDING * math.pi * TOLERANCE**2 / (2 * reach + 1) ** 2)
    # Windows that overlap repeat each other.
    apart = min(1.0, (step / size) ** 2)
    neg_log10_p = apart * _neg_log10_p(int(agreeing.sum()), len(agreeing), chance)
    return WindowMatches(points, shifts, scores, agreeing, neg_log10_p, apart * len(points))


def place_windows(
    valid: NDArray[np.bool_], size: int, most: int, share: float
) -> tuple[NDArray[np.intp], float]:
    """Return where evenly spread windows begin, and about how far they lie apart.

    Args:
        valid: ``(H, W)``.
        size: side of a window.
        most: about how many windows.
        share: part of a window that must be valid.

    Returns:
        First rows and columns, ``(N, 2)``, and the distance in pixels.
    """
    import cv2

    spans = [n - size for n in valid.shape]
    if min(spans) < 0:
        return np.zeros((0, 2), np.intp), float(size)
    area = (spans[0] + 1) * (spans[1] + 1)
    step = max(size / 4, math.sqrt(area / most))
    axes = [np.rint(np.linspace(0, span, max(1, int(span / step) + 1))).astype(np.intp) for span in spans]
    starts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    total = cv2.integral(valid.astype(np.uint8))
    top, left = starts.T
    counts = (
        total[top + size, left + size] - total[top, left + size] - total[top + size, left] + total[top, left]
    )
    return starts[counts >= share * size**2], step


def _surfaces(
    fixed: EdgeStructure, moving: EdgeStructure, starts: NDArray[np.intp], size: int, reach: int
) -> NDArray[np.float32]:
    """Return the normalized correlation of each window at each shift, ``(N, 2 reach + 1, 2 reach + 1)``."""
    import cv2
    from scipy import fft

    wide = size + 2 * reach
    length = fft.next_fast_len(wide)
    padded = np.pad(moving.edges, reach)
    template = cut_windows(fixed.edges, starts, size)
    known = cut_windows(fixed.valid, starts, size)
    mean = template.sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    template = np.where(known, template - mean[:, None, None], 0).astype(np.complex64)
    region = cut_windows(padded, starts, wide)
    spectra = [fft.fft2(part, (length, length)) for part in (template, region)]
    found = fft.ifft2(np.conj(spectra[0]) * spectra[1]).real[:, : 2 * reach + 1, : 2 * reach + 1]
    total = cv2.integral(np.abs(padded) ** 2)
    n = 2 * reach + 1
    down, right = np.array([size, 0]), np.array([0, size])
    far = cut_windows(total, starts + down + right, n) + cut_windows(total, starts, n)
    box = np.maximum(
        far - cut_windows(total, starts + right, n) - cut_windows(total, starts + down, n), 0
    ).astype(np.float32)
    own = (np.abs(template) ** 2).sum(axis=(1, 2))
    scale = np.sqrt(np.maximum(box * own[:, None, None], 1e-12))
    # A region that is mostly unknown says little, however well the rest of it fits.
    return np.asarray(found / np.maximum(scale, 0.25 * scale.max(axis=(1, 2), keepdims=True)), np.float32)


def cut_windows(plane: NDArray[Any], starts: NDArray[np.intp], side: int) -> NDArray[Any]:
    """Return the squares of a plane that begin at given rows and columns, ``(N, side, side)``."""
    views = np.lib.stride_tricks.sliding_window_view(plane, (side, side))
    return np.asarray(views[starts[:, 0], starts[:, 1]])


def _peaks(
    surfaces: NDArray[np.float32], reach: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return each surface's maximum ``(N, 2)`` in ``(x, y)`` order, its height, and whether it is inside."""
    count, n, _ = surfaces.shape
    flat = surfaces.reshape(count, -1).argmax(axis=1)
    rows, columns = np.divmod(flat, n)
    inside = (rows > 0) & (rows < n - 1) & (columns > 0) & (columns < n - 1)
    y, x = np.clip(rows, 1, n - 2), np.clip(columns, 1, n - 2)
    span = np.arange(-1, 2)
    each = np.arange(count)[:, None, None]
    patches = surfaces[each, (y[:, None] + span)[:, :, None], (x[:, None] + span)[:, None, :]]
    offsets = fit_subpixel_peak(patches.astype(np.float64))
    shifts = np.stack([x, y], axis=-1) + offsets - reach
    return shifts, surfaces.reshape(count, -1).max(axis=1).astype(np.float64), inside


def find_consistent_windows(points: NDArray[np.float64], shifts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which windows move like the median of their nearest neighbors, ``(N,)``."""
    count = len(points)
    near = min(NEIGHBORS, count - 1)
    if near < 3:
        return np.zeros(count, bool)
    distance = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    order = np.argsort(distance, axis=1, kind="stable")[:, 1 : near + 1]
    middle = np.median(shifts[order], axis=1)
    return np.asarray(np.linalg.norm(shifts - middle, axis=1) <= TOLERANCE)


def _neg_log10_p(hits: int, count: int, chance: float) -> float:
    """Return how unlikely so many hits are, as a decimal logarithm (Chernoff's bound)."""
    share = hits / count
    if share <= chance:
        return 0.0
    information = share * math.log(share / chance)
    if share < 1:
        information += (1 - share) * math.log((1 - share) / (1 - chance))
    return count * information / math.log(10)
