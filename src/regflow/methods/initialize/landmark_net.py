"""A linear map through landmarks that a network finds in both images, having learned them from a few."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.landmarks import landmarks
from regflow.methods.matching.views import make_cube, prepare_view, sample_view
from regflow.methods.result import MethodResult

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

ARCHITECTURE = "landmark-network"
LEAST_SURE = 0.3
"""Part of a heat map that must lie about its peak for the landmark to count."""


def landmark_net(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Find landmarks in both images by a network of one's own, and fit a linear map to them.

    Sources: Payer et al., Medical Image Analysis 54:207-219, 2019 (heat maps); the fit as in
    :func:`regflow.methods.initialize.landmarks.landmarks`.

    Args:
        fixed: of two or three dimensions; its first channel and mask are used.
        moving: likewise.
        initial: not used.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: no network is named, it is missing or of other dimensions, or too few landmarks are
            found in both images.
    """
    from regflow.core.devices import open_torch_session
    from regflow.methods.learned_models import load_model, require_dimensions

    if options["weights"] is None:
        raise RegistrationError(
            "landmark-net: no network is named; train one on images of yours whose landmarks are known "
            "(regflow train, task landmarks), and name its file in the option 'weights'"
        )
    network, description = load_model(options["weights"], ARCHITECTURE)
    require_dimensions("landmark-net", description, fixed.grid.ndim)
    names = description.arguments["landmarks"]
    with open_torch_session(context.threads, context.seed):
        found = [find_landmarks(network, image, description.arguments["side"]) for image in (fixed, moving)]
    sure = np.minimum(*(chance for _, chance in found))
    kept = sure >= LEAST_SURE
    log.info("landmark-net: %d of %d landmarks are found in both images", kept.sum(), len(names))
    chosen = tuple(name for name, good in zip(names, kept, strict=True) if good)
    here, there = (Landmarks(chosen, points[kept], sure[kept]) for points, _ in found)
    given = {name: options[name] for name in ("model", "outliers")}
    return landmarks(fixed, moving, initial, given, replace(context, landmarks=LandmarkPairs(here, there)))


def find_landmarks(network: "nn.Module", image: Image, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where a network sees its landmarks in an image.

    Args:
        network: of :func:`~regflow.methods.initialize.landmark_network.build_landmark_network`.
        image: its first channel and mask are used.
        side: samples along each axis of what the network sees.

    Returns:
        World points ``(K, d)``, and ``(K,)`` how sure each is, 0 to 1.

    Raises:
        RegistrationError: the image is empty or constant.
    """
    import torch

    from regflow.methods.initialize.landmark_network import find_peaks

    cube = make_cube(image, side)
    view = sample_view(prepare_view(image, cube), cube, Affine.identity(cube.ndim))
    with torch.inference_mode():
        peaks, sure = find_peaks(network(torch.from_numpy(view)[None, None])[0])
    return cube.to_world(peaks.numpy()[:, ::-1]), sure.numpy()
