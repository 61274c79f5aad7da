"""Known poses of real brains, recovered by the search over all orientations."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.datasets import subjects as synthetic
from regflow.datasets.subjects import Truth, draw_affine, make_subject, make_subject_grid
from regflow.io.transforms import write_transform
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS, information, parzen, poses
from regflow.methods.initialize.mattes_volumes import maximize_mattes
from regflow.methods.initialize.mutual_information import mutual_information
from regflow.methods.initialize.rivals import peak_ambiguity
from regflow.methods.table import list_methods_of_kind, run_method

RECOVERED_MM = 0.6
"""A sixth of the tests' spacing."""


def search(fixed: Image, moving: Image, threads: int = 1, initial: Affine | None = None, **options) -> Affine:
    complete = METHODS["mutual-information"].complete(options)
    start = initial or Affine.identity(fixed.grid.ndim)
    found = mutual_information(fixed, moving, start, complete, RunContext(threads))
    assert isinstance(found, Affine)
    return found


def posed(fixed: Image, pose: Affine, seed: int = 0, contrast: Image | None = None) -> Image:
    """Resample a brain, noisy and shaded, to where a pose carries it."""
    truth = Truth(Composite((pose,)), Composite((pose.inverse(),)))
    source = contrast or fixed.with_data(np.where(fixed.mask, fixed.channel, 0))
    grid = make_subject_grid(fixed.grid, truth, float(fixed.grid.spacing.max()))
    return make_subject(source, truth, grid, seed=seed)


def turned(fixed: Image, degrees: float, shift_mm: float, seed: int) -> Affine:
    return draw_affine(fixed.grid.center, seed, degrees, shift_mm, scale=0, shear=0)


def error_mm(found: Affine, truth: Affine, fixed: Image) -> float:
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::7, ::-1])
    return float(np.linalg.norm(found.apply(points) - truth.apply(points), axis=1).mean())


def test_simpleitk_climbs_to_the_same_pose(mni_4mm):
    truth = turned(mni_4mm, degrees=40, shift_mm=50, seed=3)
    moving = posed(mni_4mm, truth)
    ours, theirs = (
        search(mni_4mm, moving, transform="rigid", engine=name) for name in ("compiled", "simpleitk")
    )
    assert error_mm(theirs, truth, mni_4mm) < RECOVERED_MM
    assert error_mm(theirs, ours, mni_4mm) < RECOVERED_MM


def test_simpleitk_gives_the_same_bits_whatever_the_threads(mni_4mm, mni6_4mm):
    one, two = (search(mni_4mm, mni6_4mm, threads=n, engine="simpleitk") for n in (1, 2))
    assert one.matrix.tobytes() == two.matrix.tobytes()


def test_the_gradient_is_that_of_the_value(mni_4mm, mni6_4mm):
    with ThreadPoolExecutor(1) as workers:
        (level,) = information.prepare_levels(mni_4mm, mni6_4mm, [20], 32, workers)
    metric = information.InformationMetric(level)
    pose = np.eye(4)
    pose[:3, 3] = level.center + np.array([1.3, -2.1, 0.7])
    _, gradient = metric(pose)
    numeric = np.empty((3, 4))
    for i, j in np.ndindex(3, 4):
        step = np.zeros((4, 4))
        step[i, j] = 0.01 if j == 3 else 0.01 / level.radius
        numeric[i, j] = (metric(pose + step)[0] - metric(pose - step)[0]) / (2 * step[i, j])
    np.testing.assert_allclose(gradient, numeric, rtol=0.02, atol=2e-3)


def test_the_rotations_cover_all_orientations_evenly():
    turns = poses.list_rotations(3, 30.0)
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    drawn = Rotation.random(200, rng=np.random.default_rng(0)).as_matrix()
    farthest = max(poses.measure_angles(turns, turn).min() for turn in drawn)
    assert farthest < 26


def test_the_rotations_of_a_plane_go_once_around():
    turns = poses.list_rotations(2, 45.0)
    assert len(turns) == 8
    np.testing.assert_allclose(turns[:, 2, 2], 1)


