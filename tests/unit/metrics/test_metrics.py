import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.metrics.distances import (
    list_mask_points,
    measure_inverse_consistency,
    measure_target_registration_error,
    measure_truth_error,
    summarize_errors,
)
from regflow.metrics.jacobian import (
    compute_determinant_map,
    compute_folding_figures,
    compute_jacobian_figures,
    sample_displacement,
    split_affine,
)
from regflow.metrics.overlap import count_labels, dice
from regflow.metrics.surface import measure_surface_distances


def ball(radius_mm: float, spacing=(1.0, 1.0, 1.0), half_mm: float = 20.0) -> np.ndarray:
    axes = [np.arange(-half_mm, half_mm + 1e-6, step) for step in spacing[::-1]]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return (np.sqrt(x**2 + y**2 + z**2) <= radius_mm).astype(np.uint8)


def plates(*positions: int, shape=(30, 12, 14)) -> np.ndarray:
    labels = np.zeros(shape, dtype=np.int16)
    for label, position in enumerate(positions, start=1):
        labels[position] = label
    return labels


# Overlap


def test_dice_of_boxes_that_share_a_known_part():
    first, second = np.zeros((2, 8, 8, 8), dtype=np.int32)
    first[:4, :4, :4] = 7
    second[2:6, :4, :4] = 7
    second[6:, 6:, 6:] = 9
    assert dice(first, second) == {7: 2 * 32 / 128, 9: 0.0}
    assert math.isnan(dice(first, second, [3])[3])


def test_dice_counts_values_that_do_not_fit_a_histogram():
    first = np.array([[-5, 0, 1 << 40], [-5, -5, 1 << 40]])
    second = np.array([[-5, 0, 1 << 40], [0, -5, 0]])
    assert dice(first, second) == {-5: 2 * 2 / 5, 1 << 40: 2 * 1 / 3}
    assert count_labels(first) == {-5: 3, 1 << 40: 2}


def test_label_maps_of_different_shape_are_refused():
    with pytest.raises(InputError, match="cannot be compared"):
        dice(np.zeros((3, 3), int), np.zeros((3, 4), int))
    with pytest.raises(InputError, match="cannot be compared"):
        measure_surface_distances(np.zeros((3, 3), int), np.zeros((3, 4), int), (1, 1))


# Surfaces


def test_parallel_plates_lie_their_gap_apart_in_mm():
    result = measure_surface_distances(plates(4, 20), plates(9, 22), spacing=(0.7, 1.3, 2.5))
    assert result[1].hd95_mm == pytest.approx(5 * 2.5)
    assert result[1].asd_mm == pytest.approx(5 * 2.5)
    assert result[2].hd95_mm == pytest.approx(2 * 2.5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 0.5, 2.0)])
def test_concentric_balls_lie_the_difference_of_their_radii_apart(spacing):
    result = measure_surface_distances(ball(10, spacing), ball(13, spacing), spacing)[1]
    assert result.asd_mm == pytest.approx(3.0, abs=0.25)
    assert result.hd95_mm == pytest.approx(3.0, abs=max(spacing))
    same = measure_surface_distances(ball(10, spacing), ball(10, spacing), spacing)[1]
    assert (same.hd95_mm, same.asd_mm) == (0.0, 0.0)


def test_a_structure_missing_from_one_map_has_no_distance():
    result = measure_surface_distances(plates(4), plates(4, 9), (1, 1, 1))
    assert result[1].asd_mm == 0
    assert math.isnan(result[2].hd95_mm)
    assert math.isnan(result[2].asd_mm)


def test_distances_equal_those_of_a_distance_transform_on_real_structures(volume):
    labels = volume("neuromorphometrics", 4.0).channel
    moved = np.roll(labels, (1, -2, 1), axis=(0, 1, 2))
    spacing = (4.0, 3.0, 2.0)
    chosen = [int(v) for v in list(count_labels(labels))[::25]]
    found = measure_surface_distances(labels, moved, spacing, chosen, threads=2)
    assert len(chosen) >= 4
    for label in chosen:
        a, b = labels == label, moved == label
        edge_a, edge_b = a & ~binary_erosion(a), b & ~binary_erosion(b)
        there = distance_transform_edt(~edge_b, sampling=spacing[::-1])[edge_a]
        back = distance_transform_edt(~edge_a, sampling=spacing[::-1])[edge_b]
        hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
        assert found[label].hd95_mm == pytest.approx(hd95)
        assert found[label].asd_mm == pytest.approx(np.concatenate([there, back]).mean())


# Points


def test_landmarks_are_off_by_what_the_transform_misses():
    fixed = np.array([[0.0, 0, 0], [10, -5, 3]])
    shift = Affine.from_parts(np.eye(3), [3.0, 4.0, 0.0])
    assert measure_target_registration_error(fixed, fixed, shift) == pytest.approx([5.0, 5.0])
    assert measure_target_registration_error(fixed, shift.apply(fixed), shift) == pytest.approx([0.0, 0.0])
    with pytest.raises(InputError, match="2 fixed and 1 moving landmarks"):
        measure_target_registration_error(fixed, fixed[:1], shift)


