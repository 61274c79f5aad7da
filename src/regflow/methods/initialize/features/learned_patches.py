"""Harris corners with learned descriptors of the patches around them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.devices import limit_torch_to_one_thread
from regflow.core.image import Image
from regflow.methods.initialize.features.detectors import find_harris_corners
from regflow.methods.initialize.features.keypoints import (
    Keypoints,
    find_usable_mask,
    scale_to_eight_bit,
    spread_evenly,
)

if TYPE_CHECKING:
    from torch import nn

CORNER_SCALE = 1.6
"""Blur at which corners are sought, pixels."""
AT_ONCE = 512
"""Patches that are described together."""


def describe_corners(network: "nn.Module", branch: str, image: Image, count: int) -> Keypoints:
    """Return Harris corners of one scale, upright, described by a branch of a network.

    Args:
        network: a :class:`~regflow.methods.initialize.features.patch_descriptor.PatchDescriptor`.
        branch: of it.
        image: 2-D, on a grid of pixels.
        count: most corners.

    Raises:
        RegistrationError: the picture is too small for keypoints, or has no valid pixel.
    """
    plane = scale_to_eight_bit(image).astype(np.float32)
    points, strengths = find_harris_corners(plane, CORNER_SCALE, find_usable_mask(image))
    chosen = points[spread_evenly(points.astype(float), strengths, plane.shape, count)]
    patches = cut_patches(plane, chosen, network.side)  # type: ignore[arg-type]
    return Keypoints(chosen.astype(np.float64), _describe(network, branch, patches))


def cut_patches(plane: NDArray[np.float32], points: NDArray[np.intp], side: int) -> NDArray[np.float32]:
    """Return squares ``(N, side, side)`` whose pixel ``side // 2`` along each axis lies on a point.

    Args:
        plane: a picture; its border is continued.
        points: ``(N, 2)`` pixels ``(x, y)``.
        side: of a square.
    """
    half = side // 2
    padded = np.pad(plane, half, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return np.ascontiguousarray(windows[points[:, 1], points[:, 0]])


def _describe(network: Any, branch: str, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    with limit_torch_to_one_thread(), torch.inference_mode():
        parts = [network(part, branch) for part in torch.from_numpy(patches).split(AT_ONCE)]
    return np.concatenate([part.numpy() for part in parts])
