"""One judge for maps of any origin: do both pictures agree there, and only there.

A gradient whose angle is doubled is the same for an edge from dark to bright and one from bright to dark.
Summed over a neighborhood and divided by the strength there, with a floor that keeps noise in flat places
from counting, such gradients are compared where both pictures show something. So is the normalized mutual
information, which tells soft pictures without common edges (PET and MR). Each is told in standard
deviations above what it is at shifts of some tens of pixels. So the judge needs no knowledge of the
contrasts, and large dark surroundings, which fool plain statistics of intensities, have no part in it.

Sources: Ye et al., IEEE Trans. Geoscience and Remote Sensing 57(11):9059-9070, 2019, for dense descriptors
that hold across sensors; Studholme et al., Pattern Recognition 32(1):71-86, 1999.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.plain_areas import FLAT_SIDE, find_plain_surroundings, find_value_range, find_variation
from regflow.methods.initialize.planar import (
    Mask,
    Matrix,
    blur_plane,
    coarsen_to,
    crop_to_overlap,
    find_common_spacing,
    resample_to,
    smooth_valid_gaussian,
)
from regflow.methods.initialize.structure import EdgeStructure, erode_mask

ACROSS = 384
"""Pixels along the fixed picture's longest side, at most, at which maps are judged."""
BLUR_SIGMA, SPREAD_SIGMA = 1.0, 1.5
"""Pixels: blur before the gradient, and the neighborhood over which gradients are added up."""
FLOOR, STRONG_PERCENTILE = 0.15, 90
"""What is added before the division, as a part of the strength of the strongest tenth of the gradients."""
SHOWN, SHOWN_SIDE = 0.15, 25
"""So much of the square of so many pixels around a place must show something."""
NEAREST, FARTHEST, SHIFTS = 16.0, 40.0, 32
"""Lengths in pixels of the shifts that a map is held against, and how many they are."""
OF_SIDE = 1 / 8
"""Shifts may be no longer than this part of the picture's shorter side."""
FEWEST = 400
"""Pixels that both pictures must share."""
BINS = 32


@dataclass(frozen=True)
class Agreement:
    """What the judge says of a map, in standard deviations above what other shifts have.

    Attributes:
        edges: agreement of the directions of edges.
        information: normalized mutual information.
    """

    edges: float
    information: float

    @property
    def sigmas(self) -> float:
        """Both together: the length of what is above zero, as independent evidence adds up."""
        return math.hypot(max(self.edges, 0.0), max(self.information, 0.0))


NOTHING = Agreement(0.0, 0.0)


@dataclass(frozen=True, eq=False)
class ComparedImage:
    """A picture as the judge compares it.

    Attributes:
        edges: ``(H, W)`` complex64 directions of edges.
        bins: ``(H, W)`` int16 gray levels; -1 where the picture shows nothing.
    """

    edges: NDArray[np.complex64]
    bins: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class AgreementJudge:
    """Judges maps between two pictures.

    Attributes:
        fixed: a picture.
        moving: a picture.
        across: pixels along the fixed picture's longest side at most.
    """

    fixed: Image
    moving: Image
    across: int = ACROSS
    _still: dict[tuple[float, Grid], tuple[Image, ComparedImage]] = field(default_factory=dict, init=False)

    def __call__(self, matrix: Matrix) -> Agreement:
        """Judge a map ``(3, 3)`` from fixed to moving world points."""
        fixed = crop_to_overlap(self.fixed, self.moving.grid, matrix)
        grid = fixed.grid
        longest = float((np.array(grid.size) * grid.spacing).max())
        spacing = max(find_common_spacing(grid, self.moving.grid, matrix), longest / self.across)
        key = spacing, grid
        if key not in self._still:
            plane = coarsen_to(fixed, spacing)
            self._still[key] = plane, prepare_seen(plane)
        plane, still = self._still[key]
        there = resample_to(self.moving, plane.grid, matrix)
        if not (there.mask is not None and there.mask.any()):
            return NOTHING
        return measure_agreement(still, prepare_seen(there))


