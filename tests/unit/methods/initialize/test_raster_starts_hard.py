"""Starts that were refused though right, and maps that were believed though wrong."""

import numpy as np
import pytest
from linear_scenes import bands, options

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets.modalities import make_linear_truth
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.planar import crop_to_overlap, masked_image
from regflow.methods.result import MethodResult
from regflow.methods.table import list_methods_of_kind
from regflow.stages.rasters.initialize import SceneStartEvaluator, align_scenes

SIDE = 640


def part(name: str, left: int, top: int, side: int, off_px: tuple[float, float] = (0, 0)) -> Image:
    """Return a square of a band, its georeference so many pixels off."""
    planes, grid = bands()
    affine = grid.affine.copy()
    affine[:2, 2] = grid.to_world((left + off_px[0], top + off_px[1]))
    data = np.ascontiguousarray(planes[name][top : top + side, left : left + side])
    return Image(data[None], Grid(data.shape, affine, grid.crs), data > 0)


@pytest.mark.parametrize("side", [60, 90, 120])
def test_a_chip_and_its_scene_are_judged_alike_in_either_order(side):
    scene, chip = part("B04", 700, 100, SIDE), part("B08", 930, 310, side, (3, -2))
    truth = Affine.from_parts(np.eye(2), (30.0, 20.0))
    verdicts = []
    for fixed, moving, right in ((scene, chip, truth), (chip, scene, truth.inverse())):
        judge = SceneStartEvaluator(
            masked_image(fixed, "fixed"), masked_image(moving, "moving"), Affine.identity(2), {}
        )
        verdicts.append(judge(MethodResult(right))[0].status)
        wrong = Affine.from_parts(np.eye(2), right.translation + np.array([90.0, -60.0]))
        assert judge(MethodResult(wrong))[0].status == "fail"
    assert verdicts[0] == verdicts[1] != "fail"


def test_a_chip_and_its_scene_find_each_other_in_either_order():
    scene, chip = part("B04", 700, 100, SIDE), part("B08", 930, 310, 90, (7, -5))
    center, wanted = chip.grid.center, np.array([70.0, 50.0])
    for fixed, moving, sign in ((scene, chip, 1), (chip, scene, -1)):
        found = align_scenes(fixed, moving, {"methods": ["gradient-correlation"]})
        assert found.verdict.status == "pass", found.verdict
        where = center if sign < 0 else center - wanted
        # The bands of the product lie up to three tenths of a pixel apart by themselves.
        assert np.abs(found.transform.apply([where])[0] - where - sign * wanted).max() < 6


def test_windows_are_laid_where_the_other_picture_lies():
    scene, chip = masked_image(part("B04", 700, 100, SIDE), "fixed"), part("B03", 930, 310, 90)
    seen = crop_to_overlap(scene, chip.grid, np.eye(3))
    assert seen.grid.shape == (90 + 32, 90 + 32)
    at = scene.grid.to_index(seen.grid.origin)
    np.testing.assert_allclose(at, (930 - 700 - 16, 310 - 100 - 16), atol=1e-6)
    assert np.array_equal(seen.channel, scene.channel[194 : 194 + 122, 214 : 214 + 122])
    assert crop_to_overlap(scene, scene.grid, np.eye(3)) is scene
    away = make_linear_truth(scene.grid, (5000, 0)).matrix
    assert crop_to_overlap(scene, chip.grid, away) is scene


@pytest.fixture(scope="module")
def tiled() -> tuple[Image, Image]:
    """Return a tile mirrored again and again, and another band of it."""
    made = []
    for name in ("B04", "B03"):
        tile = part(name, 900, 208, 48)
        row = np.concatenate([tile.channel, tile.channel[:, ::-1]], axis=1)
        block = np.concatenate([row, row[::-1]])
        data = np.tile(block, (8, 8))
        made.append(Image(data[None], Grid(data.shape, tile.grid.affine, tile.grid.crs), data > 0))
    return made[0], made[1]


