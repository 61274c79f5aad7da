"""The slow part of a motion."""

import numpy as np

from regflow.core.transform import Affine
from regflow.methods.groupwise.motion import remove_jitter, smooth_poses

CENTER = np.array([50.0, 40.0])


def make_poses(shifts, turns=None):
    turns = np.zeros(len(shifts)) if turns is None else turns
    poses = {}
    for number, (shift, turn) in enumerate(zip(shifts, turns, strict=True)):
        cos, sin = np.cos(turn), np.sin(turn)
        poses[f"t{number}"] = Affine.from_parts([[cos, -sin], [sin, cos]], shift, CENTER)
    return poses


def test_an_even_motion_is_no_jitter():
    poses = make_poses([(2.0 * n, -n) for n in range(9)])
    smooth = smooth_poses(poses, list(poses), "translation", 2.0, CENTER)
    for pose in remove_jitter(poses, smooth).values():
        assert np.allclose(pose.matrix, np.eye(3), atol=1e-9)


def test_a_single_jump_is_taken_out_of_an_even_motion():
    shifts = [(2.0 * n, 0.0) for n in range(9)]
    shifts[4] = (shifts[4][0] + 3.0, 0.0)
    poses = make_poses(shifts)
    kept = remove_jitter(poses, smooth_poses(poses, list(poses), "translation", 3.0, CENTER))
    moved = [kept[name].apply(CENTER[None])[0, 0] - CENTER[0] for name in poses]
    assert moved[4] > 2.0
    assert max(abs(value) for number, value in enumerate(moved) if number != 4) < 1.0


def test_smoothed_turns_are_turns():
    poses = make_poses([(0.0, 0.0)] * 5, turns=[0.0, 0.2, 0.1, 0.3, 0.2])
    for pose in smooth_poses(poses, list(poses), "rigid", 1.0, CENTER).values():
        assert np.allclose(pose.linear @ pose.linear.T, np.eye(2))


def test_two_images_lie_on_a_line():
    poses = make_poses([(0.0, 0.0), (5.0, 1.0)])
    smooth = smooth_poses(poses, list(poses), "translation", 3.0, CENTER)
    assert all(np.allclose(smooth[name].matrix, poses[name].matrix) for name in poses)
