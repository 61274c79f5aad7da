from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.itk import to_sitk
from regflow.core.transform import (
    Affine,
    Composite,
    DisplacementField,
    Homography,
    Transform,
    compose_transforms,
    measure_inverse_error,
)
from regflow.io.transforms import FIELD_STEPS_PER_SAMPLE, read_transform, write_transform

DIRECTION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, -1.0]])
GRID = Grid.from_geometry((20, 24, 28), (1.5, 1.0, 2.0), (-12.0, 30.0, 4.0), DIRECTION)


def smooth_field(grid: Grid, amplitude: float, seed: int = 0) -> DisplacementField:
    rng = np.random.default_rng(seed)
    noise = [gaussian_filter(rng.normal(size=grid.shape), 4, mode="nearest") for _ in range(grid.ndim)]
    vectors = np.stack(noise)
    return DisplacementField((vectors * amplitude / np.abs(vectors).max()).astype(np.float32), grid)


def some_affine(seed: int = 1) -> Affine:
    rng = np.random.default_rng(seed)
    return Affine.from_parts(np.eye(3) + 0.1 * rng.normal(size=(3, 3)), rng.normal(size=3) * 5, GRID.center)


def points_inside(grid: Grid, count: int = 200, margin: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(7)
    return grid.to_world(rng.uniform(margin, np.array(grid.size) - 1 - margin, size=(count, grid.ndim)))


def simpleitk_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(p.tolist()) for p in points])


def test_affine_composition_and_inverse():
    a, b = some_affine(1), some_affine(2)
    points = points_inside(GRID)
    chained = compose_transforms(a, b)
    assert isinstance(chained, Affine)
    assert np.allclose(chained.apply(points), b.apply(a.apply(points)))
    assert measure_inverse_error(a, a.inverse(), points).max() < 1e-9


def test_affine_turns_about_its_center():
    turn = Affine.from_parts([[0, -1], [1, 0]], [0, 0], center=[3, 4])
    assert np.allclose(turn.apply([[3, 4], [4, 4]]), [[3, 4], [3, 5]])


def test_a_singular_affine_has_no_inverse():
    with pytest.raises(RegistrationError, match="singular"):
        Affine(np.diag([1.0, 0.0, 1.0, 1.0])).inverse()


@pytest.mark.parametrize(
    "transform",
    [some_affine(), smooth_field(GRID, 3.0), Composite((smooth_field(GRID, 3.0), some_affine()))],
    ids=["affine", "field", "composite"],
)
def test_simpleitk_maps_the_same_points(tmp_path, transform: Transform):
    points = points_inside(GRID, margin=-3.0)
    expected = transform.apply(points)
    assert np.allclose(simpleitk_points(to_sitk(transform), points), expected, atol=1e-6)
    path = tmp_path / "transform.h5"
    write_transform(path, transform)
    rounding = GRID.spacing.max() / FIELD_STEPS_PER_SAMPLE
    assert np.allclose(simpleitk_points(sitk.ReadTransform(str(path)), points), expected, atol=rounding)
    assert np.allclose(read_transform(path).apply(points), expected, atol=rounding)


HOMOGRAPHY = Homography(np.array([[1.1, 0.0, 3.0], [0.1, 0.9, -2.0], [1e-4, 0.0, 1.0]]))


@pytest.mark.parametrize(
    "transform",
    [HOMOGRAPHY, Composite((HOMOGRAPHY,)), Composite((Affine.identity(2), HOMOGRAPHY))],
    ids=["alone", "in a composite", "behind an affine"],
)
def test_what_itk_lacks_is_refused_in_one_sentence_and_leaves_no_file(tmp_path, transform: Transform):
    for convert in (to_sitk, partial(write_transform, tmp_path / "t.h5")):
        with pytest.raises(InputError, match="ITK has no transform like a Homography"):
            convert(transform)
    assert not list(tmp_path.iterdir())


def test_every_transform_tells_how_many_coordinates_its_points_have():
    made = [some_affine(), smooth_field(GRID, 1.0), Composite((some_affine(),)), HOMOGRAPHY]
    assert [transform.ndim for transform in made] == [3, 3, 3, 2]
    assert all(isinstance(transform, Transform) for transform in made)
    with pytest.raises(ValueError, match=r"theirs are: 3, 2$"):
        Composite((some_affine(), HOMOGRAPHY))
    with pytest.raises(ValueError, match=r"theirs are: none$"):
        Composite(())


