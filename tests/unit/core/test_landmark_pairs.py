"""Which landmarks are partners, and whether another order would fit far better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from regflow.core.errors import InputError
from regflow.core.landmark_pairs import (
    describe_misorder,
    describe_order,
    describe_unpaired,
    find_better_order,
    find_better_rigid_order,
    measure_rigid_residual,
    pair_landmarks,
)
from regflow.core.landmarks import Landmarks
from regflow.core.plausibility import check_landmark_mirroring

BRAIN = np.array(
    [[-35.0, -60, 20], [40, 55, 90], [10, -110, 60], [-50, 30, 110], [5, 0, -20], [25, 80, 40], [60, -20, 0]]
)
NAMES = ("AC", "PC", "genu", "splenium", "fastigium", "pons", "vermis")
NUMBERS = tuple(str(number) for number in range(1, len(BRAIN) + 1))
TURNED = BRAIN @ Rotation.from_euler("xyz", [20, -10, 30], degrees=True).as_matrix().T + [12, -9, 8]
SHUFFLED = np.array([3, 0, 1, 2, 4, 6, 5])


def named(names, points, order=None) -> Landmarks:
    order = np.arange(len(points)) if order is None else order
    return Landmarks(tuple(names[k] for k in order), points[order])


def test_partners_are_found_by_name_in_any_order():
    pairs = pair_landmarks(named(NAMES, BRAIN), named(NAMES, TURNED, SHUFFLED))
    assert pairs.fixed.names == pairs.moving.names == NAMES
    assert np.array_equal(pairs.fixed.points, BRAIN)
    assert np.array_equal(pairs.moving.points, TURNED)
    assert not pairs.by_order
    assert describe_unpaired(pairs) is None


def test_names_that_are_shared_in_part_pair_what_they_name_and_the_rest_is_told():
    moving = named((*NAMES[:5], "Pons", "vermis"), TURNED, SHUFFLED)
    pairs = pair_landmarks(named(NAMES, BRAIN), moving)
    kept = [k for k, name in enumerate(NAMES) if name != "pons"]
    assert pairs.fixed.names == pairs.moving.names == tuple(NAMES[k] for k in kept)
    assert np.array_equal(pairs.moving.points, TURNED[kept])
    assert (pairs.only_fixed, pairs.only_moving) == (("pons",), ("Pons",))
    assert describe_unpaired(pairs) == (
        "landmarks without a partner of the same name are left out: pons of the fixed image and Pons of "
        "the moving image; 6 are compared"
    )


def test_files_of_different_counts_pair_by_what_they_share():
    pairs = pair_landmarks(named(NAMES, BRAIN), named(NAMES, TURNED, np.array([5, 2, 0])))
    assert pairs.fixed.names == ("AC", "genu", "pons")
    assert np.array_equal(pairs.moving.points, TURNED[[0, 2, 5]])
    assert set(pairs.only_fixed) == set(NAMES) - {"AC", "genu", "pons"}


def test_a_name_that_stands_twice_names_nobody():
    moving = Landmarks(("AC", "PC", "PC", "genu"), TURNED[[0, 1, 2, 2]])
    pairs = pair_landmarks(named(NAMES, BRAIN), moving)
    assert pairs.fixed.names == ("AC", "genu")
    assert "PC" in pairs.only_moving


def test_order_counts_only_where_nobody_has_names():
    pairs = pair_landmarks(named(NUMBERS, BRAIN), named(NUMBERS, TURNED))
    assert pairs.by_order
    assert np.array_equal(pairs.moving.points, TURNED)
    with pytest.raises(InputError, match="7 fixed but 3 moving landmarks, and no names"):
        pair_landmarks(named(NUMBERS, BRAIN), Landmarks(NUMBERS[:3], TURNED[:3]))
    for other in (NUMBERS, ("a", "b", "c", "d", "e", "f", "g")):
        with pytest.raises(InputError, match=r"share no name of a landmark \(fixed: AC, PC.*moving: "):
            pair_landmarks(named(NAMES, BRAIN), named(other, TURNED))


def test_another_order_that_fits_far_better_is_found_and_told():
    pairs = pair_landmarks(named(NUMBERS, BRAIN), named(NUMBERS, TURNED[SHUFFLED]))
    found = find_better_rigid_order(pairs.fixed.points, pairs.moving.points)
    assert np.array_equal(SHUFFLED[found.order], np.arange(len(BRAIN)))
    assert found.better_mm == pytest.approx(0, abs=1e-9)
    assert found.given_mm == pytest.approx(measure_rigid_residual(BRAIN, TURNED[SHUFFLED]))
    told = describe_misorder(pairs)
    assert told.startswith("the order of the landmarks does not fit, another order would fit far better")
    assert "1 with 2" in told
    assert describe_misorder(pair_landmarks(named(NUMBERS, BRAIN), named(NUMBERS, TURNED))) is None


def test_two_exchanged_names_are_told_by_name():
    swapped = np.array([0, 1, 2, 3, 5, 4, 6])
    pairs = pair_landmarks(named(NAMES, BRAIN), Landmarks(NAMES, TURNED[swapped]))
    found = find_better_rigid_order(pairs.fixed.points, pairs.moving.points)
    assert describe_order(pairs, found).endswith("fastigium with pons, pons with fastigium")
    assert "the names of the landmarks do not fit" in describe_misorder(pairs)


def test_after_a_fit_the_order_is_judged_as_the_points_lie():
    found = find_better_order(TURNED, TURNED[SHUFFLED] + 1.0)
    assert np.array_equal(SHUFFLED[found.order], np.arange(len(BRAIN)))
    assert found.better_mm == pytest.approx(np.sqrt(3))
    assert find_better_order(TURNED, TURNED + 20.0) is None
    assert find_better_order(TURNED[:3], TURNED[[1, 0, 2]]) is None


def test_a_wrong_order_is_not_taken_for_a_mirror_image():
    four = np.array([[0.0, 0, 0], [80, 0, 0], [0, 80, 0], [0, 0, 80]])
    given = four[[0, 2, 1, 3]]
    assert measure_rigid_residual(four, given, -1.0) < 1e-9
    assert check_landmark_mirroring(Landmarks(NUMBERS[:4], four), Landmarks(NUMBERS[:4], given)) is not None
    skewed = four + np.array([[0.0, 0, 0], [15, 0, 0], [0, -10, 0], [0, 0, 25]])
    given = skewed[[0, 2, 1, 3]]
    assert check_landmark_mirroring(Landmarks(NUMBERS[:4], skewed), Landmarks(NUMBERS[:4], given)) is None


@given(
    seed=st.integers(0, 10_000),
    angles=st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    scale=st.floats(0.8, 1.25),
    count=st.integers(4, 30),
)
@settings(max_examples=60, deadline=None)
def test_the_right_order_of_turned_scaled_and_deformed_landmarks_is_never_doubted(seed, angles, scale, count):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-70, 70, (count, 3))
    turn = Rotation.from_euler("xyz", angles).as_matrix()
    moving = scale * points @ turn.T + rng.normal(0, 3, points.shape) + 30
    assert find_better_rigid_order(points, moving) is None
