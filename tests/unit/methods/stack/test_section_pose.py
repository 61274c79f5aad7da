import math

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from regflow.methods.stack.section_bends import PlacedSection, deform_sections, smooth_along
from regflow.methods.stack.section_picture import coarsen_plane, normalize_section
from regflow.methods.stack.section_pose import (
    estimate_pose,
    mirror_picture,
    prepare_sections,
    rescale_map,
)
from regflow.pipeline.stack_places import list_bend_options


def make_section(seed=0, shape=(120, 140)):
    """Return tissue of two materials in an outline that no turn or mirror repeats."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    body = ((rows - 60) / 40) ** 2 + ((columns - 65) / 52) ** 2 < 1
    body &= ~(((rows - 35) / 16) ** 2 + ((columns - 95) / 18) ** 2 < 1)
    texture = gaussian_filter(rng.standard_normal(shape), 5)
    return (gaussian_filter(body.astype(float), 1) * (100 + 60 * np.sign(texture))).astype(np.float32)


def move(plane, degrees, shift):
    """Return a picture, and the map from the plane's pixels ``(x, y)`` to the picture's."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = (np.array(plane.shape[::-1]) - 1) / 2
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, middle - turn @ middle + shift
    back = np.linalg.inv(matrix)[[1, 0]][:, [1, 0, 2]]
    return affine_transform(plane, back[:, :2], back[:, 2], order=3), matrix


def measure_error(found, true):
    points = np.array([[30.0, 50, 1], [100, 50, 1], [65, 90, 1]]).T
    return float(np.linalg.norm((found - true) @ points, axis=0).max())


@pytest.mark.parametrize("degrees", [3, -35, 110, 179])
@pytest.mark.parametrize("stain", [lambda v: v, lambda v: 255 - v, lambda v: np.where(v > 30, 260 - v, v)])
def test_a_pose_is_found_at_any_turn_in_any_stain(degrees, stain):
    plane = make_section()
    picture, true = move(plane, degrees, (6, -9))
    one, other = prepare_sections([normalize_section(plane), normalize_section(stain(picture))])
    found = estimate_pose(one, other)
    assert found is not None
    assert found.score > 0.5
    assert measure_error(found.matrix, true) < 0.6


def test_the_wrong_side_up_scores_less():
    plane = make_section()
    picture, _ = move(plane, 20, (0, 0))
    pictures = [normalize_section(plane), normalize_section(picture)]
    one, other, mirrored = prepare_sections([*pictures, mirror_picture(pictures[1])])
    right, wrong = estimate_pose(one, other), estimate_pose(one, mirrored)
    assert right is not None
    assert wrong is None or wrong.score < 0.6 * right.score


def test_a_picture_without_tissue_has_no_pose():
    plane = make_section()
    blank = np.full_like(plane, 7)
    one, other = prepare_sections([normalize_section(plane), normalize_section(blank)])
    assert normalize_section(blank).contrast == 0
    assert estimate_pose(one, other) is None


def test_dark_tissue_on_bright_ground_is_the_same():
    plane = make_section()
    one, other = normalize_section(plane), normalize_section(255 - plane)
    np.testing.assert_allclose(one.values, other.values, atol=1e-4)
    assert 0.2 < one.tissue_share < 0.6


def test_pixels_of_shrunk_planes_lie_in_the_middle_of_theirs():
    ramp = np.tile(np.arange(12, dtype=np.float32), (9, 1))
    small = coarsen_plane(ramp, 3)
    assert small.shape == (3, 4)
    np.testing.assert_allclose(small[0], [1, 4, 7, 10])
    np.testing.assert_allclose(rescale_map(np.eye(3), 3, 3), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rescale_map(np.eye(3), 1, 3) @ [0, 2, 1], [1, 7, 1])


def test_bends_are_taken_out_and_the_slow_shape_is_kept():
    rng = np.random.default_rng(3)
    plane = make_section(shape=(96, 112)) / 160
    sections, bends = [], []
    rows, columns = np.indices(plane.shape, dtype=float)
    for number in range(9):
        bend = np.stack([gaussian_filter(rng.standard_normal(plane.shape), 14) for _ in range(2)])
        bend *= 1.5 / bend.std()
        slow = 0.8 * number
        at = [rows + bend[0], columns + bend[1] + slow]
        from scipy.ndimage import map_coordinates

        values = map_coordinates(plane, at, order=1).astype(np.float32)
        sections.append(PlacedSection(values, values > 0.2, True, False))
        bends.append(bend)
    found = deform_sections(sections, list_bend_options(), rounds=2, smoothness=9.0)
    inside = sections[4].tissue
    before = np.std(np.array(bends), axis=0)[:, inside].mean()
    after = np.std(np.array(bends) + found, axis=0)[:, inside].mean()
    assert after < 0.75 * before
    # The drift along the block is no bend.
    assert abs(found[:, 1][:, inside].mean(axis=1)[[0, -1]] @ [-1, 1]) < 2


def test_what_is_smoothed_along_the_block_keeps_its_mean():
    values = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    smooth = smooth_along(values, 1e6)
    np.testing.assert_allclose(smooth, np.broadcast_to(values.mean(axis=0), values.shape), atol=1e-5)