def test_an_empty_composite_of_another_tool_moves_nothing(tmp_path):
    sitk.WriteTransform(sitk.CompositeTransform(3), str(tmp_path / "empty.h5"))
    points = points_inside(GRID)
    np.testing.assert_array_equal(read_transform(tmp_path / "empty.h5").apply(points), points)


def test_composites_keep_order_and_kind_on_disk(tmp_path):
    write_transform(tmp_path / "t.h5", Composite((smooth_field(GRID, 2.0), some_affine())))
    parts = read_transform(tmp_path / "t.h5").parts
    assert [type(part) for part in parts] == [DisplacementField, Affine]
    assert parts[0].grid.matches(GRID)


def test_two_dimensions_are_written_and_read_alike(tmp_path):
    grid = Grid((30, 40), np.array([[10.0, 0, 5e5], [0, -10.0, 4e6], [0, 0, 1]]))
    field = smooth_field(grid, 25.0)
    write_transform(tmp_path / "t.h5", Composite((field, Affine.from_parts(np.eye(2), [3.0, -4.0]))))
    points = points_inside(grid)
    expected = np.add(field.apply(points), [3.0, -4.0])
    assert np.allclose(read_transform(tmp_path / "t.h5").apply(points), expected, atol=10 / 1024)
    assert np.allclose(
        simpleitk_points(sitk.ReadTransform(str(tmp_path / "t.h5")), points), expected, atol=10 / 1024
    )


def test_equal_transforms_give_equal_bytes(tmp_path):
    transform = Composite((smooth_field(GRID, 3.0), some_affine()))
    write_transform(tmp_path / "a.h5", transform)
    write_transform(tmp_path / "b.h5", read_transform(tmp_path / "a.h5"))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_transforms_of_other_tools_are_read(tmp_path, suffix):
    rigid = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, -0.2, 0.3, (4.0, 5.0, 6.0))
    sitk.WriteTransform(rigid, str(tmp_path / f"rigid{suffix}"))
    points = points_inside(GRID)
    assert np.allclose(
        read_transform(tmp_path / f"rigid{suffix}").apply(points), simpleitk_points(rigid, points)
    )


def test_a_bspline_is_sampled_on_the_grid_it_belongs_to(tmp_path):
    domain = sitk.Image(*GRID.size, sitk.sitkUInt8)
    domain.SetSpacing(GRID.spacing.tolist())
    domain.SetOrigin(GRID.origin.tolist())
    domain.SetDirection(GRID.direction.ravel().tolist())
    bspline = sitk.BSplineTransformInitializer(domain, [4, 4, 4])
    bspline.SetParameters(np.random.default_rng(0).normal(size=len(bspline.GetParameters())).tolist())
    sitk.WriteTransform(bspline, str(tmp_path / "b.tfm"))
    with pytest.raises(InputError, match="must be sampled"):
        read_transform(tmp_path / "b.tfm")
    points = GRID.to_world(np.array([[5, 6, 7], [10, 11, 12]]))
    assert np.allclose(
        read_transform(tmp_path / "b.tfm", GRID).apply(points), simpleitk_points(bspline, points), atol=1e-5
    )


def test_missing_and_foreign_files_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"none\.h5.*does not exist"):
        read_transform(tmp_path / "none.h5")
    (tmp_path / "poem.h5").write_text("shall I compare thee")
    with pytest.raises(InputError, match=r"poem\.h5"):
        read_transform(tmp_path / "poem.h5")


def test_displacement_is_zero_outside_its_grid_as_in_itk():
    field = DisplacementField(np.ones((3, *GRID.shape), dtype=np.float32), GRID)
    outside = GRID.to_world([[-5.0, 3.0, 3.0]])
    assert np.allclose(field.apply(outside), outside)
    assert np.allclose(simpleitk_points(to_sitk(field), outside), outside)


def test_inverse_of_a_smooth_composite_undoes_it():
    forward = Composite((smooth_field(GRID, 2.0), Affine.from_parts(np.eye(3), [1.0, -2.0, 0.5])))
    points = points_inside(GRID, margin=5.0)
    assert measure_inverse_error(forward, forward.inverse(), points).max() < 0.05


def test_a_matrix_given_as_a_list_is_an_array_that_nobody_changes():
    affine = Affine([[2, 0, 1], [0, 2, -1], [0, 0, 1]])
    assert affine.matrix.dtype == np.float64
    assert affine.apply(np.array([[1.0, 1.0]])).tolist() == [[3.0, 1.0]]
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 1
    with pytest.raises(ValueError, match="square homogeneous"):
        Affine([[1, 0, 0], [0, 1, 0]])
