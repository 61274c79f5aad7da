"""Small motion in time lapses as optical flow, by OpenCV: TV-L1 or dense inverse search."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.extent import measure_longest_side
from regflow.core.image import Image
from regflow.core.opencv_threads import limit_opencv_to_one_thread
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.refine.greedy import smooth_folds
from regflow.methods.refine.loaded_pair import load_working_pair, match_intensities

Array = NDArray[np.float32]

MOST_ACROSS = 4096
"""Samples along the longest side: larger scenes are averaged."""
INNER_ITERATIONS = 30
"""Of TV-L1, between two medians of the flow."""


def optical_flow(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Follow each pixel of a scene; options are ``flow_options.OPTICAL_FLOW``.

    Brightness must be alike. First channels are compared on the fixed grid; large scenes are averaged.

    Sources: Zach et al., DAGM 2007, 214-223 (TV-L1); Kroeger et al., ECCV 2016, 471-488 (DIS).

    Raises:
        RegistrationError: the scenes have no valid pixel in common.
    """
    pair = load_working_pair(fixed, moving, initial, measure_longest_side(fixed.grid) / MOST_ACROSS)
    images = match_intensities(pair.fixed, pair.moving, options["match_histograms"])
    with limit_opencv_to_one_thread():
        flow = ENGINES[options["engine"]](*images, options)
    if options["field_sigma"] > 0:
        from scipy.ndimage import gaussian_filter

        flow = np.stack([gaussian_filter(part, options["field_sigma"], mode="nearest") for part in flow])
    return pair.compose_field(smooth_folds(flow), initial)


def _follow_by_variation(fixed: Array, moving: Array, options: Mapping[str, Any]) -> Array:
    import cv2

    engine = cv2.optflow.DualTVL1OpticalFlow_create()
    engine.setLambda(options["attachment"])
    engine.setTheta(options["tightness"])
    engine.setWarpingsNumber(options["warps"])
    engine.setOuterIterations(math.ceil(options["iterations"] / INNER_ITERATIONS))
    engine.setInnerIterations(min(options["iterations"], INNER_ITERATIONS))
    return _convert_flow(engine.calc(fixed / np.float32(255), moving / np.float32(255), None))


def _follow_by_inverse_search(fixed: Array, moving: Array, options: Mapping[str, Any]) -> Array:
    import cv2

    presets = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }
    engine = cv2.DISOpticalFlow_create(presets[options["preset"]])
    gray = [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (fixed, moving)]
    return _convert_flow(engine.calc(*gray, None))


def _convert_flow(flow: Array) -> Array:
    """Return OpenCV's flow ``(Y, X, 2)`` as a voxel field ``(2, Y, X)``."""
    return np.ascontiguousarray(np.moveaxis(flow, -1, 0)[::-1])


ENGINES = {"tv-l1": _follow_by_variation, "dis": _follow_by_inverse_search}
