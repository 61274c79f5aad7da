"""Points matched as a graph: neighbors that move alike outvote descriptors that are alike by chance."""

import numpy as np
import pytest

from regflow.methods.matching.graph_matching import (
    SOLVERS,
    find_candidates,
    find_edges,
    measure_differences,
    measure_disagreement,
)

COUNT, RADIUS = 150, 40.0


def clouds(ndim, noise):
    """Points that a smooth motion moves, with clutter, and descriptors of which many are alike."""
    rng = np.random.default_rng(3)
    places = rng.uniform(0, 100, (COUNT, ndim))
    truth = 10 + 8 * np.sin(places / 30)
    kinds = rng.integers(0, 12, COUNT)
    looks = rng.normal(size=(12, 16))[kinds]
    described, theirs = (looks + noise * rng.normal(size=looks.shape) for _ in range(2))
    clutter = rng.uniform(0, 120, (COUNT, ndim))
    strange = rng.normal(size=(COUNT, 16))
    order = rng.permutation(2 * COUNT)
    others = np.concatenate([places + truth, clutter])[order]
    return places, described, others, np.concatenate([theirs, strange])[order], truth


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("solver", SOLVERS)
def test_neighbors_decide_between_points_that_look_alike(ndim, solver):
    places, described, others, theirs, truth = clouds(ndim, 0.15)
    candidates = find_candidates(places, described, others, theirs, RADIUS, 14)
    by_looks = candidates.shifts[:, 0]
    edges = find_edges(places, 8)
    chosen = SOLVERS[solver](candidates, edges, measure_disagreement(places, candidates, edges, 0.5))
    matched = chosen >= 0
    shifts = candidates.shifts[matched, chosen[matched]]
    assert (np.abs(by_looks - truth).max(axis=1) < 1e-9).mean() < 0.5
    assert (np.abs(shifts - truth[matched]).max(axis=1) < 1e-9).mean() > 0.85
    assert matched.mean() > 0.6


def test_the_eigenvector_takes_no_partner_twice():
    places, described, others, theirs, _ = clouds(2, 0.3)
    candidates = find_candidates(places, described, others, theirs, RADIUS, 10)
    edges = find_edges(places, 8)
    chosen = SOLVERS["spectral"](candidates, edges, measure_disagreement(places, candidates, edges, 0.5))
    matched = np.flatnonzero(chosen >= 0)
    partners = candidates.numbers[matched, chosen[matched]]
    assert len(set(partners)) == len(partners)


def test_edges_go_both_ways():
    edges = find_edges(np.random.default_rng(0).normal(size=(40, 3)), 5)
    assert {tuple(edge) for edge in edges} == {tuple(edge[::-1]) for edge in edges}
    assert (np.bincount(edges[:, 0]) >= 5).all()


def test_candidates_within_the_radius_come_first():
    places, described, others, theirs, _ = clouds(2, 0.15)
    found = find_candidates(places, described, others, theirs, 15.0, 3)
    near = (np.abs(others[None] - places[:, None]).max(axis=2) <= 15).sum(axis=1) >= 3
    assert near.any()
    assert np.abs(found.shifts[near]).max() <= 15
    difference = measure_differences(described, theirs)
    assert difference[0, 0] == pytest.approx(np.square(described[0] - theirs[0]).mean())
