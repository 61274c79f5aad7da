"""Known maps of real bands and brains, found to hundredths of a sample by least squares."""

from dataclasses import replace

import numpy as np
import pytest
from linear_scenes import band, corner_error_px, moved, run

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_image
from regflow.core.transform import Affine, Homography
from regflow.datasets.subjects import draw_affine
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.lucas_kanade import lucas_kanade
from regflow.methods.initialize.planar import find_corners

EXACT_PX = 0.02
SCHEMES = ("inverse-compositional", "forward-additive")


def toned(image: Image) -> Image:
    return image.with_data(0.6 * np.asarray(image.channel, np.float32) + 300)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("model", ["translation", "rigid", "similarity", "affine", "homography"])
def test_a_start_of_two_pixels_ends_within_two_hundredths(model, scheme):
    turn, scale = {"translation": (0, 1), "rigid": (0.4, 1)}.get(model, (0.4, 1.004))
    moving, truth = moved("B04", (1.3, -1.5), turn, scale)
    found = run("lucas-kanade", band("B04"), toned(moving), model=model, scheme=scheme)
    assert corner_error_px(found, truth, band("B04").grid) < EXACT_PX


def test_a_known_homography_is_found():
    fixed = band("B04")
    middle = tuple(fixed.grid.center)
    bend = np.eye(3)
    bend[2, :2] = [4e-6, -3e-6]
    truth = Homography(bend, middle)
    moving = Image(warped(fixed, truth)[None], fixed.grid, np.ones(fixed.grid.shape, bool))
    found = run("lucas-kanade", fixed, moving, model="homography")
    ends = find_corners(fixed.grid)
    moves = np.linalg.norm(truth.apply(ends) - ends, axis=1) / 10
    assert moves.max() > 1.5
    assert np.linalg.norm(found.apply(ends) - truth.apply(ends), axis=1).max() / 10 < 0.05


def warped(image: Image, truth: Homography) -> np.ndarray:
    """Return the samples of the image that a map brings back onto another."""
    from scipy.ndimage import map_coordinates

    rows, columns = np.indices(image.grid.shape)
    world = image.grid.to_world(np.stack([columns, rows], axis=-1).reshape(-1, 2))
    places = image.grid.to_index(truth.inverse().apply(world))[:, ::-1].T
    values = map_coordinates(np.asarray(image.channel, float), places, order=5, mode="mirror")
    return values.reshape(image.grid.shape).astype(np.float32)


def test_changed_ground_moves_a_robust_fit_less():
    fixed, (moving, truth) = band("B04"), moved("B04", (1.3, -1.5))
    values = np.array(moving.channel)
    values[60:140, 60:140] = np.roll(values[60:140, 60:140], 7, axis=1) + 1000
    changed = moving.with_data(values)
    errors = {
        kind: corner_error_px(run("lucas-kanade", fixed, changed, weights=kind), truth, fixed.grid)
        for kind in ("none", "huber", "tukey")
    }
    assert max(errors["huber"], errors["tukey"]) < EXACT_PX
    assert errors["none"] > 10 * EXACT_PX


def test_what_is_masked_does_not_steer():
    fixed, (moving, truth) = band("B04"), moved("B04", (1.3, -1.5))
    values, mask = np.array(moving.channel), np.array(moving.mask)
    values[60:200, 60:200], mask[60:200, 60:200] = np.nan, False
    found = run("lucas-kanade", fixed, replace(moving.with_data(values), mask=mask), weights="none")
    assert corner_error_px(found, truth, fixed.grid) < EXACT_PX


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_brain_is_aligned_by_an_affine_map(mni_4mm, scheme):
    truth = draw_affine(mni_4mm.grid.center, 3, 3, 4, scale=0.03, shear=0.02)
    moving = resample_image(mni_4mm, mni_4mm.grid, truth.inverse(), "cubic")
    options = METHODS["lucas-kanade"].complete({"scheme": scheme})
    found = lucas_kanade(mni_4mm, moving, Affine.identity(3), options, RunContext())
    points = mni_4mm.grid.to_world(np.argwhere(mni_4mm.mask)[::7, ::-1])
    errors = np.linalg.norm(found.apply(points) - truth.apply(points), axis=1)
    assert np.linalg.norm(truth.apply(points) - points, axis=1).mean() > 2
    assert errors.max() < 0.2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_threads_change_nothing(scheme):
    fixed, moving = band("B04"), moved("B03", (1.3, -1.5), 0.4)[0]
    options = METHODS["lucas-kanade"].variants["rasters"].complete({"scheme": scheme})
    found = [
        lucas_kanade(fixed, moving, Affine.identity(2), options, RunContext(threads)).matrix.tobytes()
        for threads in (1, 2)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image: image.with_data(np.full(image.grid.shape, 7.0, np.float32)), "constant"),
        (lambda image: replace(image, grid=far_away(image.grid)), "too few valid samples"),
        (lambda image: replace(image, mask=np.zeros(image.grid.shape, bool)), "no valid pixel"),
    ],
)
def test_what_cannot_be_aligned_is_told_in_one_sentence(change, reason):
    with pytest.raises(RegistrationError, match=reason) as caught:
        run("lucas-kanade", band("B04"), change(band("B04")))
    assert "\n" not in str(caught.value)


def far_away(grid: Grid) -> Grid:
    affine = np.array(grid.affine)
    affine[0, 2] += 1e5
    return Grid(grid.shape, affine, grid.crs)


def test_one_line_does_not_determine_an_affine_map():
    ramp = np.tile(np.sin(np.arange(80) / 5), (80, 1)).astype(np.float32)
    image = Image(ramp[None], Grid((80, 80), np.eye(3)), np.ones((80, 80), bool))
    with pytest.raises(RegistrationError, match="too little contrast"):
        run("lucas-kanade", image, image)
