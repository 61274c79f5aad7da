"""Unbalanced transport: partners get the mass, and what has none keeps it."""

import numpy as np
import pytest

from regflow.methods.matching.transport import solve_transport


def line(count, step):
    return step * np.arange(count, dtype=np.float64)


def test_partners_are_found_and_clutter_keeps_its_mass():
    one, other = line(10, 1.0), np.concatenate([line(10, 1.0) + 0.2, [50.0, 60.0]])
    costs = np.square(one[:, None] - other[None])
    plan = solve_transport(costs, 0.01, 1.0, 500)
    assert (plan.argmax(axis=1) == np.arange(10)).all()
    assert plan[:, 10:].sum() < 1e-6
    assert 0.5 < plan.sum() <= 1.0


def test_what_costs_more_than_the_reach_is_not_moved():
    costs = np.array([[0.1, 9.0], [9.0, 8.0]])
    plan = solve_transport(costs, 0.05, 0.5, 500)
    assert plan[0, 0] > 100 * plan[1].sum()


@pytest.mark.parametrize("reach", [0.5, 1e4])
def test_a_wide_reach_balances_both_sides(reach):
    costs = np.random.default_rng(0).uniform(0, 1, (6, 9))
    plan = solve_transport(costs, 0.1, reach, 5000)
    sums = plan.sum(axis=1), plan.sum(axis=0)
    balanced = np.allclose(sums[0], 1 / 6, rtol=1e-2) and np.allclose(sums[1], 1 / 9, rtol=1e-2)
    assert balanced == (reach > 1)


def test_large_costs_do_not_overflow():
    plan = solve_transport(np.array([[0.0, 1e6], [1e6, 0.0]]), 0.01, 1.0, 50)
    assert np.isfinite(plan).all()
    assert plan[0, 0] == pytest.approx(0.5, abs=0.01)
