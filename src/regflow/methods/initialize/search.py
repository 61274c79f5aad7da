"""The search for a pose among all orientations."""

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.methods.initialize.information import InformationLevel, InformationMetric, is_cut, score_poses
from regflow.methods.initialize.moments import measure_mass
from regflow.methods.initialize.poses import (
    ScoredPose,
    find_nearest_rotation,
    list_rotations,
    measure_angles,
    optimize_pose,
)

Matrix = NDArray[np.float64]

STEP_DEGREES = 30.0
"""Distance between neighboring rotations: from each the next maximum can be climbed to."""
NEAR_DEGREES = 60.0
"""Largest turn away from the header's orientation when only near orientations are asked for."""
OFFSET = 0.6
"""Shift tried to either side of an unmasked moving image's center, in units of the radius."""
FIRST_CLIMB, FULL_CLIMB = 10, 60
"""Iterations that show how promising a start is, and that reach its maximum."""
FOLLOWED = 4
"""Maxima climbed to the top."""
NEARLY = 0.9
"""A pose near the header's orientation is preferred to one that is better by less than a tenth."""
SAME_DEGREES = 20.0
SAME_PLACE = 0.3
"""Poses nearer than these (the shift in units of the radius) belong to one maximum."""


def list_starting_poses(
    level: InformationLevel, moving: Image, after: Matrix, ndim: int, orientations: str
) -> Matrix:
    """Return poses ``(K, 4, 4)`` to start from, the header's own first.

    Every rotation lays the center of the fixed mask on that of the moving mask. Without a moving
    mask the center is a guess, so places around it are tried as well.

    Args:
        level: any level of the pair.
        moving: the moving image.
        after: applied after each pose: where the header's own pose is.
        ndim: 2 or 3.
        orientations: ``all``, ``near`` (within :data:`NEAR_DEGREES`) or ``header`` (none but its own).
    """
    turns = list_rotations(ndim, STEP_DEGREES)
    if orientations != "all":
        turns = turns[measure_angles(turns, np.eye(3)) <= (NEAR_DEGREES if orientations == "near" else 0)]
    center = np.zeros(3)
    center[:ndim] = measure_mass(moving)[0]
    places = np.linalg.solve(after, [*center, 1])[None, :3]
    if moving.mask is None:
        steps = np.concatenate([np.zeros((1, 3)), np.eye(3)[:ndim], -np.eye(3)[:ndim]])
        places = places + OFFSET * level.radius * steps
    poses = np.tile(np.eye(4), (1 + len(turns) * len(places), 1, 1))
    poses[0, :3, 3] = level.center
    poses[1:, :3, :3] = np.repeat(turns, len(places), axis=0)
    poses[1:, :3, 3] = np.tile(places, (len(turns), 1))
    return poses


def rescale_poses(poses: Matrix, volume: float, ndim: int) -> Matrix:
    """Return poses ``(K, 4, 4)`` with volumes, in the plane areas, multiplied about the fixed center."""
    larger = np.array(poses)
    larger[:, :ndim, :ndim] *= volume ** (1 / ndim)
    return larger


def measure_size_change(fixed: Image, moving: Image) -> float | None:
    """Return how many times the fixed mask's volume the moving mask has.

    None where that does not tell sizes: without both masks, or where the field of view cuts one.
    """
    volumes = []
    for image in (fixed, moving):
        if image.mask is None or not image.mask.any() or is_cut(image.mask):
            return None
        volumes.append(float(image.mask.sum() * abs(np.linalg.det(image.grid.affine))))
    return volumes[1] / volumes[0]


def rank_poses(
    level: InformationLevel, poses: Matrix, after: Matrix, ndim: int, *, starts: int, workers: Executor
) -> list[ScoredPose]:
    """Score poses, climb from the most promising, and rank the maxima that they reach.

    Args:
        level: the pair, coarse.
        poses: ``(K, 4, 4)`` to start from; the first is always climbed from.
        after: applied after each pose.
        ndim: 2 or 3.
        starts: how many are climbed from.
        workers: threads; the result does not depend on their number.

    Returns:
        Maxima that lie apart, the one of greatest mutual information first.

    Raises:
        RegistrationError: the images overlap from none of the poses.
    """
    values = score_poses(level, after @ poses, workers)
    ranked = [k for k in np.argsort(-values, kind="stable") if values[k] > 0]
    chosen = select_distinct_poses([ScoredPose(poses[k], values[k]) for k in ranked], starts, level.radius)
    if not chosen:
        raise RegistrationError("mutual-information: the images overlap from none of the starting poses")
    if values[0] > 0:
        chosen.append(ScoredPose(poses[0], values[0]))
    for iterations, keep in ((FIRST_CLIMB, FOLLOWED), (FULL_CLIMB, FOLLOWED)):

        def climb(start: ScoredPose, iterations: int = iterations) -> ScoredPose:
            return optimize_pose(
                InformationMetric(level), start.pose, after, ndim, transform="rigid", iterations=iterations
            )

        climbed = sorted(workers.map(climb, chosen), key=lambda item: -item.value)
        chosen = select_distinct_poses(climbed, keep, level.radius)
    return chosen


def choose_pose(found: Sequence[ScoredPose]) -> ScoredPose:
    """Return the best pose, or one near the header's orientation that is nearly as good.

    Thin slabs and blurred images look alike from several sides; scanners' headers seldom err much.
    """
    for item in found:
        turn = float(measure_angles(find_nearest_rotation(item.pose[:3, :3])[None], np.eye(3))[0])
        if turn <= NEAR_DEGREES and item.value >= NEARLY * found[0].value:
            return item
    return found[0]


def select_distinct_poses(found: Sequence[ScoredPose], count: int, radius: float) -> list[ScoredPose]:
    """Return the first ``count`` poses that lie apart from each other."""
    kept: list[ScoredPose] = []
    turns = np.empty((0, 3, 3))
    places = np.empty((0, 3))
    for item in found:
        turn, place = find_nearest_rotation(item.pose[:3, :3]), item.pose[:3, 3]
        near = np.linalg.norm(places - place, axis=1) <= SAME_PLACE * radius
        if np.any(near & (measure_angles(turns, turn) <= SAME_DEGREES)):
            continue
        kept.append(item)
        turns, places = np.concatenate([turns, turn[None]]), np.concatenate([places, place[None]])
        if len(kept) == count:
            break
    return kept
