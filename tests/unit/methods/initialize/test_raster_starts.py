"""Raster starts: every method on a turned scene, the gate on wrong answers, the ladder on hard pairs."""

import numpy as np
import pytest
from linear_scenes import band, bands, corner_error_px, moved, run

from regflow.config.rasters import LADDER
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Homography
from regflow.datasets.modalities import MODALITIES, make_linear_truth, move_linearly
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.features import detectors
from regflow.methods.initialize.features.keypoints import spread_evenly
from regflow.methods.initialize.fourier_mellin import _linears
from regflow.methods.initialize.linear_refinement import refine_linear
from regflow.methods.initialize.planar import (
    find_matrix,
    make_transform,
    map_points,
    masked_image,
    resample_to,
)
from regflow.methods.result import MethodResult
from regflow.methods.table import list_methods_of_kind, run_method
from regflow.stages.rasters.initialize import SceneStartEvaluator, align_scenes

FEATURES = ("sift", "surf", "orb", "akaze", "brisk", "harris", "xfeat")


@pytest.mark.parametrize("method", [*FEATURES, "fourier-mellin"])
def test_infrared_turned_and_scaled_is_found(method):
    moving, truth = moved("B08", (8.0, -14.0), 20.0, 1.12)
    found = run(method, band("B04"), moving, model="similarity")
    # The bands of the product lie up to three tenths of a pixel apart by themselves.
    assert corner_error_px(found, truth, band("B04").grid) < 0.6


@pytest.mark.parametrize("scale", [0.75, 1.3])
def test_spectra_tell_the_scale_and_not_its_inverse(scale):
    moving, truth = moved("B04", (0.0, 0.0), 12.0, scale)
    images = masked_image(band("B04"), "fixed"), masked_image(moving, "moving")
    likeliest = _linears(*images, find_matrix(Affine.identity(2)))[0]
    assert np.linalg.det(likeliest) == pytest.approx(np.linalg.det(truth.linear), rel=0.05)


@pytest.mark.parametrize("edges", ["sobel", "canny"])
def test_edges_find_rotation_and_scale(edges):
    moving, truth = moved("B08", (8.0, -14.0), 20.0, 1.12)
    given = {"edges": edges, "rotation_degrees": 24, "scale": 1.2, "model": "similarity"}
    found = run("edge-correlation", band("B04"), moving, **given)
    assert corner_error_px(found, truth, band("B04").grid) < 0.6


@pytest.mark.parametrize(
    "method", ["fast-brief", "ecc", "mutual-information", pytest.param("elastix", marks=pytest.mark.slow)]
)
def test_methods_that_need_a_near_start_find_a_small_turn(method):
    moving, truth = moved("B04", (3.0, -2.0), 2.0, 1.01)
    found = run(method, band("B04"), moving)
    assert corner_error_px(found, truth, band("B04").grid) < 1.0


@pytest.mark.parametrize("method", ["edge-correlation", "fourier-mellin", "mutual-information"])
def test_methods_that_search_turns_seek_none_where_a_translation_is_wanted(method):
    moving, _ = moved("B04", (3.0, -2.0), 2.0, 1.01)
    found = run(method, band("B04"), moving, model="translation")
    np.testing.assert_allclose(find_matrix(found)[:2, :2], np.eye(2), atol=1e-12)
    shifted, truth = moved("B04", (8.0, -14.0))
    found = run(method, band("B04"), shifted, model="translation")
    assert corner_error_px(found, truth, band("B04").grid) < 0.1


@pytest.mark.parametrize("estimator", ["magsac++", "ransac", "lmeds"])
def test_each_estimator_serves_features(estimator):
    moving, truth = moved("B04", (8.0, -14.0), 20.0, 1.12)
    found = run("orb", band("B04"), moving, estimator=estimator)
    assert corner_error_px(found, truth, band("B04").grid) < 0.1


def test_inverted_contrast_is_tried_by_features():
    moving, truth = moved("B04", (8.0, -14.0), 5.0, 1.05)
    found = run("sift", band("B04"), moving.with_data(-moving.data), model="similarity")
    assert corner_error_px(found, truth, band("B04").grid) < 0.1


def test_a_homography_is_found():
    fixed = band("B04")
    world = fixed.grid.affine
    pixels = np.array([[1.02, 0.03, 4], [-0.02, 0.99, -6], [5e-5, -3e-5, 1]])
    truth = make_transform(world @ pixels @ np.linalg.inv(world), fixed.grid.center)
    assert isinstance(truth, Homography)
    moving = resample_to(masked_image(fixed, "fixed"), fixed.grid, np.linalg.inv(find_matrix(truth)))
    found = run("sift", fixed, moving, model="homography")
    assert isinstance(found, Homography)
    assert corner_error_px(found, truth, fixed.grid) < 0.1