@pytest.mark.parametrize("seed", range(6))
def test_large_turns_and_shifts_are_recovered(mni_4mm, seed):
    truth = turned(mni_4mm, degrees=40, shift_mm=60, seed=seed)
    assert error_mm(search(mni_4mm, posed(mni_4mm, truth, seed)), truth, mni_4mm) < RECOVERED_MM


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_about_every_axis_are_recovered(mni_4mm, axis):
    flip = Rotation.from_rotvec(np.pi * np.eye(3)[axis]).as_matrix()
    truth = Affine.from_parts(flip, [20, -10, 30], mni_4mm.grid.center)
    assert error_mm(search(mni_4mm, posed(mni_4mm, truth)), truth, mni_4mm) < RECOVERED_MM


def test_scale_and_shear_are_recovered(mni_4mm):
    truth = draw_affine(mni_4mm.grid.center, 5, rotation_deg=15, scale=0.08, shear=0.04)
    assert error_mm(search(mni_4mm, posed(mni_4mm, truth)), truth, mni_4mm) < RECOVERED_MM


@pytest.mark.parametrize("swapped", [False, True])
def test_size_is_found_without_bias(mni_4mm, swapped):
    truth = turned(mni_4mm, degrees=40, shift_mm=60, seed=1)
    moving = posed(mni_4mm, truth)
    found = search(moving, mni_4mm) if swapped else search(mni_4mm, moving)
    # Samples on the grid would make it 0.993 either way.
    assert np.cbrt(np.linalg.det(found.linear)) == pytest.approx(1, abs=0.002)


def test_another_contrast_is_aligned(volume):
    fixed = volume("icbm2009a", 3.0)
    gray, white = (volume(f"icbm2009a-{tissue}", 3.0).channel / 255 for tissue in ("gm", "wm"))
    source = synthetic.simulate_t2(fixed.with_data(np.where(fixed.mask, fixed.channel, 0)), gray, white)
    truth = turned(fixed, degrees=35, shift_mm=50, seed=3)
    moving = posed(fixed, truth, contrast=source)
    assert np.corrcoef(source.channel[fixed.mask], fixed.channel[fixed.mask])[0, 1] < -0.5
    assert error_mm(search(fixed, moving), truth, fixed) < RECOVERED_MM


def test_without_masks_the_pose_is_found_as_well(mni_4mm):
    truth = turned(mni_4mm, degrees=30, shift_mm=40, seed=2)
    moving = posed(mni_4mm, truth)
    found = search(mni_4mm.with_mask(None), moving.with_mask(None))
    assert error_mm(found, truth, mni_4mm) < 1.0


@pytest.mark.slow
def test_a_head_with_its_skull_is_aligned_with_a_brain(mni_4mm, colin_4mm, colin_brain_4mm):
    brain = search(mni_4mm, colin_brain_4mm)
    tilt = turned(mni_4mm, degrees=35, shift_mm=50, seed=1)
    grid = Grid(colin_4mm.grid.shape, tilt.matrix @ colin_4mm.grid.affine)
    head = search(mni_4mm, Image(colin_4mm.data, grid))
    assert error_mm(head, Affine(tilt.matrix @ brain.matrix), mni_4mm) < 4.0


def test_what_lies_outside_the_moving_mask_does_not_matter(mni_4mm):
    truth = turned(mni_4mm, degrees=20, shift_mm=20, seed=4)
    moving = posed(mni_4mm, truth)
    spoiled = moving.with_data(np.where(moving.mask, moving.channel, 3 * moving.channel.max()))
    np.testing.assert_allclose(search(mni_4mm, spoiled).matrix, search(mni_4mm, moving).matrix, atol=1e-3)


