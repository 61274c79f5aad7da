"""Pairs of known truth: what is said of them is true."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, map_coordinates

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets.known_pairs import (
    choose_window,
    crop_image,
    draw_motions,
    draw_partners,
    fit_contrast,
    measure_distances,
    measure_noise,
    move_image,
    write_known_pair,
)

VOLUME = Grid.from_geometry((24, 28, 20), (2.0, 2.0, 3.0), (-20.0, 5.0, 1.0))
SCENE = Grid((80, 90), np.array([[10.0, 0.0, 500000.0], [0.0, -10.0, 4e6], [0.0, 0.0, 1.0]]), "EPSG:32633")


def smooth_image(grid: Grid) -> Image:
    """An image whose values say where they stand: any displacement changes them in proportion."""
    index = np.indices(grid.shape)
    waves = sum(np.sin(2 * np.pi * axis / (9 + 2 * number)) for number, axis in enumerate(index))
    mask = np.all([(axis > 2) & (axis < n - 3) for axis, n in zip(index, grid.shape, strict=True)], axis=0)
    return Image(waves.astype(np.float32)[None], grid, mask)


@pytest.mark.parametrize("grid", [VOLUME, SCENE], ids=["volume", "scene"])
def test_partners_show_the_same(grid):
    image = smooth_image(grid)
    for motion in draw_motions(grid, moved=[3.0], warped=[2.0], seed=1):
        moving = move_image(image, motion.back, None, 0.0, seed=1)
        fixed, partners = draw_partners(image, motion.back, seed=2)
        assert len(fixed) > 500
        before, after = (sample(shown, points) for shown, points in ((image, fixed), (moving, partners)))
        # Away from where nothing is shown, which splines reach over.
        deep = Image(binary_erosion(moving.mask, iterations=3)[None].astype(np.float32), grid)
        known = sample(deep, partners) > 0.99
        assert known.sum() > 200
        assert np.abs(before - after)[known].max() < 0.05
        # Where they lie apart, the image itself differs more.
        assert np.abs(before - sample(image, partners))[known].mean() > 0.05


def sample(image: Image, points: np.ndarray) -> np.ndarray:
    index = image.grid.to_index(points)[:, ::-1].T
    return map_coordinates(image.channel, index, order=3, mode="nearest")


@pytest.mark.parametrize("grid", [VOLUME, SCENE], ids=["volume", "scene"])
def test_motions_are_as_large_as_they_are_called(grid):
    unit = 1.0 if grid.ndim == 3 else 10.0
    motions = draw_motions(grid, moved=[4.0], warped=[3.0], seed=3)
    assert [motion.kind for motion in motions] == ["moved", "warped"]
    center = grid.center[None]
    assert np.linalg.norm(motions[0].back.apply(center) - center) == pytest.approx(4.0 * unit)
    points = grid.to_world(
        np.stack(np.meshgrid(*(np.arange(n) for n in grid.size)), -1).reshape(-1, grid.ndim)
    )
    longest = np.linalg.norm(motions[1].back.apply(points) - points, axis=1).max()
    assert 0.3 * 3.0 * unit < longest <= 3.0 * unit * 1.01


def test_the_truth_is_no_distance_away_and_the_identity_is():
    image = smooth_image(VOLUME)
    (motion,) = draw_motions(VOLUME, moved=[5.0], warped=[], seed=0)
    fixed, moving = draw_partners(image, motion.back, seed=0)
    assert measure_distances(motion.back.inverse(), fixed, moving)["largest"] < 1e-6
    assert measure_distances(Affine.identity(3), fixed, moving)["mean"] > 3.0


def test_another_contrast_and_its_noise_are_measured():
    rng = np.random.default_rng(0)
    fixed = smooth_image(SCENE).channel
    inside = np.ones(fixed.shape, bool)
    other = (5.0 - fixed**2 + rng.normal(0, 0.05, fixed.shape)).astype(np.float32)
    contrast = fit_contrast(fixed, other, inside)
    assert np.abs(np.interp(fixed, *contrast) - (5.0 - fixed**2)).max() < 0.25
    flat = np.cumsum(np.ones_like(fixed), axis=1) + rng.normal(0, 0.5, fixed.shape).astype(np.float32)
    assert measure_noise(flat, inside) == pytest.approx(0.5, rel=0.1)
    assert fit_contrast(fixed, other, np.zeros(fixed.shape, bool)) is None


def test_the_window_of_a_scene_is_where_most_is_seen():
    mask = np.zeros((300, 500), bool)
    mask[180:, 350:] = True
    rows, columns = choose_window(mask, side=128)
    assert mask[rows, columns].mean() > 0.9
    image = Image(
        np.arange(SCENE.shape[0] * SCENE.shape[1], dtype=np.float32).reshape(1, *SCENE.shape), SCENE
    )
    part = crop_image(image, (slice(10, 40), slice(20, 60)))
    assert part.grid.shape == (30, 40)
    assert np.allclose(part.grid.to_world([[0, 0]]), SCENE.to_world([[20, 10]]))
    assert part.channel[0, 0] == image.channel[10, 20]


@pytest.mark.parametrize("grid", [VOLUME, SCENE], ids=["volume", "scene"])
def test_a_pair_is_written_with_its_truth(grid, tmp_path):
    image = smooth_image(grid)
    (motion,) = draw_motions(grid, moved=[2.0], warped=[], seed=0)
    moving = move_image(image, motion.back, None, 0.1, seed=0)
    files = write_known_pair(tmp_path / "pair", image, moving, draw_partners(image, motion.back, seed=0))
    with np.load(files["truth"]) as points:
        assert points["fixed"].shape == points["moving"].shape
    assert all((tmp_path / "pair" / name.rsplit("/", 1)[1]).is_file() for name in files.values())
