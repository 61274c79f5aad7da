import numpy as np
import pytest

from regflow.core.errors import RegistrationError
from regflow.methods.matching.neighbors import normalized_median_test
from regflow.methods.matching.spline_field import SplineField, fit_field, solve_band

EXTENT = (0.0, 0.0, 999.0, 699.0)


def lattice(step: float = 50.0):
    axes = np.arange(step / 2, EXTENT[2], step), np.arange(step / 2, EXTENT[3], step)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def bend(points):
    x, y = points.T
    return np.stack([3 * np.sin(x / 160) * np.cos(y / 200), 2 * np.cos(x / 190 + y / 170)], axis=1)


def fit(points, values, spacing=50.0, **options):
    return fit_field(points, values, np.full(len(points), 0.01), EXTENT, spacing, **options)


def test_a_plane_is_kept_exactly_also_where_no_point_is_near():
    points = lattice()[:120]
    found = fit(points, points @ [[0.01, -0.02], [0.003, 0.004]] + [5.0, -7.0]).field
    everywhere = lattice(7.0)
    wanted = everywhere @ [[0.01, -0.02], [0.003, 0.004]] + [5.0, -7.0]
    assert np.abs(found.evaluate(everywhere) - wanted).max() < 0.02


@pytest.mark.parametrize("turned", [False, True])
def test_a_smooth_field_comes_back_below_the_noise(turned):
    points = lattice(25.0)
    noise = np.random.default_rng(0).normal(0, 0.1, points.shape)
    extent = (0.0, 0.0, 699.0, 999.0) if turned else EXTENT
    places = points[:, ::-1] if turned else points
    found = fit_field(places, bend(points) + noise, np.full(len(points), 0.1), extent, 50.0)
    inner = points[((points > 40) & (points < [959, 659])).all(axis=1)]
    error = found.field.evaluate(inner[:, ::-1] if turned else inner) - bend(inner)
    assert np.sqrt((error**2).mean()) < 0.045


def test_gross_errors_lose_their_weight():
    points = lattice(25.0)
    rng = np.random.default_rng(1)
    wrong = rng.random(len(points)) < 0.2
    values = bend(points) + rng.normal(0, 0.02, points.shape)
    values[wrong] += rng.uniform(1, 8, (int(wrong.sum()), 2)) * rng.choice([-1, 1], (int(wrong.sum()), 2))
    found = fit(points, values)
    assert (found.weights[wrong] == 0).mean() > 0.98
    assert (found.weights[~wrong] == 0).mean() < 0.02
    assert np.sqrt(((found.field.evaluate(points) - bend(points)) ** 2).mean()) < 0.05


def test_noise_alone_moves_nothing():
    points = lattice(25.0)
    found = fit(points, np.random.default_rng(3).normal(0, 0.3, points.shape))
    assert np.isinf(found.smoothing_weight)
    assert not found.field.evaluate(points).any()


def test_errors_that_neighbors_share_are_not_taken_for_a_field():
    """Windows that overlap agree with each other even where they are wrong."""
    points = lattice(25.0)
    rng = np.random.default_rng(4)
    squares = np.floor(points / 100).astype(int)
    shared = rng.normal(0, 0.3, (squares.max() + 1, squares.max() + 1, 2))[squares[:, 0], squares[:, 1]]
    values = shared + rng.normal(0, 0.02, points.shape)
    alone, together = (
        np.abs(fit(points, values, reach=r).field.evaluate(points)).mean() for r in (0.0, 100.0)
    )
    assert together < 0.5 * alone


def test_points_of_one_place_alone_move_nothing():
    rng = np.random.default_rng(4)
    points = rng.uniform(10, 18, (9, 2))
    found = fit(points, rng.normal(0, 0.3, points.shape), reach=500.0)
    assert not found.field.evaluate(points).any()


