"""What two images of one place share whatever their contrast: the directions of their edges.

A gradient squared as a complex number has twice the gradient's angle, so an edge from dark to
bright and one from bright to dark are the same. Divided by its neighborhood's strength it does not
depend on local contrast either. Sums of products of such numbers are large only where edges run
alike.

Source: Fitch et al., Orientation correlation, BMVC 2002; Ye et al., IEEE Trans. Geoscience and
Remote Sensing 57(11):9059-9070, 2019.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.methods.initialize.planar import Mask, Plane, blur_plane, smooth_valid_gaussian

GRADIENT_SIGMA = 1.0
SPREAD_SIGMA = 1.0
NEIGHBORHOOD_SIGMA = 8.0
"""In pixels: blur before the gradient, of the result, and of what
strength is held against."""
CANNY_PERCENTILE = 85
"""Part of the gradients below Canny's upper threshold."""


@dataclass(frozen=True)
class EdgeStructure:
    """Directions of edges, ``(H, W)`` complex64, at most 1 in size, 0 where they are not known."""

    edges: NDArray[np.complex64]
    valid: Mask


def compute_structure(image: Image, detector: str = "sobel", sigma: float = GRADIENT_SIGMA) -> EdgeStructure:
    """Return the directions of a picture's edges.

    Args:
        image: a picture.
        detector: ``sobel``, where every pixel has a direction as strong as its gradient is beside its
            neighbors', or ``canny``, where only the thin lines of that detector have one, all alike.
        sigma: blur before the gradient, in pixels; more for noisier images.
    """
    import cv2

    assert image.mask is not None
    flat = smooth_valid_gaussian(image.channel, image.mask, sigma)
    gx = cv2.Sobel(flat, cv2.CV_32F, 1, 0, ksize=3)
    gy = cv2.Sobel(flat, cv2.CV_32F, 0, 1, ksize=3)
    # An edge of the mask is no edge of the scene.
    valid = erode_mask(image.mask, 1 + round(2 * sigma))
    strength = np.where(valid, gx * gx + gy * gy, np.float32(0))
    around = smooth_valid_gaussian(strength, valid, NEIGHBORHOOD_SIGMA)
    floor = np.float32(1e-6) * np.float32(strength.mean()) + np.float32(1e-30)
    weight = np.where(valid, 1 / (strength + around + floor), np.float32(0)).astype(np.float32)
    if detector == "canny":
        weight = np.divide(_lines(flat, gx, gy, valid), strength, out=weight, where=strength > floor)
    real = blur_plane((gx * gx - gy * gy) * weight, SPREAD_SIGMA)
    imaginary = blur_plane(2 * gx * gy * weight, SPREAD_SIGMA)
    return EdgeStructure((real + 1j * imaginary).astype(np.complex64), valid)


def _lines(flat: Plane, gx: Plane, gy: Plane, valid: Mask) -> Plane:
    """Return 1 on Canny's edges, its thresholds set by the gradients there are.

    Source: Canny, IEEE Trans. Pattern Analysis and Machine Intelligence 8(6):679-698, 1986.
    """
    import cv2

    size = np.abs(gx) + np.abs(gy)
    inside = size[valid]
    high = float(np.percentile(inside, CANNY_PERCENTILE)) if inside.size else 0.0
    if not high > 0:
        return np.zeros_like(flat)
    # The detector takes gradients as 16-bit integers.
    scale = 4096 / high
    dx, dy = (np.clip(part * scale, -32000, 32000).astype(np.int16) for part in (gx, gy))
    found = cv2.Canny(dx, dy, 0.4 * 4096, 4096)
    return np.asarray((found > 0) & valid, np.float32)


def erode_mask(mask: Mask, reach: int) -> Mask:
    """Return the samples that have no invalid one, and no border, within ``reach`` along each axis."""
    import cv2

    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    kept = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(kept.astype(bool))
