"""Where a pair lies on the guideline, by what is known of it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from regflow.core.grid import Grid
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.methods.guideline import (
    BRANCHES,
    PairFacts,
    describe_facts,
    find_branch,
    gather_facts,
    measure_motion,
)
from regflow.methods.initialize import METHODS as LINEAR
from regflow.methods.refine import METHODS as DEFORMABLE
from regflow.methods.table import list_methods_of_kind

HEADS = PairFacts("volumes", False, False, 0.95, 3.0, 4.0, 1.0, 160.0)
SCENES = PairFacts("rasters", False, False, 0.9, 0.1, 10.0, 0.2, 1000.0)


@pytest.mark.parametrize("kind", BRANCHES)
def test_all_methods_of_the_guideline_exist(kind):
    for branch in BRANCHES[kind]:
        assert set(branch.initialize) <= set(list_methods_of_kind(LINEAR, kind))
        assert set(branch.refine) <= set(list_methods_of_kind(DEFORMABLE, kind))


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        (HEADS, "lucas-kanade"),
        (replace(HEADS, landmarks=True), "landmarks"),
        (replace(HEADS, labels=True), "segmentation"),
        (replace(HEADS, ncc=-0.3), "mutual-information"),
        (replace(HEADS, ncc=None), "mutual-information"),
        (replace(HEADS, turn_degrees=60.0), "mutual-information"),
        (SCENES, "phase-correlation"),
        (replace(SCENES, ncc=0.2), "hypotheses"),
        (replace(SCENES, turn_degrees=30.0), "xfeat"),
        (replace(SCENES, shift=1.0, deformation=1.5), "lucas-kanade"),
    ],
)
def test_the_first_question_that_holds_decides(facts, first):
    assert find_branch(facts).initialize[0] == first


def test_large_motion_of_organs_is_searched_for():
    assert find_branch(replace(HEADS, deformation=20.0)).refine[0] == "discrete"


def test_motion_is_told_apart_into_turn_shift_and_deformation():
    grid = Grid.from_geometry((20, 20, 20), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    points = grid.to_world(np.random.default_rng(0).uniform(3, 16, (500, 3)))
    turn = Rotation.from_rotvec(np.deg2rad([0, 0, 25.0])).as_matrix()
    pose = Affine.from_parts(turn, [3.0, 4.0, 0.0], points.mean(axis=0))
    found = measure_motion(pose, points)
    assert found["turn_degrees"] == pytest.approx(25.0, abs=1e-6)
    assert found["shift"] == pytest.approx(5.0)
    assert found["deformation"] == pytest.approx(0.0, abs=1e-9)
    z = np.indices(grid.shape)[0]
    wave = np.stack([6 * np.sin(z), np.zeros(grid.shape), np.zeros(grid.shape)]).astype(np.float32)
    bent = measure_motion(Composite((DisplacementField(wave, grid), pose)), points)
    assert bent["deformation"] > 1.0
    flat = measure_motion(Affine.from_parts(turn[:2, :2], [0.0, 0.0]), points[:, :2])
    assert flat["turn_degrees"] == pytest.approx(25.0, abs=1e-6)


def test_facts_come_from_what_was_given_and_found():
    given = {"fixed_labels": "a.nii", "moving_labels": "b.nii", "fixed_landmarks": "c.csv"}
    motion = {"turn_degrees": 2.0, "shift": 30.0, "deformation": 5.0, "size": 1000.0}
    outcome = {"status": "pass", "figures": {"ncc_refine": 0.8}, "motion": motion}
    facts = gather_facts("rasters", given, outcome, 10.0)
    assert facts == PairFacts("rasters", False, True, 0.8, 2.0, 3.0, 0.5, 100.0)
    assert "correlation 0.80" in describe_facts(facts)
    assert "label maps" in describe_facts(facts)
    assert gather_facts("volumes", {}, {"state": "failed"}, 1.0).ncc is None