def test_a_slab_of_a_brain_finds_its_place(mni_4mm):
    truth = turned(mni_4mm, degrees=25, shift_mm=30, seed=6)
    whole = posed(mni_4mm, truth)
    first, last = np.flatnonzero(whole.mask.any(axis=(1, 2)))[[0, -1]]
    cut = slice(first + (last - first) // 4, last - (last - first) // 4)
    affine = whole.grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * cut.start
    grid = Grid(whole.channel[cut].shape, affine)
    slab = Image(whole.data[:, cut], grid, whole.mask[cut])
    found = search(mni_4mm, slab)
    inside = grid.to_world(np.argwhere(slab.mask)[::7, ::-1])
    error = np.linalg.norm(found.inverse().apply(inside) - truth.inverse().apply(inside), axis=1).mean()
    assert error < 2.0


def test_a_rigid_answer_is_rigid_and_includes_the_start(mni_4mm):
    start = Affine.from_parts(np.eye(3), [30, 0, 0])
    truth = turned(mni_4mm, degrees=20, shift_mm=20, seed=7)
    found = search(mni_4mm, posed(mni_4mm, truth), initial=start, transform="rigid")
    np.testing.assert_allclose(found.linear.T @ found.linear, np.eye(3), atol=1e-9)
    assert error_mm(found, truth, mni_4mm) < RECOVERED_MM


def test_planes_are_turned_within_their_plane(mni_4mm):
    plane = Grid(mni_4mm.grid.shape[1:], mni_4mm.grid.affine[np.ix_([0, 1, 3], [0, 1, 3])])
    slice_ = Image(mni_4mm.data[:, 24], plane, mni_4mm.mask[24])
    c, s = np.cos(2.5), np.sin(2.5)
    truth = Affine.from_parts([[c, -s], [s, c]], [25, -40], plane.center)
    moved = Image(slice_.data, Grid(plane.shape, truth.matrix @ plane.affine), slice_.mask)
    assert error_mm(search(slice_, moved), truth, slice_) < 0.1


def test_threads_do_not_change_a_byte(mni_4mm, mni6_4mm, tmp_path):
    sums = []
    for threads in (1, 2, 3):
        write_transform(tmp_path / "t.h5", search(mni_4mm, mni6_4mm, threads))
        sums.append(hashlib.sha256((tmp_path / "t.h5").read_bytes()).hexdigest())
    assert len(set(sums)) == 1


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_constant_image_is_refused_in_one_sentence(mni_4mm, role):
    pair = {"fixed": mni_4mm, "moving": mni_4mm}
    pair[role] = mni_4mm.with_data(np.full(mni_4mm.grid.shape, 7, np.float32))
    with pytest.raises(RegistrationError, match=f"^mutual-information: the {role} image is constant[^.]*$"):
        search(**pair)


def test_an_empty_mask_is_refused_in_one_sentence(mni_4mm):
    empty = mni_4mm.with_mask(np.zeros(mni_4mm.grid.shape, bool))
    with pytest.raises(RegistrationError, match="the moving image's mask is empty"):
        search(mni_4mm, empty)


def test_a_start_that_is_not_affine_is_refused(mni_4mm):
    field = DisplacementField(np.zeros((3, *mni_4mm.grid.shape), np.float32), mni_4mm.grid)
    options = METHODS["mutual-information"].complete({})
    with pytest.raises(RegistrationError, match="not affine"):
        mutual_information(mni_4mm, mni_4mm, field, options, RunContext())


def test_a_right_pose_has_weak_rivals_and_stays_where_it_is(mni_4mm, mni6_4mm):
    doubts = peak_ambiguity(mni_4mm, mni6_4mm, search(mni_4mm, mni6_4mm))
    assert doubts.second_peak_ratio < 0.7
    assert doubts.drift < 0.03 * doubts.radius


@pytest.mark.parametrize(("degrees", "drift"), [(10, 0.09), (25, 0.2)])
def test_a_turned_pose_drifts(mni_4mm, mni6_4mm, degrees, drift):
    right = search(mni_4mm, mni6_4mm)
    wrong = Affine(right.matrix @ turned(mni_4mm, degrees, 0, seed=1).matrix)
    doubts = peak_ambiguity(mni_4mm, mni6_4mm, wrong)
    assert doubts.drift > drift * doubts.radius


def test_a_flipped_pose_has_a_better_rival(mni_4mm, mni6_4mm):
    flip = Affine.from_parts(np.diag([-1.0, -1.0, 1.0]), np.zeros(3), mni_4mm.grid.center)
    wrong = Affine(search(mni_4mm, mni6_4mm).matrix @ flip.matrix)
    assert peak_ambiguity(mni_4mm, mni6_4mm, wrong).second_peak_ratio > 1.5


def test_all_options_are_used_with_their_defaults():
    options = METHODS["mutual-information"].options
    assert all("description" in schema and "default" in schema for schema in options.values())


def test_labels_and_modality_do_not_disturb(mni_4mm, mni6_4mm):
    labeled = replace(mni_4mm, labels=mni_4mm.mask.astype(np.int16), modality="T1w")
    assert np.array_equal(search(labeled, mni6_4mm).matrix, search(mni_4mm, mni6_4mm).matrix)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["compiled", "simpleitk"])