def test_pixel_space_serves_as_any_other():
    fixed = band("B04")
    moving, _ = moved("B04", (8.0, -14.0), 20.0, 1.12)
    plain = [Image(part.data, Grid(part.grid.shape, np.eye(3)), part.mask) for part in (fixed, moving)]
    found = align_scenes(*plain, {"methods": ["phase-correlation", "sift"]})
    assert found.method == "sift"
    assert found.verdict.status == "pass"
    assert [step["state"] for step in found.steps] == ["error", "done"]
    truth = (
        np.linalg.inv(fixed.grid.affine)
        @ moved("B04", (8.0, -14.0), 20.0, 1.12)[1].matrix
        @ fixed.grid.affine
    )
    ends = np.array([[0, 0], [359, 319.0]])
    assert np.abs(found.transform.apply(ends) - map_points(truth, ends)).max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", MODALITIES)
def test_the_ladder_solves_another_sensor_or_says_fail(name):
    """What is not within a pixel must carry the verdict."""
    fixed_name, make = MODALITIES[name]
    planes, grid = bands()
    whole = make(planes, np.random.default_rng(0))
    fixed = band(fixed_name)
    origin = np.rint(grid.to_index(fixed.grid.origin)).astype(int)
    rows, columns = (slice(at, at + n) for at, n in zip(origin[::-1], fixed.grid.shape, strict=True))
    moving = Image(np.ascontiguousarray(whole[rows, columns])[None], fixed.grid, fixed.mask)
    truth = make_linear_truth(fixed.grid, (9.0, -12.0), -6.0, 1.04, 0.02)
    found = align_scenes(
        fixed, move_linearly(moving, truth), {"methods": ["phase-correlation", "edge-correlation"]}
    )
    points = fixed.grid.to_world(
        np.stack(np.meshgrid([60, 180, 300], [60, 160, 260]), axis=-1).reshape(-1, 2)
    )
    error = np.linalg.norm(found.transform.apply(points) - truth.apply(points), axis=1).mean() / 10
    assert error < 1.0 or found.verdict.status == "fail"


@pytest.fixture(scope="module")
def examiner():
    moving, truth = moved("B08", (20.3, -13.2), 5.0, 1.05)
    pair = masked_image(band("B04"), "fixed"), masked_image(moving, "moving")
    return SceneStartEvaluator(*pair, Affine.identity(2), {}), truth


def test_the_gate_passes_the_truth(examiner):
    judge, truth = examiner
    assert judge(MethodResult(truth))[0].status == "pass"


@pytest.mark.parametrize("shift_px", [3.0, 8.0, 15.0, 40.0, 120.0])
@pytest.mark.parametrize("way", [0.0, 2.2, 4.1])
def test_the_gate_fails_a_shifted_answer(examiner, shift_px, way):
    judge, truth = examiner
    wrong = truth.matrix.copy()
    wrong[:2, 2] += 10 * shift_px * np.array([np.cos(way), np.sin(way)])
    assert judge(MethodResult(Affine(wrong)))[0].status == "fail"


@pytest.mark.parametrize(("turn", "scale"), [(2.0, 1.0), (15.0, 1.0), (180.0, 1.0), (0.0, 1.03), (0.0, 1.3)])
def test_the_gate_fails_a_turned_or_scaled_answer(examiner, turn, scale):
    judge, truth = examiner
    more = make_linear_truth(band("B04").grid, (0, 0), turn, scale)
    assert judge(MethodResult(Affine(truth.matrix @ more.matrix)))[0].status == "fail"


@pytest.mark.parametrize(
    "linear", [[[-1, 0], [0, 1]], [[1e-6, 0], [0, 1e-6]], [[100, 0], [0, 100]], [[1, 0], [0, 0]]]
)
def test_the_gate_refuses_what_no_scene_does(examiner, linear):
    judge, _ = examiner
    with pytest.raises(RegistrationError, match="mirrors the scene, or changes its size"):
        judge(MethodResult(Affine.from_parts(linear, (0, 0), band("B04").grid.center)))


def refused(fixed: Image, moving: Image, methods: list[str]) -> bool:
    """Tell whether a pair ends in the verdict fail or in no map at all."""
    try:
        return align_scenes(fixed, moving, {"methods": methods}).verdict.status == "fail"
    except RegistrationError:
        return True


@pytest.mark.parametrize("seed", range(4))
def test_unrelated_scenes_never_pass(seed):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=band("B04").grid.shape), 0.5 + seed).astype(np.float32)
    other = Image(noise[None], band("B04").grid, band("B04").mask)
    methods = ["header", "phase-correlation", "orb", "fourier-mellin"]
    assert refused(band("B04"), other, methods)


def test_scenes_that_do_not_meet_are_told_apart():
    far = Grid(
        band("B08").grid.shape,
        make_linear_truth(band("B04").grid, (5000, 0)).matrix @ band("B08").grid.affine,
    )
    away = Image(band("B03").data[:, ::-1, ::-1].copy(), far)
    assert refused(band("B04"), away, ["header", "phase-correlation"])


