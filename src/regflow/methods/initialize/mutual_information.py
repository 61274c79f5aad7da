"""Rigid, then similarity or affine alignment by mutual information, from all orientations.

The search is coarse to fine. At the coarsest spacing rotations that cover all orientations, with
the centers of both masks laid on each other, are scored; the most promising are optimized, and the
best maximum is followed, with the freedom that is asked for, to the finest spacing, by compiled kernels
or by SimpleITK's Mattes metric. Mutual information makes no assumption about contrast, and the many
starts solve any tilt and patients who lie the other way.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.information import InformationLevel, InformationMetric, prepare_levels
from regflow.methods.initialize.mattes_volumes import maximize_mattes
from regflow.methods.initialize.poses import optimize_pose, to_2d, to_3d
from regflow.methods.initialize.search import (
    choose_pose,
    list_starting_poses,
    measure_size_change,
    rank_poses,
    rescale_poses,
)

log = logging.getLogger(__name__)

ITERATIONS = 60
RESIZED = 2.0
"""Factor between the volumes of both masks beyond which poses of that change of size are tried as well:
so far from its maximum the rigid search loses its way."""


def mutual_information(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Find the rigid, similarity or affine transform of greatest mutual information.

    Args:
        fixed: working fixed image; its mask, and a thin shell around it, is where samples are taken.
        moving: working moving image; outside its mask it counts as background.
        initial: affine; where the header's own pose is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Returns:
        An affine that includes ``initial``.

    Raises:
        RegistrationError: an image is constant or its mask empty, the images never overlap, or
            ``initial`` is not affine.
    """
    if not isinstance(initial, Affine):
        raise RegistrationError("mutual-information: the transform to start from is not affine")
    ndim = fixed.grid.ndim
    after = to_3d(initial.matrix)
    with ThreadPoolExecutor(max(1, context.threads)) as workers:
        pyramid = prepare_levels(fixed, moving, options["samples_across"], options["bins"], workers)
        poses = list_starting_poses(pyramid[0], moving, after, ndim, options["orientations"])
        change = measure_size_change(fixed, moving)
        if options["transform"] != "rigid" and change is not None and not 1 / RESIZED < change < RESIZED:
            poses = np.concatenate([poses, rescale_poses(poses[1:], change, ndim)])
        found = rank_poses(pyramid[0], poses, after, ndim, starts=options["starts"], workers=workers)
        log.info("poses at %.1f mm: %s", pyramid[0].spacing, ", ".join(f"{f.value:.3f}" for f in found))
        pose, transform = choose_pose(found).pose, options["transform"]
        if options["engine"] == "simpleitk":
            spacings = [level.spacing for level in pyramid[1:] or pyramid]
            near = _world(after, pose, pyramid[0], ndim)
            return maximize_mattes(fixed, moving, near, spacings, bins=options["bins"], transform=transform)
        for level in pyramid[1:] or pyramid:
            metric = InformationMetric(level, workers)
            best = optimize_pose(metric, pose, after, ndim, transform=transform, iterations=ITERATIONS)
            pose = best.pose
            log.info("%.1f mm: mutual information %.4f", level.spacing, best.value)
    return _world(after, pose, pyramid[0], ndim)


def _world(
    after: NDArray[np.float64], pose: NDArray[np.float64], level: InformationLevel, ndim: int
) -> Affine:
    """Return the map of world points for a pose of points about the level's center."""
    centered = np.eye(4)
    centered[:3, 3] = -level.center
    return Affine(to_2d(after @ pose @ centered, ndim))