def test_a_similarity_has_one_scale_and_finds_it(mni_4mm, engine):
    pose = turned(mni_4mm, degrees=15, shift_mm=20, seed=5)
    truth = Affine.from_parts(
        1.12 * pose.linear,
        pose.apply(mni_4mm.grid.center[None])[0] - mni_4mm.grid.center,
        mni_4mm.grid.center,
    )
    found = search(mni_4mm, posed(mni_4mm, truth), transform="similarity", engine=engine)
    scales = np.linalg.svd(found.linear, compute_uv=False)
    assert np.ptp(scales) < 1e-6
    assert np.linalg.det(found.linear) == pytest.approx(1.12**3, rel=0.04)
    assert error_mm(found, truth, mni_4mm) < 1.5 * RECOVERED_MM


def test_a_similarity_of_planes_keeps_to_them(mni_4mm):
    plane = Grid(mni_4mm.grid.shape[1:], mni_4mm.grid.affine[np.ix_([0, 1, 3], [0, 1, 3])])
    slice_ = Image(mni_4mm.data[:, 24], plane, mni_4mm.mask[24])
    c, s = 1.1 * np.cos(0.4), 1.1 * np.sin(0.4)
    truth = Affine.from_parts([[c, -s], [s, c]], [12, -9], plane.center)
    moved = Image(slice_.data, Grid(plane.shape, truth.matrix @ plane.affine), slice_.mask)
    found = search(slice_, moved, transform="similarity")
    assert np.ptp(np.linalg.svd(found.linear, compute_uv=False)) < 1e-9
    assert error_mm(found, truth, slice_) < 0.2


@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine"])
def test_the_parameters_gradient_is_that_of_the_value(mni_4mm, mni6_4mm, transform):
    with ThreadPoolExecutor(1) as workers:
        (level,) = information.prepare_levels(mni_4mm, mni6_4mm, [20], 32, workers)
    metric = information.InformationMetric(level)
    start = np.eye(4)
    start[:3, 3] = level.center + np.array([1.3, -2.1, 0.7])
    place, pull = poses._PARAMETRIZED[transform](start, level.radius, 3)
    size = int(poses._free(3, transform).sum())
    assert size == {"rigid": 6, "similarity": 7, "affine": 12}[transform]
    at = np.random.default_rng(0).normal(0, 2.0, size)
    gradient = pull(at, metric(place(at))[1])
    steps = 0.02 * np.eye(size)
    numeric = [(metric(place(at + step))[0] - metric(place(at - step))[0]) / 0.04 for step in steps]
    np.testing.assert_allclose(gradient, numeric, rtol=0.05, atol=2e-3)


@pytest.mark.parametrize(
    "volume_factor",
    [pytest.param(0.1, marks=pytest.mark.slow), 0.23, pytest.param(5.5, marks=pytest.mark.slow)],
)
def test_a_true_change_of_size_is_found_from_any_size(mni_4mm, mni6_4mm, volume_factor):
    right = search(mni_4mm, mni6_4mm)
    change = Affine.from_parts(volume_factor ** (1 / 3) * np.eye(3), [10, 5, -8], mni6_4mm.grid.center)
    other = Image(
        mni6_4mm.data, Grid(mni6_4mm.grid.shape, change.matrix @ mni6_4mm.grid.affine), mni6_4mm.mask
    )
    found = search(mni_4mm, other)
    assert error_mm(found, Affine(change.matrix @ right.matrix), mni_4mm) < 0.5