def test_few_blocks_need_much_to_move_a_scene():
    """Windows of a small scene share errors where the ground has changed; real motion is far larger."""
    extent = (0.0, 0.0, 60.0, 60.0)
    axes = np.arange(4.0, 60.0, 8.0)
    points = np.stack(np.meshgrid(axes, axes), axis=-1).reshape(-1, 2)
    rng = np.random.default_rng(5)
    changed = 0.2 * np.sin(points / 14 + rng.uniform(0, 6, 2)) + rng.normal(0, 0.1, points.shape)
    moved = 2.0 * np.sin(points / 14) + rng.normal(0, 0.05, points.shape)
    fits = [
        fit_field(points, values, np.full(len(points), 0.05), extent, 8.0, reach=21.0)
        for values in (changed, moved)
    ]
    assert not fits[0].field.evaluate(points).any()
    error = fits[1].field.evaluate(points) - 2.0 * np.sin(points / 14)
    assert np.sqrt((error**2).sum(axis=1).mean()) < 0.15


def test_the_points_decide_how_stiff_the_field_is():
    points = lattice(25.0)
    rng = np.random.default_rng(2)
    flat = fit(points, rng.normal(0, 0.3, points.shape))
    lively = fit(points, bend(points) + rng.normal(0, 0.01, points.shape))
    assert flat.smoothing_weight >= 100 * lively.smoothing_weight
    assert np.abs(flat.field.evaluate(points)).max() < 0.2


def test_the_laplacian_is_that_of_the_field():
    points = lattice(25.0)
    field = fit(points, bend(points)).field
    inner = points[((points > 100) & (points < [900, 600])).all(axis=1)]
    h = 1.0
    ways = [(h, 0), (-h, 0), (0, h), (0, -h)]
    numeric = (sum(field.evaluate(inner + way) for way in ways) - 4 * field.evaluate(inner)) / h**2
    np.testing.assert_allclose(field.compute_laplacian(inner), numeric, atol=2e-6)


def test_bending_bounds_the_error_of_linear_reading():
    points = lattice(25.0)
    field = fit(points, bend(points)).field
    step = 20.0
    x = np.arange(100, 900, step)
    ends, middles = (np.stack([x + offset, np.full_like(x, 333.0)], axis=1) for offset in (0.0, step / 2))
    linear = (field.evaluate(ends)[1:] + field.evaluate(ends)[:-1]) / 2
    error = np.abs(linear - field.evaluate(middles)[:-1]).max()
    assert 0 < error <= field.measure_bending() * step**2 / 8 * 1.001


def test_a_lattice_is_read_as_its_points():
    field = SplineField(np.random.default_rng(0).normal(size=(2, 8, 9)), (10.0, 20.0), 50.0)
    x, y = np.linspace(0, 300, 7), np.linspace(0, 280, 5)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(
        field.evaluate_lattice(x, y).reshape(2, -1).T, field.evaluate(points), rtol=1e-6
    )


def test_the_band_solver_solves():
    rng = np.random.default_rng(0)
    size, width = 40, 7
    dense = np.zeros((size, size))
    for offset in range(width):
        values = rng.normal(size=size - offset)
        dense += np.diag(values, offset) + (np.diag(values, -offset) if offset else 0)
    dense += 40 * np.eye(size)
    right = rng.normal(size=(size, 2))
    band = np.zeros((size, width))
    for k in range(size):
        band[k, : min(width, size - k)] = dense[k, k : k + width]
    wanted = np.linalg.solve(dense, right)
    solve_band(band, right)
    np.testing.assert_allclose(right, wanted, rtol=1e-9)


def test_points_unlike_their_neighbors_are_found_on_a_slope():
    points = lattice(25.0)
    values = points * 0.05 + np.random.default_rng(3).normal(0, 0.02, points.shape)
    wrong = np.zeros(len(points), bool)
    wrong[::37] = True
    values[wrong] += [1.5, -1.0]
    assert np.array_equal(normalized_median_test(points, values), wrong)


def test_too_few_points_are_refused():
    with pytest.raises(RegistrationError, match="5 points are too few"):
        fit(lattice()[:5], np.zeros((5, 2)))
