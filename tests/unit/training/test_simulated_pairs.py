"""Simulated pairs: exact truth, in the contrast, noise and shading of the real image."""

from dataclasses import replace

import numpy as np
import pytest
from moved_brain import inverted

from regflow.core.contrast import correlation_ratio, erode_deeply
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.transform import Affine, Composite
from regflow.datasets import subjects as synthetic
from regflow.methods.context import RunContext
from regflow.methods.preprocess import INTENSITY
from regflow.methods.preprocess.intensity import percentile
from regflow.training.simulated_pairs import SHADING, _shading, simulated_pair

RNG_SEED = 3


def scaled(image: Image) -> Image:
    return percentile(image, None, INTENSITY["percentile"].complete({}), RunContext())


@pytest.fixture(scope="module", params=["same contrast", "other contrast"])
def pair(request: pytest.FixtureRequest, mni_4mm: Image) -> tuple[Image, Image, synthetic.Truth]:
    """A fixed image, a subject, and a registration of them that is some millimeters wrong."""
    truth = synthetic.draw_truth(mni_4mm.grid, 1, amplitude_mm=10.0, smoothness_mm=18.0)
    source = mni_4mm if request.param == "same contrast" else inverted(mni_4mm)
    grid = synthetic.make_subject_grid(mni_4mm.grid, truth, 4.0)
    subject = synthetic.make_subject(source, truth, grid, seed=1)
    warp, unwarp = synthetic.draw_warp(mni_4mm.grid, 9.0, 18.0, seed=9)
    wrong = synthetic.Truth(
        Composite((warp, *truth.forward.parts)), Composite((*truth.backward.parts, unwarp))
    )
    return scaled(mni_4mm), scaled(subject), wrong


def made(pair: tuple[Image, Image, synthetic.Truth]) -> Image:
    fixed, moving, found = pair
    image = simulated_pair(fixed, moving, found.forward, found.backward, np.random.default_rng(RNG_SEED))
    assert image is not None
    return image


def explained(fixed: Image, moving: Image, found: Composite) -> float:
    """What the fixed image explains of another in its depth, where a transform brings both together."""
    moved = resample_array(moving.channel, moving.grid, fixed.grid, found)
    assert fixed.mask is not None
    deep = erode_deeply(fixed.mask)
    return correlation_ratio(fixed.channel[deep], moved[deep])


def test_what_was_found_is_the_truth_of_a_simulated_pair_whatever_is_wrong_with_it(
    pair: tuple[Image, Image, synthetic.Truth],
) -> None:
    fixed, moving, found = pair
    image = made(pair)
    exact = explained(fixed, image, found.forward)
    assert exact > explained(fixed, moving, found.forward) + 0.05
    for axis in range(3):
        for way in (-1.0, 1.0):
            shift = Affine.from_parts(np.eye(3), way * np.eye(3)[axis], np.zeros(3))
            assert explained(fixed, image, Composite((*found.forward.parts, shift))) < exact


def test_a_simulated_image_looks_like_the_moving_image(pair: tuple[Image, Image, synthetic.Truth]) -> None:
    _, moving, _ = pair
    image = made(pair)
    assert image.grid == moving.grid
    assert image.mask is not None
    assert moving.mask is not None
    both = image.mask & moving.mask
    assert both.sum() > 0.9 * image.mask.sum()
    levels = [np.percentile(each.channel[both], (10, 25, 50, 75, 90)) for each in (image, moving)]
    np.testing.assert_allclose(*levels, atol=0.06)
    assert np.corrcoef(image.channel[both], moving.channel[both])[0, 1] > 0.8


def test_the_shading_of_the_moving_image_goes_over_to_the_simulated_one(
    pair: tuple[Image, Image, synthetic.Truth],
) -> None:
    fixed, moving, found = pair
    ramp = np.linspace(-0.2, 0.2, moving.grid.shape[2], dtype=np.float32)
    assert moving.mask is not None
    shaded = moving.with_data(np.where(moving.mask, moving.data + 1 + ramp, 0).astype(np.float32))
    image = made((fixed, scaled(shaded), found))
    both = image.mask & moving.mask
    difference = _shading(image.channel - scaled(shaded).channel, both, SHADING / moving.grid.spacing[::-1])
    assert np.abs(difference[both]).mean() < 0.02


@pytest.mark.parametrize(
    "noise", [pytest.param(0.0, marks=pytest.mark.slow), 0.03, pytest.param(0.06, marks=pytest.mark.slow)]
)
def test_a_simulated_image_is_as_noisy_as_the_moving_image(mni_2mm: Image, noise: float) -> None:
    truth = synthetic.draw_truth(mni_2mm.grid, 1, amplitude_mm=10.0, smoothness_mm=18.0)
    grid = synthetic.make_subject_grid(mni_2mm.grid, truth, 2.0)
    subject = synthetic.make_subject(mni_2mm, truth, grid, seed=1, noise=noise, bias=0)
    fixed, moving = scaled(mni_2mm), scaled(subject)
    made = [
        simulated_pair(fixed, moving, truth.forward, truth.backward, np.random.default_rng(seed))
        for seed in range(2)
    ]
    assert made[0] is not None
    assert made[1] is not None
    inside = made[0].channel[made[0].mask], made[1].channel[made[0].mask]
    spread = np.std(inside[0] - inside[1]) / np.sqrt(2)
    assert spread == pytest.approx(noise, abs=0.007)


def test_the_seed_alone_decides_about_a_simulated_pair(pair: tuple[Image, Image, synthetic.Truth]) -> None:
    assert (made(pair).data == made(pair).data).all()
    fixed, moving, found = pair
    other = simulated_pair(fixed, moving, found.forward, found.backward, np.random.default_rng(RNG_SEED + 1))
    assert other is not None
    assert (other.data != made(pair).data).any()


def test_the_scale_of_intensities_is_of_no_account(pair: tuple[Image, Image, synthetic.Truth]) -> None:
    fixed, moving, found = pair
    stretched = [image.with_data(np.float32(300) * image.data - np.float32(50)) for image in (fixed, moving)]
    image = simulated_pair(*stretched, found.forward, found.backward, np.random.default_rng(RNG_SEED))
    assert image is not None
    np.testing.assert_allclose((image.data + 50) / 300, made(pair).data, atol=2e-3)


def test_images_without_masks_are_simulated(pair: tuple[Image, Image, synthetic.Truth]) -> None:
    fixed, moving, found = pair
    bare = [replace(image, mask=None) for image in (fixed, moving)]
    image = simulated_pair(*bare, found.forward, found.backward, np.random.default_rng(RNG_SEED))
    assert image is not None
    assert np.isfinite(image.data).all()


def test_an_image_that_has_nothing_to_do_with_the_other_is_not_simulated(
    pair: tuple[Image, Image, synthetic.Truth],
) -> None:
    fixed, moving, found = pair
    noise = np.random.default_rng(0).uniform(0, 1, moving.data.shape).astype(np.float32)
    given = found.forward, found.backward, np.random.default_rng(RNG_SEED)
    assert simulated_pair(fixed, moving.with_data(noise), *given) is None
