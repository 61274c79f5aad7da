import math

import numpy as np
import pytest

from regflow.methods.stack.section_chain import find_slow_path, make_mirror, place_sections
from regflow.methods.stack.section_links import JudgedSections, SectionLink, find_mirrored, judge_sections
from regflow.methods.stack.section_order import find_misplaced, move_misplaced
from regflow.methods.stack.section_pose import SectionPose

SIZE = np.array([100.0, 80.0])


def make_move(x, y, degrees, middle=(49.5, 39.5)):
    angle, middle = math.radians(degrees), np.array(middle)
    matrix = np.eye(3)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:2, 2] = middle - matrix[:2, :2] @ middle + [x, y]
    return matrix


def draw_moves(count, *, jitter=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return [
        make_move(*(jitter * rng.standard_normal(2)), jitter * rng.standard_normal()) for _ in range(count)
    ]


def measure_with(moves, scores=None, mirrored=()):
    """Return a comparison that knows the truth; sections far apart are less alike."""

    def score(pair):
        known = 1.0 if scores is None else min(scores[number] for number in pair)
        return known * math.exp(-abs(pair[0] - pair[1]) / 6)

    def measure(pairs):
        for first, second in pairs:
            matrix = moves[second] @ np.linalg.inv(moves[first])
            one = SectionPose(matrix, False, score((first, second)), 0.8)
            wrong = SectionPose(matrix, True, 0.2 * score((first, second)), 0.2)
            differs = (first in mirrored) != (second in mirrored)
            yield SectionLink((first, second), *((wrong, one) if differs else (one, wrong)))

    return measure


def place(moves, judged, width=None):
    points = [np.array([[20.0, 20], [80, 20], [50, 60]])] * len(moves)
    names = [f"s{number:02d}" for number in range(len(moves))]
    sizes = np.tile(SIZE, (len(moves), 1))
    return place_sections(names, range(len(moves)), judged, points, sizes, width)


def test_sections_lie_where_the_block_has_them():
    moves = draw_moves(40)
    judged = judge_sections(40, range(40), measure_with(moves))
    whole = np.array(
        [pose @ move for pose, move in zip(place(moves, judged, math.inf).poses, moves, strict=True)]
    )
    # By links alone all sections come to lie on one another, and the whole about where most were scanned.
    np.testing.assert_allclose(whole, np.broadcast_to(whole[0], whole.shape), atol=1e-6)
    assert np.abs(whole[0] - np.eye(3))[:2, :2].max() < 0.03
    found = place(moves, judged)
    whole = np.array([pose @ move for pose, move in zip(found.poses, moves, strict=True)])
    # What chance makes look like a slow shape is a small part of the jitter of 3 pixels.
    assert whole[:, :2, 2].std(axis=0).max() < 0.9
    assert 2 < found.jitter_px < 4


def test_a_drift_of_the_links_does_not_straighten_the_block():
    count = 60
    moves = draw_moves(count, jitter=1.0)
    # Links are laid along a tissue that goes aside by half a pixel from section to section.
    drifting = [move @ make_move(0.5 * n, 0, 0) for n, move in enumerate(moves)]
    judged = judge_sections(count, range(count), measure_with(drifting))
    found = place(moves, judged)
    aside = np.array([(pose @ move)[0, 2] for pose, move in zip(found.poses, moves, strict=True)])
    assert np.abs(aside - aside.mean()).max() < 2
    kept = place(moves, judged, math.inf)
    assert np.ptp([(pose @ move)[0, 2] for pose, move in zip(kept.poses, moves, strict=True)]) > 20


def test_turns_at_random_say_nothing_of_the_shape():
    rng = np.random.default_rng(1)
    changes = np.array([make_move(0, 0, angle) for angle in rng.uniform(-180, 180, 30)])
    slow, widths, _ = find_slow_path(changes, SIZE / 2, 20.0)
    assert widths == (math.inf,) * 3
    np.testing.assert_allclose(slow, np.broadcast_to(slow[0], slow.shape), atol=1e-9)


def test_mirrored_sections_are_found_and_placed():
    moves = draw_moves(12)
    mirrored = (3, 7, 8)
    judged = judge_sections(12, range(12), measure_with(moves, mirrored=mirrored))
    assert np.flatnonzero(judged.mirrored).tolist() == list(mirrored)
    assert find_mirrored(3, []).tolist() == [False] * 3
    mirror = make_mirror(SIZE[0])
    np.testing.assert_allclose(mirror @ mirror, np.eye(3))
    np.testing.assert_allclose(mirror @ [0, 5, 1], [99, 5, 1])


def test_sections_that_fit_none_are_bridged_and_named():
    moves = draw_moves(14)
    scores = np.ones(14)
    scores[[5, 9]] = 0.1
    judged = judge_sections(14, range(14), measure_with(moves, scores))
    assert np.flatnonzero(~judged.fitting).tolist() == [5, 9]
    assert {(4, 7), (8, 11), (3, 6)} <= set(judged.links)
    poses = place(moves, judged, math.inf).poses
    np.testing.assert_allclose(poses[3] @ moves[3], poses[10] @ moves[10], atol=1e-6)


def test_sections_without_links_lie_as_scanned():
    moves = draw_moves(10)

    def measure(pairs):
        for link in measure_with(moves)(pairs):
            apart = link.pair[0] < 5 <= link.pair[1]
            yield SectionLink(link.pair, None, None) if apart else link

    judged = judge_sections(10, range(10), measure)
    found = place(moves, judged)
    assert sorted(map(len, found.solution.parts)) == [5, 5]
    whole = np.array([pose @ move for pose, move in zip(found.poses, moves, strict=True)])
    for part in (whole[:5], whole[5:]):
        np.testing.assert_allclose(part, np.broadcast_to(part[0], part.shape), atol=0.3)
        assert np.abs(part[0][:2, 2]).max() < 8


@pytest.mark.parametrize("swap", [(4, 15), (9, 18)])
def test_swapped_sections_are_found_and_sorted(swap):
    count = 24
    true = list(range(count))
    true[swap[0]], true[swap[1]] = true[swap[1]], true[swap[0]]
    moves = draw_moves(count)

    def measure(pairs):
        for first, second in pairs:
            score = math.exp(-abs(true[first] - true[second]) / 3)
            pose = SectionPose(moves[second] @ np.linalg.inv(moves[first]), False, score, 0.8)
            yield SectionLink((first, second), pose, None)

    judged = judge_sections(count, range(count), measure)
    found = find_misplaced(range(count), judged, measure)
    assert set(found) == set(swap)
    order = move_misplaced(range(count), found)
    assert [true[number] for number in order] == list(range(count))
    assert isinstance(judged, JudgedSections)