def prepare_seen(image: Image) -> ComparedImage:
    """Return what the judge compares of a picture."""
    shown = find_content(image)
    low, high = find_value_range(image)
    scaled = np.clip((image.channel - low) * (BINS / max(high - low, 1e-12)), 0, BINS - 1)
    found = compute_dense_gradients(image, shown)
    edges = np.where(find_plain_surroundings(image), np.complex64(0), found.edges)
    return ComparedImage(edges, np.where(found.valid, scaled, -1).astype(np.int16))


def find_content(image: Image) -> Mask:
    """Return where a picture is valid and shows something: not the plain surroundings of what it shows."""
    import cv2

    assert image.mask is not None
    shows = find_variation(image) & erode_mask(image.mask, FLAT_SIDE // 2)
    share = cv2.blur(shows.astype(np.float32), (SHOWN_SIDE, SHOWN_SIDE))
    return np.asarray((share > SHOWN) & image.mask)


def compute_dense_gradients(image: Image, shown: Mask) -> EdgeStructure:
    """Return doubled-angle gradients of size 0 to 1, valid where the picture shows something."""
    import cv2

    assert image.mask is not None
    flat = smooth_valid_gaussian(image.channel, image.mask, BLUR_SIGMA)
    gx, gy = (cv2.Sobel(flat, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    # An edge of the mask is no edge of the scene.
    inside = erode_mask(image.mask, 1 + round(2 * BLUR_SIGMA))
    size = np.where(inside, np.hypot(gx, gy), np.float32(0))
    safe = np.maximum(size, np.float32(1e-20))
    real = blur_plane(np.where(inside, (gx * gx - gy * gy) / safe, np.float32(0)), SPREAD_SIGMA)
    imaginary = blur_plane(np.where(inside, 2 * gx * gy / safe, np.float32(0)), SPREAD_SIGMA)
    around = blur_plane(size, SPREAD_SIGMA)
    strong = float(np.percentile(around[shown], STRONG_PERCENTILE)) if shown.any() else 0.0
    weight = 1 / (around + np.float32(FLOOR * strong + 1e-20))
    return EdgeStructure(((real + 1j * imaginary) * weight).astype(np.complex64), shown & inside)


def measure_agreement(one: ComparedImage, other: ComparedImage) -> Agreement:
    """Return how much better two pictures on one grid agree as they lie than shifted against each other."""
    from regflow.methods.initialize.agreement_kernels import compare_at_shifts

    shifts = np.array(_shifts(one.bins.shape), np.int64)
    sums, joint = compare_at_shifts(one.edges, one.bins, other.edges, other.bins, shifts, BINS)
    counts = joint.sum(axis=(1, 2))
    enough = counts >= FEWEST
    if not enough[0] or enough.sum() < 1 + SHIFTS // 2:
        return NOTHING
    shares = joint[enough] / counts[enough, None, None]
    information = np.array([_normalized_information(share) for share in shares])
    values = np.stack([sums[enough] / counts[enough], information], axis=-1)
    spread = values[1:].std(axis=0)
    if not spread.min() > 0:
        return NOTHING
    edges, known = (values[0] - values[1:].mean(axis=0)) / spread
    return Agreement(float(edges), float(known))


def _shifts(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return no shift, and then those in all directions that a map is held against, as ``(down, right)``."""
    far = min(FARTHEST, OF_SIDE * min(shape))
    near = min(NEAREST, NEAREST / FARTHEST * far)
    angles = np.arange(SHIFTS) * (2 * math.pi / SHIFTS)
    # The golden ratio spreads lengths evenly over neighboring directions.
    lengths = near + (far - near) * ((np.arange(SHIFTS) * 0.6180339887) % 1)
    steps = np.rint(np.stack([lengths * np.sin(angles), lengths * np.cos(angles)], axis=-1)).astype(int)
    return [(0, 0), *((int(down), int(right)) for down, right in steps)]


def _normalized_information(joint: NDArray[np.float64]) -> float:
    def entropy(p: NDArray[np.float64]) -> float:
        known = p[p > 0]
        return float(-(known * np.log(known)).sum())

    together = entropy(joint)
    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / together if together > 0 else 1.0
