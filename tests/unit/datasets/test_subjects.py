import numpy as np
import pytest

from regflow.core.resample import resample_array
from regflow.core.transform import Affine, measure_inverse_error
from regflow.datasets import subjects as synthetic
from regflow.io.transforms import read_transform, write_transform

NEAR_IDENTITY_MM = 0.1
"""Forward then backward at 4 mm samples: linear interpolation of the stored fields is the rest."""


@pytest.fixture(scope="module")
def truth(mni_4mm):
    return synthetic.draw_truth(mni_4mm.grid, seed=3, smoothness_mm=20.0)


@pytest.fixture(scope="module")
def brain_points(mni_4mm):
    z, y, x = np.nonzero(mni_4mm.mask)
    return mni_4mm.grid.to_world(np.stack([x, y, z], axis=-1))[::7]


def test_the_backward_truth_undoes_the_forward(truth, brain_points):
    there_and_back = measure_inverse_error(truth.forward, truth.backward, brain_points)
    back_and_there = measure_inverse_error(truth.backward, truth.forward, truth.forward.apply(brain_points))
    assert max(there_and_back.mean(), back_and_there.mean()) < NEAR_IDENTITY_MM / 2
    assert max(there_and_back.max(), back_and_there.max()) < NEAR_IDENTITY_MM * 4


def test_the_warp_is_as_long_as_asked_and_stays_in_its_box(mni_4mm):
    warp, unwarp = synthetic.draw_warp(mni_4mm.grid, amplitude_mm=6.0, smoothness_mm=25.0, seed=8)
    lengths = np.linalg.norm(warp.vectors, axis=0)
    assert 3.5 < lengths.max() < 6.01
    for field in (warp.vectors, unwarp.vectors):
        # No sample crosses the border it stands on.
        assert np.abs(field[2, 0]).max() < 1e-3
        assert np.abs(field[1, :, -1]).max() < 1e-3
        assert np.abs(field[0, :, :, 0]).max() < 1e-3


def test_seeds_repeat_and_differ(mni_4mm):
    first, again, other = (
        synthetic.draw_truth(mni_4mm.grid, seed, smoothness_mm=25.0).forward.parts for seed in (1, 1, 2)
    )
    assert np.array_equal(first[0].vectors, again[0].vectors)
    assert np.array_equal(first[1].matrix, again[1].matrix)
    assert not np.allclose(first[0].vectors, other[0].vectors)


def test_a_warp_that_would_fold_is_refused(mni_4mm):
    with pytest.raises(ValueError, match="folds"):
        synthetic.draw_warp(mni_4mm.grid, amplitude_mm=200.0, smoothness_mm=25.0, seed=0)


def test_a_random_affine_moves_by_what_it_says():
    center = np.array([10.0, -20.0, 30.0])
    pose = synthetic.draw_affine(center, seed=4, rotation_deg=20, translation_mm=12, scale=0, shear=0)
    assert np.linalg.norm(pose.apply(center) - center) == pytest.approx(12)
    assert np.rad2deg(np.arccos((np.trace(pose.linear) - 1) / 2)) == pytest.approx(20)


def test_the_truth_maps_landmarks_of_the_fixed_image_to_the_subject(mni_4mm, truth):
    """A bright ball at a known fixed point is found in the subject where the truth says."""
    grid = synthetic.make_subject_grid(mni_4mm.grid, truth, spacing_mm=2.0)
    z, y, x = np.indices(mni_4mm.grid.shape)
    points = mni_4mm.grid.to_world(np.stack([x, y, z], axis=-1))
    for landmark in ([30.0, 20.0, 10.0], [-25.0, 50.0, 0.0], [5.0, -30.0, 35.0]):
        distance = np.linalg.norm(points - np.array(landmark), axis=-1)
        ball = mni_4mm.with_data(np.exp(-((distance / 6) ** 2)).astype(np.float32))
        subject = synthetic.make_subject(ball, truth, grid, seed=0, noise=0, bias=0)
        weight = np.where(subject.channel > 0.05, subject.channel, 0)
        index = np.array([(weight * axis).sum() for axis in np.indices(grid.shape)]) / weight.sum()
        found = grid.to_world(index[::-1])
        expected = truth.forward.apply([landmark])[0]
        assert np.linalg.norm(expected - landmark) > 3, "the truth must move the landmark visibly"
        assert np.linalg.norm(found - expected) < 0.7


def test_a_subject_pulled_back_is_its_source(mni_4mm, truth):
    labels = (mni_4mm.channel > 60).astype(np.uint8) + mni_4mm.mask
    source = type(mni_4mm)(mni_4mm.data, mni_4mm.grid, mni_4mm.mask, labels, "T1w")
    grid = synthetic.make_subject_grid(mni_4mm.grid, truth, spacing_mm=3.0)
    subject = synthetic.make_subject(source, truth, grid, seed=1)
    again = resample_array(subject.channel, grid, mni_4mm.grid, truth.forward)
    unaligned = resample_array(subject.channel, grid, mni_4mm.grid)
    brain = mni_4mm.mask
    # Noise, bias field and two interpolations at 4 mm remain.
    assert np.corrcoef(again[brain], mni_4mm.channel[brain])[0, 1] > 0.85
    assert np.corrcoef(unaligned[brain], mni_4mm.channel[brain])[0, 1] < 0.7
    drawn = resample_array(subject.labels, grid, mni_4mm.grid, truth.forward, "nearest")
    assert (drawn == labels)[brain].mean() > 0.75
    assert subject.channel[~subject.mask].max() == 0


def test_the_whole_of_the_fixed_box_lies_in_the_subject_grid(mni_4mm, truth):
    grid = synthetic.make_subject_grid(mni_4mm.grid, truth, spacing_mm=(1.0, 2.0, 3.0))
    corners = [(0, 0, 0), tuple(n - 1 for n in mni_4mm.grid.size)]
    index = grid.to_index(truth.forward.apply(mni_4mm.grid.to_world(corners)))
    assert index.min() >= -1e-6
    assert np.all(index <= np.array(grid.size) - 1 + 1e-6)
    assert np.allclose(grid.spacing, (1, 2, 3))


def test_t2_contrast_turns_the_tissues_over_and_keeps_the_texture(volume):
    t1 = volume("icbm2009a", 2.0)
    gray, white = (volume(f"icbm2009a-{tissue}", 2.0).channel / 255 for tissue in ("gm", "wm"))
    t2 = synthetic.simulate_t2(t1, gray, white)
    brain = t1.channel > 0
    fluid = brain & (gray + white < 0.2)
    means = [t2.channel[region].mean() for region in (fluid, gray > 0.9, white > 0.9)]
    assert means[0] > 1.3 * means[1] > 1.5 * means[2]
    inner = white > 0.95
    assert np.corrcoef(t2.channel[inner], t1.channel[inner])[0, 1] < -0.5
    assert t2.modality == "T2w"
    assert t2.channel[~brain].max() == 0


def test_the_truth_survives_its_file(tmp_path, mni_4mm, truth, brain_points):
    write_transform(tmp_path / "truth.h5", truth.forward)
    stored = read_transform(tmp_path / "truth.h5")
    assert np.abs(stored.apply(brain_points) - truth.forward.apply(brain_points)).max() < 4 / 512


def test_an_affine_of_choice_is_kept(mni_4mm):
    pose = Affine.from_parts(np.eye(3), [5.0, 0, 0])
    truth = synthetic.draw_truth(mni_4mm.grid, seed=1, smoothness_mm=25.0, affine=pose)
    assert truth.forward.parts[1] is pose
