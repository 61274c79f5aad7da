"""The products: everything of the moving image on the fixed image's grid, by one interpolation.

Pixels come from the original files, not from the working copies, and are resampled once, by the
composed transform.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.labels import Labels, resample_labels
from regflow.core.resample import INTERPOLATIONS, resample_array
from regflow.core.transform import Transform

if TYPE_CHECKING:
    from regflow.core.io.landmarks import Landmarks

LABEL_MODES = ("nearest", "smooth")


def warp_image(
    image: Image,
    target: Grid,
    transform: Transform,
    interpolation: str = "linear",
    outside: float | None = None,
) -> Image:
    """Resample every channel of an image.

    Args:
        image: the moving image; its mask and labels are left behind.
        target: the grid of the result, fixed.
        transform: from fixed to moving world points.
        interpolation: one of :data:`~regflow.core.resample.INTERPOLATIONS`.
        outside: value where the moving image has no sample; None takes 0 for images without
            negative values and the smallest value for the others (air in CT).

    Returns:
        An image of the same type of samples: integers are rounded and kept within their range.

    Raises:
        InputError: an unknown interpolation.
    """
    _known(interpolation, INTERPOLATIONS, "interpolation")
    channels = [
        _warp_channel(np.asarray(channel), image.grid, target, transform, interpolation, outside)
        for channel in image.data
    ]
    return Image(np.stack(channels), target, modality=image.modality)


def warp_labels(
    labels: Labels, source: Grid, target: Grid, transform: Transform, mode: str = "nearest"
) -> Labels:
    """Resample a label map; no label is invented.

    Args:
        labels: integer ``source.shape`` array, moving. Whole numbers stored as floats are taken too.
        source: its grid.
        target: the grid of the result, fixed.
        transform: from fixed to moving world points.
        mode: ``nearest``, or ``smooth`` for borders between samples
            (:func:`~regflow.core.labels.resample_labels`).

    Raises:
        InputError: an unknown mode, or values that are not whole numbers.
    """
    _known(mode, LABEL_MODES, "labels")
    whole = whole_numbers(labels)
    if mode == "smooth":
        return resample_labels(whole, source, target, transform)
    return resample_array(whole, source, target, transform, "nearest")


def map_landmarks(landmarks: "Landmarks", transform: Transform) -> "Landmarks":
    """Move landmarks by a transform, their names kept.

    An image is pulled by the transform from fixed to moving points, but a point is pushed: moving
    landmarks come into the fixed image's space by the INVERSE, fixed landmarks into the moving
    image's by the forward transform.
    """
    from dataclasses import replace

    return replace(landmarks, points=transform.apply(landmarks.points))


def whole_numbers(labels: NDArray[Any]) -> Labels:
    """Return a label map as integers.

    Raises:
        InputError: it holds values that are not whole numbers.
    """
    if labels.dtype.kind in "iu":
        return labels
    rounded = np.rint(labels)
    if not np.array_equal(rounded, labels):
        raise InputError("the label map holds values that are not whole numbers; is it an image?")
    return rounded.astype(np.int32)


def _warp_channel(
    data: NDArray[Any],
    source: Grid,
    target: Grid,
    transform: Transform,
    interpolation: str,
    outside: float | None,
) -> NDArray[Any]:
    if outside is None:
        outside = min(0.0, float(data.min()))
    if interpolation == "nearest":
        return resample_array(data, source, target, transform, interpolation, outside)
    # ITK truncates what it interpolates between integers; float32 holds 24 bits exactly.
    exact = np.float32 if data.dtype.itemsize <= 2 or data.dtype == np.float32 else np.float64
    warped = resample_array(data.astype(exact), source, target, transform, interpolation, outside)
    if data.dtype == bool:
        return np.asarray(warped >= 0.5)
    if data.dtype.kind in "iu":
        limits = np.iinfo(data.dtype)
        warped = np.clip(np.rint(warped), limits.min, limits.max)
    return np.asarray(warped.astype(data.dtype))


def _known(name: str, known: tuple[str, ...], key: str) -> None:
    if name not in known:
        raise InputError(f"apply: unknown {key} '{name}'; choose one of {', '.join(known)}")