def test_nearness_to_the_georeference_breaks_a_tie(tiled):
    fixed, other = tiled
    truth = make_linear_truth(other.grid, (3.0, 2.0))
    moving = Image(
        other.data, Grid(other.grid.shape, truth.matrix @ other.grid.affine, other.grid.crs), other.mask
    )
    judge = SceneStartEvaluator(
        masked_image(fixed, "fixed"), masked_image(moving, "moving"), Affine.identity(2), {}
    )
    right = judge(MethodResult(truth))[0]
    assert right.status == "pass", right
    # One period aside it is as alike, and far from where the georeference has it.
    wrong = judge(MethodResult(Affine(make_linear_truth(other.grid, (3.0 + 96, 2.0)).matrix)))[0]
    assert wrong.status == "fail", wrong


def test_without_a_georeference_nothing_breaks_the_tie(tiled):
    plain = [Image(image.data, Grid(image.grid.shape, np.eye(3)), image.mask) for image in tiled]
    judge = SceneStartEvaluator(
        masked_image(plain[0], "fixed"), masked_image(plain[1], "moving"), Affine.identity(2), {}
    )
    assert judge(MethodResult(Affine.from_parts(np.eye(2), (96.0, 0.0))))[0].status != "pass"


def discs(seed: int, inverted: bool) -> Image:
    """Return round things in a dark surround, as a scan of a head has them, in one of two contrasts."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:220, :220]
    inside = ((x - 110) / 80) ** 2 + ((y - 105) / 92) ** 2 < 1
    levels = np.full((220, 220), 4.0)
    for _ in range(24):
        cx, cy, r, level = (*rng.uniform(40, 180, 2), rng.uniform(8, 26), rng.uniform(1, 8))
        levels[(x - cx) ** 2 + (y - cy) ** 2 < r**2] = level
    from scipy.ndimage import gaussian_filter

    shown = np.where(inside, np.abs(levels - 5) if inverted else levels, 0)
    noise = np.random.default_rng(seed).normal(0, 0.15, shown.shape)
    values = (gaussian_filter(shown, 3.0 if inverted else 1.0) + noise).astype(np.float32)
    return Image(values[None], Grid(values.shape, np.eye(3)), np.ones(values.shape, bool))


def test_unlike_contrasts_in_a_dark_surround_are_found_with_any_number_of_threads():
    import cv2

    from regflow.datasets.modalities import move_linearly

    fixed, other = discs(0, False), discs(1, True)
    truth = make_linear_truth(other.grid, (11.0, -14.0), 8.0)
    moving = move_linearly(other, truth)
    method = list_methods_of_kind(METHODS, "rasters")["hypotheses"]
    found = []
    before = cv2.getNumThreads()
    for threads in (1, 2):
        cv2.setNumThreads(threads)
        context = RunContext(threads)
        found.append(method.load()(fixed, moving, Affine.identity(2), options("hypotheses"), context))
    cv2.setNumThreads(before)
    places = np.array([[60, 60], [160, 60], [110, 110], [60, 160], [160, 160.0]])
    assert np.linalg.norm(found[0].apply(places) - truth.apply(places), axis=1).mean() < 2.0
    assert found[0].apply(places).tobytes() == found[1].apply(places).tobytes()


def test_what_no_map_confirms_is_measured_no_further():
    """Neither drift nor rivals are asked for where windows and whole pictures see nothing."""
    fixed, moving = (masked_image(each, "fixed") for each in (discs(0, False), part("B04", 900, 208, 220)))
    moving = Image(moving.data, fixed.grid, moving.mask)
    verdict, _ = SceneStartEvaluator(fixed, moving, Affine.identity(2), {})(
        MethodResult(Affine.from_parts(np.eye(2), (13.0, 8.0)))
    )
    assert verdict.status == "fail"
    assert "agreement_sigmas" in verdict.figures
    assert not {"drift_px", "second_peak_ratio"} & set(verdict.figures)


def status_of(fixed, moving, methods):
    """Return the verdict's status; no map at all is as good as ``fail``."""
    try:
        return align_scenes(fixed, moving, {"methods": methods}).verdict.status
    except RegistrationError:
        return "fail"


def test_unrelated_pictures_never_pass_whoever_proposes():
    assert status_of(discs(0, False), part("B04", 900, 208, 220), ["hypotheses"]) != "pass"