ASK_FOR_MORE = ("landmark-net", "landmarks", "segmentation")
"""Methods that images alone do not serve."""


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1)])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "elastix" else [])
        for name in sorted(list_methods_of_kind(METHODS, "volumes"))
        if name not in ASK_FOR_MORE
    ],
)
def test_no_method_proposes_a_mirror_image(mni_4mm, name, flips):
    # The brain's own mirror image fits it best; stored left- or right-handed, that must not count.
    mirrored = mni_4mm.with_data(mni_4mm.data[..., ::-1].copy()).with_mask(mni_4mm.mask[..., ::-1].copy())
    turns = mirrored.grid.affine @ np.diag([*flips, 1.0])
    turns[:3, 3] = mirrored.grid.to_world(
        [(n - 1) * (f < 0) for n, f in zip(mni_4mm.grid.size, flips, strict=True)]
    )
    handed = Image(
        mirrored.data[..., :: flips[0]], Grid(mni_4mm.grid.shape, turns), mirrored.mask[..., :: flips[0]]
    )
    method = METHODS[name]
    options = method.complete({"axes": True} if name == "moments" else {})
    found = run_method(method, mni_4mm, handed, Affine.identity(3), options, RunContext(threads=2)).transform
    assert np.linalg.det(found.linear) > 0


def test_the_climb_never_turns_inside_out():
    class Tempting:
        """A metric that grows towards the mirror image."""

        level = type("Level", (), {"radius": 50.0, "spacing": 8.0})()

        def __call__(self, pose):
            gradient = np.zeros((3, 4))
            gradient[0, 0] = -1.0
            return -float(pose[0, 0]), gradient

    found = poses.optimize_pose(Tempting(), np.eye(4), np.eye(4), 3, transform="affine", iterations=60)
    assert np.linalg.det(found.pose[:3, :3]) > 0


@pytest.mark.parametrize("half", [slice(None, 12), slice(12, None)])
def test_simpleitk_looks_where_the_fixed_mask_is(half):
    """The halves of the picture moved different ways: the mask says which of them counts."""
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(24, 40, 40)), (1.5, 2.0, 2.0))
    grid = Grid.from_geometry(texture.shape, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    split = [np.roll(texture[:12], 2, axis=2), np.roll(texture[12:], -2, axis=2)]
    moving = Image(np.concatenate(split)[None].astype(np.float32), grid)
    mask = np.zeros(grid.shape, bool)
    mask[half, 5:-5, 5:-5] = True
    fixed = Image(texture[None].astype(np.float32), grid, mask)
    found = maximize_mattes(fixed, moving, Affine.identity(3), [4.0, 2.0], bins=24, transform="rigid")
    shift = found.apply(grid.center[None]) - grid.center
    assert shift[0, 0] == pytest.approx(4.0 if half.start is None else -4.0, abs=0.5)


def test_a_sample_is_inside_within_half_a_step_of_the_first_and_the_last():
    volume = np.zeros((4, 5, 6), np.float32)
    for axis, size in enumerate(volume.shape):
        for place, inside in ((-0.6, False), (-0.4, True), (0.0, True), (size - 0.6, True), (size, False)):
            position = [2.0, 2.0, 2.0]
            position[axis] = place
            assert bool(parzen._inside(volume, *position)) is inside


@pytest.mark.parametrize("length", [1, 2, 9])
def test_a_mask_grows_along_every_axis_that_has_more_than_one_sample(length):
    mask = np.zeros((length, 9, 9), bool)
    mask[0, 4, 4] = True
    grown = information._grown(mask, Grid.from_geometry(mask.shape, (2.0, 1.0, 1.0), (0, 0, 0)), 2.0)
    assert grown.any(axis=(0, 1)).sum() == 3
    assert grown.any(axis=(0, 2)).sum() == 5
    assert grown.any(axis=(1, 2)).sum() == min(length, 3)