def test_limits_of_the_configuration_count():
    moving, _ = moved("B04", (3.0, -2.0))
    settings = {"methods": ["phase-correlation"], "gate": {"overlap_share": {"fail_below": 0.999}}}
    verdict = align_scenes(band("B04"), moving, settings).verdict
    assert verdict.status == "fail"
    assert "overlap_share" in verdict.reason


def test_an_unknown_method_is_told():
    with pytest.raises(InputError, match="did you mean 'phase-correlation'"):
        align_scenes(band("B04"), band("B08"), {"methods": ["phase-corelation"]})


def test_the_same_bits_whatever_the_threads():
    import cv2

    moving, _ = moved("B08", (8.0, -14.0), 20.0, 1.12)
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            settings = {"methods": ["sift"]}
            found.append(align_scenes(band("B04"), moving, settings, threads=threads).transform.matrix)
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*found)


def test_volumes_and_rasters_are_offered_their_own_methods():
    volumes, rasters = (list_methods_of_kind(METHODS, kind) for kind in ("volumes", "rasters"))
    assert set(LADDER) <= set(rasters)
    assert "moments" in volumes
    assert "moments" not in rasters
    assert "sift" not in volumes
    assert volumes["mutual-information"].target != rasters["mutual-information"].target
    assert all("default" in option for row in rasters.values() for option in row.options.values())


def test_keypoints_are_drawn_evenly():
    rng = np.random.default_rng(0)
    dense = rng.uniform((0, 0), (100, 100), (5000, 2))
    sparse = rng.uniform((0, 0), (800, 800), (500, 2))
    points = np.concatenate([dense, sparse])
    strengths = np.concatenate([np.full(5000, 9.0), np.ones(500)])
    chosen = points[spread_evenly(points, strengths, (800, 800), 600)]
    assert len(chosen) == 600
    assert (chosen > 100).any(axis=1).mean() > 0.7
    shuffled = rng.permutation(len(points))
    again = points[shuffled][spread_evenly(points[shuffled], strengths[shuffled], (800, 800), 600)]
    assert np.array_equal(chosen, again)


def test_over_bent_ground_the_georeference_is_kept_where_no_map_is_better():
    from known_scenes import error_px, fixed, moving

    found = align_scenes(fixed(), moving(), {"methods": ["phase-correlation"]})
    before, after = (np.sqrt((error_px(way) ** 2).mean()) for way in (Affine.identity(2), found.transform))
    assert before > 1
    assert after <= before


def test_a_shift_of_a_part_of_a_pixel_is_no_georeference_to_keep():
    fixed, (shifted, truth) = band("B04"), moved("B04", (0.3, -0.2))
    found = align_scenes(fixed, shifted, {"methods": ["phase-correlation"]})
    assert found.method == "phase-correlation"
    assert corner_error_px(found.transform, truth, fixed.grid) < 0.05


def test_windows_over_clouds_do_not_pull_at_the_map():
    """A quarter of the scene lies a pixel aside, as clouds do in another band."""
    fixed, (ground, truth) = band("B04"), moved("B04", (6.0, -4.0))
    clouds, _ = moved("B04", (7.0, -3.4))
    data = ground.data.copy()
    data[:, :150, 200:] = clouds.data[:, :150, 200:]
    found = refine_linear(fixed, Image(data, ground.grid, ground.mask), truth.matrix, "similarity")
    assert corner_error_px(make_transform(found.matrix, fixed.grid.center), truth, fixed.grid) < 0.1


@pytest.mark.parametrize("name", ["sift", "surf", "orb", "akaze", "brisk", "fast-brief", "harris", "xfeat"])
@pytest.mark.parametrize("shape", [(1, 300), (15, 15)])
def test_pictures_too_small_for_keypoints_are_told(name, shape):
    """Whatever OpenCV makes of such arrays."""
    texture = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    image = Image(texture[None], Grid(shape, np.eye(3)), np.ones(shape, bool))
    options = METHODS[name].complete({})
    with pytest.raises(
        RegistrationError, match=rf"{shape[1]} x {shape[0]} pixels, .* are too few for keypoints"
    ):
        run_method(METHODS[name], image, image, Affine.identity(2), options, RunContext())


@pytest.mark.parametrize("name", ["sift", "surf", "orb", "akaze", "brisk", "fast-brief", "harris"])
def test_the_smallest_pictures_with_keypoints_break_no_detector(name):
    texture = np.random.default_rng(3).normal(size=(16, 16)).astype(np.float32)
    image = Image(texture[None], Grid((16, 16), np.eye(3)), np.ones((16, 16), bool))
    found = getattr(detectors, name.replace("-", "_"))(image, 100, False)
    assert len(found.points) == len(found.descriptors)


@pytest.mark.parametrize("starts", [[0, 90, -90], [-90, 90, 0]])
def test_mutual_information_follows_the_best_of_its_starts(starts):
    moving, truth = moved("B04", (3.0, -2.0), 88.0, 1.01)
    found = run("mutual-information", band("B04"), moving, starts_degrees=starts, model="similarity")
    assert corner_error_px(found, truth, band("B04").grid) < 1.0
