"""Detectors and descriptors of OpenCV and mahotas, by name."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.methods.initialize.features.keypoints import (
    Keypoints,
    find_usable_mask,
    scale_to_eight_bit,
    spread_evenly,
)

POOL = 4
"""Keypoints found for each one that is kept, so that tiles have a choice."""
HARRIS_SCALES = (1.0, 1.6, 2.56)
HARRIS_DIAMETER = 10.0
ORIENTATION_SIGMA = 3.0
SURF_THRESHOLD = 0.05

Detect = Callable[[Image, int, bool], Keypoints]


def sift(image: Image, count: int, inverted: bool) -> Keypoints:
    """SIFT, with the root of its normalized descriptors.

    Sources: Lowe, Int. J. Computer Vision 60(2):91-110, 2004; Arandjelovic and Zisserman, CVPR 2012.
    """
    import cv2

    found = _opencv(image, count, inverted, cv2.SIFT_create(nfeatures=POOL * count, contrastThreshold=0.01))
    return Keypoints(found.points, _root(found.descriptors))


def orb(image: Image, count: int, inverted: bool) -> Keypoints:
    """ORB. Source: Rublee et al., ICCV 2011."""
    import cv2

    return _opencv(image, count, inverted, cv2.ORB_create(nfeatures=POOL * count, fastThreshold=5))


def akaze(image: Image, count: int, inverted: bool) -> Keypoints:
    """AKAZE. Source: Alcantarilla et al., BMVC 2013."""
    import cv2

    return _opencv(image, count, inverted, cv2.xfeatures2d.AKAZE_create(threshold=1e-4))


def brisk(image: Image, count: int, inverted: bool) -> Keypoints:
    """BRISK. Source: Leutenegger et al., ICCV 2011."""
    import cv2

    return _opencv(image, count, inverted, cv2.xfeatures2d.BRISK_create(thresh=10))


def fast_brief(image: Image, count: int, inverted: bool) -> Keypoints:
    """FAST corners with BRIEF, upright and of one scale.

    Sources: Rosten and Drummond, ECCV 2006; Calonder et al., ECCV 2010.
    """
    import cv2

    describe = cv2.xfeatures2d.BriefDescriptorExtractor_create(64)
    return _opencv(image, count, inverted, cv2.FastFeatureDetector_create(threshold=5), describe)


def harris(image: Image, count: int, inverted: bool) -> Keypoints:
    """Harris corners of three scales, turned to their gradient, with SIFT's descriptor.

    Source: Harris and Stephens, Alvey Vision Conference, 1988.
    """
    import cv2

    plane, allowed = scale_to_eight_bit(image, inverted=inverted), find_usable_mask(image)
    smooth = cv2.GaussianBlur(plane.astype(np.float32), (0, 0), ORIENTATION_SIGMA)
    angles = np.degrees(np.arctan2(cv2.Sobel(smooth, cv2.CV_32F, 0, 1), cv2.Sobel(smooth, cv2.CV_32F, 1, 0)))
    found: list[Any] = []
    for scale in HARRIS_SCALES:
        points, values = find_harris_corners(plane, scale, allowed)
        for k in np.argsort(-values, kind="stable")[: POOL * count]:
            x, y = (int(part) for part in points[k])
            found.append(
                cv2.KeyPoint(x, y, HARRIS_DIAMETER * scale, float(angles[y, x] % 360), float(values[k]))
            )
    chosen = _chosen(found, plane.shape, count)
    described, vectors = cv2.SIFT_create().compute(plane, chosen)
    return Keypoints(_points(described), _root(_filled(vectors, 128, np.float32)))


def find_harris_corners(
    plane: NDArray[Any], scale: float, allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the pixels ``(N, 2)``, ``(x, y)``, and the strengths ``(N,)`` of Harris corners of one scale.

    Args:
        plane: a picture.
        scale: by which it is blurred first, pixels.
        allowed: where corners may be.
    """
    import cv2

    blurred = cv2.GaussianBlur(plane.astype(np.float32), (0, 0), scale)
    strength = cv2.cornerHarris(blurred, 2 * round(1.5 * scale) + 1, 3, 0.04)
    top = (strength == cv2.dilate(strength, np.ones((5, 5)))) & allowed & (strength > 0)
    rows, columns = np.nonzero(top)
    return np.stack([columns, rows], axis=-1), np.asarray(strength[rows, columns], np.float64)


def surf(image: Image, count: int, inverted: bool) -> Keypoints:
    """SURF of mahotas. Source: Bay et al., Computer Vision and Image Understanding 110(3), 2008."""
    from mahotas.features import surf as engine

    plane, allowed = scale_to_eight_bit(image, inverted=inverted), find_usable_mask(image)
    found = engine.surf(plane, threshold=SURF_THRESHOLD, max_points=POOL * count)
    points = found[:, 1::-1]
    row, column = np.clip(np.rint(points[:, ::-1]).astype(np.intp).T, 0, np.array(plane.shape)[:, None] - 1)
    found = found[allowed[row, column]]
    chosen = found[spread_evenly(found[:, 1::-1], found[:, 3], plane.shape, count)]
    return Keypoints(np.ascontiguousarray(chosen[:, 1::-1]), chosen[:, 6:].astype(np.float32))


def _opencv(image: Image, count: int, inverted: bool, detector: Any, extractor: Any = None) -> Keypoints:
    plane, allowed = scale_to_eight_bit(image, inverted=inverted), find_usable_mask(image)
    chosen = _chosen(detector.detect(plane, allowed.astype(np.uint8)), plane.shape, count)
    described, vectors = (extractor or detector).compute(plane, chosen)
    return Keypoints(_points(described), _filled(vectors, 1, np.uint8))


def _chosen(found: Sequence[Any], shape: tuple[int, ...], count: int) -> list[Any]:
    if not found:
        return []
    strengths = np.array([point.response for point in found])
    return [found[k] for k in spread_evenly(_points(found), strengths, shape, count)]


def _points(found: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([point.pt for point in found], dtype=np.float64).reshape(-1, 2)


def _filled(vectors: Any, width: int, kind: Any) -> NDArray[Any]:
    """OpenCV returns None where there is nothing to describe."""
    return np.zeros((0, width), kind) if vectors is None else np.asarray(vectors)


def _root(vectors: NDArray[Any]) -> NDArray[np.float32]:
    total = np.maximum(vectors.sum(axis=1, keepdims=True), 1e-9) if len(vectors) else 1.0
    return np.asarray(np.sqrt(vectors / total), np.float32)
