"""Thin-plate splines as the field through tie points."""

import numpy as np
import pytest
from known_scenes import error_px, fixed, moving

from regflow.core.transform import Affine
from regflow.methods.matching import thin_plate
from regflow.methods.matching.spline_field import fit_field
from regflow.methods.matching.thin_plate import ThinPlateProblem, spread_knots
from regflow.stages.rasters.refine import refine_scene

EXTENT = (0.0, 0.0, 999.0, 699.0)


def bend(points):
    x, y = points.T
    return np.stack([3 * np.sin(x / 160) * np.cos(y / 200), 2 * np.cos(x / 190 + y / 170)], axis=1)


def scattered(count: int, seed: int = 0):
    return np.random.default_rng(seed).uniform([5, 5], [995, 695], (count, 2))


def fit(points, values, **options):
    errors = np.full(len(points), 0.01)
    return fit_field(points, values, errors, EXTENT, 25.0, basis=ThinPlateProblem, **options)


def test_few_points_are_met_exactly_with_the_thin_plate_between_them():
    from scipy.interpolate import RBFInterpolator

    points = scattered(20, 1)
    values = bend(points)
    field = fit(points, values, smoothing_weight=1e-7).field
    assert np.abs(field.evaluate(points) - values).max() < 0.01
    between = scattered(200, 2)
    wanted = RBFInterpolator(points, values, kernel="thin_plate_spline")(between)
    assert np.abs(field.evaluate(between) - wanted).max() < 0.02


def test_a_plane_is_kept_exactly():
    points = scattered(40)
    values = points @ [[0.01, -0.02], [0.003, 0.004]] + [5.0, -7.0]
    between = scattered(200, 3)
    wanted = between @ [[0.01, -0.02], [0.003, 0.004]] + [5.0, -7.0]
    assert np.abs(fit(points, values).field.evaluate(between) - wanted).max() < 0.02


def test_a_smooth_field_comes_back_below_the_noise_and_gross_errors_lose_their_weight():
    points = scattered(900)
    rng = np.random.default_rng(4)
    values = bend(points) + rng.normal(0, 0.1, points.shape)
    wrong = rng.random(len(points)) < 0.1
    values[wrong] += rng.uniform(2, 8, (int(wrong.sum()), 2))
    found = fit(points, values)
    inner = scattered(400, 5) * 0.9 + [50, 35]
    assert np.sqrt(((found.field.evaluate(inner) - bend(inner)) ** 2).mean()) < 0.07
    assert (found.weights[wrong] == 0).mean() > 0.95


def test_noise_alone_moves_nothing():
    points = scattered(300)
    found = fit(points, np.random.default_rng(3).normal(0, 0.3, points.shape))
    assert np.isinf(found.smoothing_weight)


def test_knots_are_bounded_and_spread(monkeypatch):
    points = scattered(2000)
    knots = spread_knots(points, 100)
    assert len(knots) == 100
    apart = np.linalg.norm(knots[:, None] - knots, axis=-1)[np.triu_indices(100, 1)].min()
    assert apart > 40
    assert len(spread_knots(np.repeat(points[:7], 3, axis=0), 100)) == 7
    monkeypatch.setattr(thin_plate, "MOST_ENTRIES", 200_000)
    problem = ThinPlateProblem(points / 25, bend(points), (31, 43))
    assert len(problem.solve(np.ones(len(points)), 1.0)) == 103


def test_a_known_field_is_found_through_the_stage():
    settings = {
        "methods": ["tie-points"],
        "options": {"tie-points": {"spacing_px": 40.0, "field": "thin-plate"}},
    }
    found = refine_scene(fixed(), moving(), Affine.identity(2), settings, threads=2)
    assert found.ladder.verdict.status == "pass", found.ladder.verdict
    assert np.sqrt((error_px(found.transform) ** 2).mean()) < 0.04


@pytest.mark.parametrize("along", [0, 1])
def test_points_on_one_line_leave_the_field_calm(along):
    points = np.zeros((30, 2)) + 300.0
    points[:, along] = np.linspace(20, 650, 30)
    values = 0.01 * points[:, [along, along]]
    field = fit(points, values).field
    assert np.abs(field.evaluate(points) - values).max() < 0.1
    assert np.isfinite(field.coefs).all()