def test_sub_grid_of_a_mask_is_regular_bounded_and_inside():
    grid = Grid.from_geometry((40, 30, 20), (1.0, 2.0, 3.0), (-5.0, 7.0, 11.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[5:35, 4:26, 3:17] = True
    every = list_mask_points(grid, mask, most=10**6)
    some = list_mask_points(grid, mask, most=500)
    assert len(every) == mask.sum()
    assert 50 <= len(some) <= 500
    index = np.rint(grid.to_index(some)).astype(int)
    assert mask[tuple(index.T[::-1])].all()
    assert len(list_mask_points(grid, np.arange(mask.size).reshape(grid.shape) == 77, most=1)) == 1
    with pytest.raises(InputError, match="mask is empty"):
        list_mask_points(grid, np.zeros(grid.shape, dtype=bool))


def test_truth_and_round_trip_errors_of_known_shifts():
    points = list_mask_points(Grid((9, 9, 9), np.eye(4)), None)
    there = Affine.from_parts(np.eye(3), [1.0, 2.0, 2.0])
    back = Affine.from_parts(np.eye(3), [-1.0, -2.0, -1.5])
    assert measure_truth_error(there, Affine.identity(3), points) == pytest.approx(3.0)
    assert measure_inverse_consistency(there, back, points) == pytest.approx(0.5)
    assert summarize_errors(np.array([1.0, 2.0, 9.0])) == pytest.approx(
        {"mean_mm": 4.0, "median_mm": 2.0, "p95_mm": 8.3, "max_mm": 9.0}
    )


# Jacobian


@pytest.fixture
def oblique() -> Grid:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    return Grid.from_geometry((14, 16, 18), (1.0, 1.5, 2.0), (3.0, -4.0, 5.0), turn)


def stretched(grid: Grid, factors) -> DisplacementField:
    """``x -> diag(factors) x`` as a field."""
    index = np.moveaxis(np.indices(grid.shape)[::-1], 0, -1)
    points = grid.to_world(index)
    return DisplacementField(np.moveaxis(points * (np.asarray(factors) - 1), -1, 0), grid)


def test_determinant_of_a_stretch_is_the_product_of_its_factors(oblique):
    field = stretched(oblique, (1.2, 0.9, 1.1))
    determinant = compute_determinant_map(field.vectors, oblique)
    assert determinant == pytest.approx(1.2 * 0.9 * 1.1, abs=1e-3)
    figures = compute_jacobian_figures(determinant, None)
    assert figures["folding_percent"] == 0
    assert figures["log_jacobian_std"] == pytest.approx(0, abs=1e-3)


def test_affine_part_is_told_apart_and_left_out(oblique):
    field = stretched(oblique, (1.2, 0.9, 1.1))
    pose = Affine.from_parts(2 * np.eye(3), [1.0, 2.0, 3.0])
    deformable, affine = split_affine(Composite((field, pose, pose)))
    assert deformable is field
    assert affine is not None
    assert affine.linear == pytest.approx(4 * np.eye(3))
    assert split_affine(pose)[0] is None
    assert split_affine(field) == (field, None)
    assert not sample_displacement(None, oblique).any()


def test_field_on_another_grid_is_sampled_first(oblique):
    coarse = stretched(oblique.with_spacing(1.0), (1.2, 0.9, 1.1))
    sampled = sample_displacement(Composite((coarse,)), oblique)
    inside = (slice(None), slice(3, -3), slice(3, -3), slice(3, -3))
    wanted = stretched(oblique, (1.2, 0.9, 1.1)).vectors
    assert sampled[inside] == pytest.approx(wanted[inside], abs=1e-4)


def test_mirrored_half_counts_as_folded():
    determinant = np.ones((10, 10, 10), dtype=np.float32)
    determinant[:5] = -1
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[3:7] = True
    figures = compute_jacobian_figures(determinant, mask)
    assert figures["folding_percent"] == 50.0
    assert (figures["jacobian_min"], figures["jacobian_max"]) == (-1, 1)
    assert figures["log_jacobian_std"] == 0
    assert figures["sdlogj_learn2reg"] == pytest.approx(np.log(2) / 2)


def test_the_worst_field_of_a_transform_counts(oblique):
    mild, mirror = stretched(oblique, (1.2, 0.9, 1.1)), stretched(oblique, (-1.0, 1.0, 1.0))
    figures = compute_folding_figures(Composite((mild, Affine.identity(3), mirror)))
    assert figures == pytest.approx(
        {"folding_percent": 100.0, "jacobian_min": -1.0, "jacobian_max": 1.2 * 0.9 * 1.1}, abs=1e-3
    )
    assert compute_folding_figures(Affine.identity(3)) == {}


def test_what_hardly_folds_and_what_vanishes_is_folded():
    determinant = np.array([-0.04, -1e-6, 0.0, 1e-6, 0.5], dtype=np.float32)
    assert compute_jacobian_figures(determinant, None)["folding_percent"] == pytest.approx(60.0)


def test_learn2reg_figure_is_a_quarter_of_the_true_one_for_small_deformations():
    logs = np.random.default_rng(0).normal(0, 0.05, (20, 20, 20))
    figures = compute_jacobian_figures(np.exp(logs).astype(np.float32), None)
    assert figures["log_jacobian_std"] == pytest.approx(0.05, rel=0.03)
    assert figures["sdlogj_learn2reg"] == pytest.approx(figures["log_jacobian_std"] / 4, rel=0.03)


def test_the_sub_grid_is_the_finest_that_is_small_enough():
    grid = Grid.from_geometry((12, 12), (1.0, 1.0), (0.0, 0.0))
    assert len(list_mask_points(grid, None, most=143)) == 36
    assert len(list_mask_points(grid, None, most=35)) == 16


def test_a_field_that_presses_everything_flat_is_folded():
    grid = Grid.from_geometry((6, 7, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    flat = stretched(grid, (0.0, 1.0, 1.0))
    determinant = compute_determinant_map(flat.vectors, grid)
    assert determinant.dtype == np.float32
    assert not determinant.any()
    assert compute_folding_figures(flat)["folding_percent"] == 100.0
