"""A section as it is compared: tissue above a background of 0, whichever of the two is brighter."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

BORDER_SHARE = 0.02
"""Width of the frame whose median is the background, as a part of the shorter side."""
BRIGHTEST = 99.0
"""Percentile of the tissue that becomes 1."""
FAINTEST = 0.15
"""Part of that brightness from which a pixel is tissue."""
FILLED = 0.85
"""Share of tissue from which a section fills its picture, and has no background."""


@dataclass(frozen=True, eq=False)
class SectionPicture:
    """One section, scaled.

    Attributes:
        values: ``(h, w)`` float32, background about 0 and bright tissue about 1.
        tissue: ``(h, w)`` where there is some.
        valid: ``(h, w)`` where the picture has samples.
        contrast: of bright tissue and background, in the file's units.
    """

    values: Plane
    tissue: Mask
    valid: Mask
    contrast: float

    @property
    def tissue_share(self) -> float:
        """Part of the picture that is tissue, 0 to 1."""
        return float(self.tissue.mean())


def normalize_section(plane: Plane, valid: Mask | None = None) -> SectionPicture:
    """Return a section with the background at 0 and the tissue above it.

    Args:
        plane: ``(h, w)`` intensities of any range, of bright tissue on dark ground or dark on bright.
        valid: ``(h, w)`` where there are samples; None for everywhere.
    """
    import cv2

    plane = np.asarray(plane, np.float32)
    valid = np.isfinite(plane) if valid is None else valid & np.isfinite(plane)
    width = max(1, round(BORDER_SHARE * min(plane.shape)))
    frame = np.ones(plane.shape, bool)
    frame[width:-width, width:-width] = False
    ring = plane[frame & valid]
    if ring.size == 0:
        return SectionPicture(np.zeros(plane.shape, np.float32), np.zeros(plane.shape, bool), valid, 0.0)
    ground = float(np.median(ring))
    away = np.where(valid, plane - ground, 0)
    spread = float(np.median(np.abs(ring - ground)))
    far = np.abs(away) > max(6 * spread, 1e-6 * float(np.abs(away).max()))
    if not far.any():
        return SectionPicture(np.zeros(plane.shape, np.float32), np.zeros(plane.shape, bool), valid, 0.0)
    if float(away[far].sum(dtype=np.float64)) < 0:
        away = -away
    top = float(np.percentile(np.abs(away[far]), BRIGHTEST))
    values = np.asarray(np.clip(away / top, -0.2, 1.2), np.float32)
    smooth = cv2.GaussianBlur(values, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT_101)
    tissue = (np.abs(smooth) > FAINTEST) & valid
    if tissue.mean() > FILLED:
        tissue = valid.copy()
    return SectionPicture(values, tissue, valid, top)


def coarsen_plane(plane: Plane, factor: int) -> Plane:
    """Return the means of squares of ``factor`` pixels, ``(ceil(h / factor), ceil(w / factor))``.

    The border's samples stand for those beyond it.
    """
    import cv2

    if factor == 1:
        return np.asarray(plane, np.float32)
    rows, columns = (math.ceil(size / factor) for size in plane.shape)
    extra = rows * factor - plane.shape[0], columns * factor - plane.shape[1]
    whole = np.pad(plane, ((0, extra[0]), (0, extra[1])), mode="edge")
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
