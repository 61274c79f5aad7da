"""Second thoughts about a pose: how far it is from a maximum, and how good the next best one is."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.methods.initialize.information import InformationMetric, prepare_levels, score_poses
from regflow.methods.initialize.poses import (
    Matrix,
    ScoredPose,
    find_nearest_rotation,
    measure_angles,
    optimize_pose,
    to_3d,
)
from regflow.methods.initialize.search import (
    SAME_DEGREES,
    SAME_PLACE,
    list_starting_poses,
    rescale_poses,
    select_distinct_poses,
)

SAMPLES_ACROSS = 24
BINS = 32
CLIMBED = 6
ITERATIONS = 30


@dataclass(frozen=True)
class PeakAmbiguity:
    """How sure a pose is.

    Attributes:
        drift: mean distance, in world units, by which the pose moves when it climbs to the nearest
            maximum of mutual information.
        radius: root mean square distance of the fixed samples from their center, to compare with.
        second_peak_ratio: mutual information of the best pose elsewhere, as a part of this pose's own;
            above 1 the other one is better.
    """

    drift: float
    radius: float
    second_peak_ratio: float


def peak_ambiguity(fixed: Image, moving: Image, transform: Affine, threads: int = 1) -> PeakAmbiguity:
    """Climb from a pose and from the most promising poses elsewhere, all orientations considered.

    Args:
        fixed: working fixed image; coarse copies will do, 24 samples across are used.
        moving: working moving image.
        transform: the pose to doubt.
        threads: most threads; the result does not depend on their number.

    Raises:
        RegistrationError: an image is constant or its mask empty.
    """
    ndim = fixed.grid.ndim
    with ThreadPoolExecutor(max(1, threads)) as workers:
        (level,) = prepare_levels(fixed, moving, [SAMPLES_ACROSS], BINS, workers)
        own = to_3d(transform.matrix)
        own[:3, 3] = own[:3, :3] @ level.center + own[:3, 3]
        value = InformationMetric(level)(own)[0]
        poses = list_starting_poses(level, moving, np.eye(4), ndim, "all")
        # Elsewhere the moving object has the size that the pose gives it.
        poses = rescale_poses(poses, abs(float(np.linalg.det(own[:ndim, :ndim]))), ndim)
        poses = poses[_elsewhere(poses, own, level.radius)]
        values = score_poses(level, poses, workers)
        ranked = [
            ScoredPose(poses[k], values[k]) for k in np.argsort(-values, kind="stable") if values[k] > 0
        ]
        starts = [ScoredPose(own, value), *select_distinct_poses(ranked, CLIMBED, level.radius)]

        def climb(start: ScoredPose) -> ScoredPose:
            return optimize_pose(
                InformationMetric(level),
                start.pose,
                np.eye(4),
                ndim,
                transform="rigid",
                iterations=ITERATIONS,
            )

        settled, *others = workers.map(climb, starts)
    far = _elsewhere(np.array([item.pose for item in others]), own, level.radius)
    best = max((item.value for item, is_far in zip(others, far, strict=True) if is_far), default=0.0)
    points = level.points.astype(np.float64)
    moves = points @ (settled.pose - own)[:3, :3].T + (settled.pose - own)[:3, 3]
    drift = float(np.linalg.norm(moves, axis=1).mean())
    return PeakAmbiguity(drift, level.radius, best / value if value > 0 else float("inf"))


def _elsewhere(poses: Matrix, own: Matrix, radius: float) -> np.ndarray:
    """Return which of the poses ``(K, 4, 4)`` belong to another maximum."""
    if len(poses) == 0:
        return np.zeros(0, dtype=bool)
    turns = np.array([find_nearest_rotation(pose[:3, :3]) for pose in poses])
    turned = measure_angles(turns, find_nearest_rotation(own[:3, :3])) > SAME_DEGREES
    shifted = np.linalg.norm(poses[:, :3, 3] - own[:3, 3], axis=1) > SAME_PLACE * radius
    return np.asarray(turned | shifted)
