"""Homographies: found where there is no georeference and they are needed, and only there."""

from dataclasses import replace

import numpy as np
import pytest
from linear_scenes import band, options

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Homography
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.planar import (
    find_corners,
    find_matrix,
    make_transform,
    map_points,
    masked_image,
    resample_to,
)
from regflow.methods.initialize.projective import fit_needed_homography, preserves_orientation
from regflow.methods.result import MethodResult
from regflow.methods.table import list_methods_of_kind
from regflow.stages.rasters.initialize import SceneStartEvaluator, align_scenes

BENT = np.array([[1.04, 0.05, -6], [-0.03, 0.97, 4], [4e-4, -2e-4, 1]])
SQUARE = np.array([[0, 0], [400, 0], [0, 400], [400, 400.0]])


def photograph() -> Image:
    """Return a scene without coordinates."""
    scene = band("B04")
    return Image(scene.data, Grid(scene.grid.shape, np.eye(3)), scene.mask)


def seen_obliquely(image: Image, matrix: np.ndarray) -> Image:
    """Return an image as it looks where a map has its points."""
    return resample_to(masked_image(image, "moving"), image.grid, np.linalg.inv(matrix))


def matches(matrix: np.ndarray, noise: float, wrong: int = 0, count: int = 150) -> tuple:
    rng = np.random.default_rng(3)
    source = rng.uniform(0, 400, (count, 2))
    target = map_points(matrix, source) + rng.normal(0, noise, (count, 2))
    target[:wrong] = rng.uniform(0, 400, (wrong, 2))
    return source, target


@pytest.mark.parametrize("wrong", [0, 60])
def test_matches_that_foretell_a_homography_get_one(wrong):
    found = fit_needed_homography(*matches(BENT, 0.3, wrong), 3.0)
    assert found is not None
    assert np.linalg.norm(map_points(found.matrix, SQUARE) - map_points(BENT, SQUARE), axis=1).max() < 0.6


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3, 1.0])
def test_matches_of_an_affine_map_get_none(noise):
    plain = BENT.copy()
    plain[2] = 0, 0, 1
    assert fit_needed_homography(*matches(plain, noise), 3.0) is None
    assert fit_needed_homography(*matches(BENT, 0.3, count=15), 3.0) is None


@pytest.mark.parametrize(
    ("last_row", "right"),
    [((4e-4, -2e-4, 1), True), ((-3e-3, 0, 1), False), ((0, 0, 1), True), ((8e-3, 0, 1), False)],
)
def test_what_lies_beyond_the_horizon_is_seen(last_row, right):
    matrix = np.eye(3)
    matrix[2] = last_row
    assert preserves_orientation(matrix, SQUARE) is right
    assert preserves_orientation(-matrix, SQUARE) is right
    assert not preserves_orientation(np.diag([-1.0, 1, 1]) @ matrix, SQUARE)


def test_the_horizon_may_lie_between_a_scene_and_the_origin_of_its_crs():
    away = np.eye(3)
    away[:2, 2] = [-5_800_000, -500_000]
    matrix = np.linalg.inv(away) @ BENT @ away
    assert matrix[2, 2] < 0
    assert preserves_orientation(matrix, SQUARE - away[:2, 2])
    mirrored = np.linalg.inv(away) @ np.diag([-1.0, 1, 1]) @ BENT @ away
    assert not preserves_orientation(mirrored, SQUARE - away[:2, 2])


def test_photographs_get_the_homography_they_need():
    fixed = photograph()
    found = align_scenes(fixed, seen_obliquely(fixed, BENT), {"methods": ["sift"]})
    assert isinstance(found.transform, Homography)
    assert found.verdict.status == "pass", found.verdict
    ends = find_corners(fixed.grid)
    assert np.linalg.norm(found.transform.apply(ends) - map_points(BENT, ends), axis=1).max() < 0.3


def test_photographs_that_need_none_and_scenes_on_a_map_stay_affine():
    fixed = photograph()
    plain = BENT.copy()
    plain[2] = 0, 0, 1
    found = align_scenes(fixed, seen_obliquely(fixed, plain), {"methods": ["sift"]})
    assert isinstance(found.transform, Affine)
    assert np.abs(found.transform.apply(SQUARE) - map_points(plain, SQUARE)).max() < 0.3
    here = replace(fixed, grid=replace(fixed.grid, crs=band("B04").grid.crs))
    assert isinstance(align_scenes(here, seen_obliquely(here, BENT), {"methods": ["sift"]}).transform, Affine)


@pytest.mark.parametrize(
    "name", ["ecc", "xfeat", "mutual-information", "edge-correlation", "phase-correlation"]
)
def test_each_method_that_offers_a_homography_gives_one(name):
    fixed = photograph()
    slight = np.array([[1.0, 0.004, 2], [-0.003, 1.0, -1], [2.5e-5, -2e-5, 1]])
    method = list_methods_of_kind(METHODS, "rasters")[name]
    assert "homography" in method.options["model"]["enum"]
    given = {"rotation_degrees": 0, "scale": 1} if name == "edge-correlation" else {}
    chosen = options(name, model="homography", **given)
    found = method.load()(fixed, seen_obliquely(fixed, slight), Affine.identity(2), chosen, RunContext())
    assert isinstance(found, Homography)
    ends = find_corners(fixed.grid)
    assert np.linalg.norm(found.apply(ends) - map_points(slight, ends), axis=1).max() < 0.6


def test_the_gate_never_passes_what_folds():
    fixed = photograph()
    judge = SceneStartEvaluator(
        masked_image(fixed, "fixed"), masked_image(fixed, "moving"), Affine.identity(2), {}
    )
    assert judge(MethodResult(Affine.identity(2)))[0].status == "pass"
    folded = np.eye(3)
    folded[2, 0] = -1 / 300
    with pytest.raises(RegistrationError, match="mirrors the scene"):
        judge(MethodResult(make_transform(folded, (0.0, 0.0))))
    assert find_matrix(Homography(folded)).tolist() == folded.tolist()
