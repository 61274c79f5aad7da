import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import regflow
from regflow.core import fields
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.datasets import subjects as synthetic
from regflow.datasets.volumes import load_volume
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS, greedy_torch
from regflow.methods.refine.greedy import greedy, refine_field
from regflow.methods.refine.greedy_contrast import match_contrast, prepare_level, resolve_metric
from regflow.methods.refine.greedy_cpu import solve_level
from regflow.methods.refine.greedy_force_kernels import compute_difference_force
from regflow.methods.refine.greedy_kernels import compose_fields as compose_kernel
from regflow.methods.refine.greedy_kernels import find_spans, make_full_spans
from regflow.methods.refine.greedy_kernels import smooth_channels as smooth_kernel
from regflow.methods.refine.greedy_level import StepControl, make_half_gaussian
from regflow.methods.refine.greedy_pyramid import LevelImages, build_level, prepare_pyramid
from regflow.methods.refine.mind import compute_descriptors

SHAPE = (36, 44, 40)
START_VOXELS = 2.0
"""Mean length of the known displacement inside the mask."""


def options(**changes):
    shared = {"device": "cpu", "shrink": [2, 1], "iterations": [60, 20]}
    per_level = {"radius": [2, 2], "update_sigma": [2.0, 2.0], "field_sigma": [0.25, 0.25]}
    return METHODS["greedy"].complete({**shared, **per_level, **changes})


def texture(shape, seed=0):
    """Blobs of several sizes, 0 to 1."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=shape), sigma, mode="nearest") for sigma in (1.5, 3.0)]
    image = sum(layer / layer.std() for layer in layers)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def known_field(shape, inside):
    """Long waves, longer than the image along every axis."""
    places = [np.arange(n) / n for n in shape]
    waves = []
    for component in range(len(shape)):
        turns = [
            np.cos(2 * np.pi * (0.7 * p + 0.3 * axis + 0.2 * component)) for axis, p in enumerate(places)
        ]
        waves.append(np.prod(np.stack(np.meshgrid(*turns, indexing="ij")), axis=0))
    field = np.stack(waves)
    return (field * START_VOXELS / np.linalg.norm(field, axis=0)[inside].mean()).astype(np.float32)


def ball(shape):
    middle = (np.array(shape) - 1) / 2
    places = np.indices(shape) - middle.reshape(-1, *[1] * len(shape))
    return np.linalg.norm(places / (middle.reshape(-1, *[1] * len(shape)) * 0.85), axis=0) < 1


def known_pair(shape=SHAPE):
    """A fixed image made from a moving one by a known field: fixed(x) = moving(x + u(x))."""
    moving, inside = texture(shape), ball(shape)
    truth = known_field(shape, inside)
    return fields.warp_channels(moving, truth), moving, inside, truth


def error(found, truth, inside):
    return float(np.linalg.norm(found - truth, axis=0)[inside].mean())


@pytest.mark.parametrize("shape", [SHAPE, (80, 96)])
@pytest.mark.parametrize(
    ("metric", "share"), [("lncc", 0.2), ("mse", 0.2), ("correlation", 0.2), ("mind", 0.25)]
)
def test_known_displacement_is_found_without_folding(shape, metric, share):
    fixed, moving, inside, truth = known_pair(shape)
    found = refine_field(fixed, moving, mask=inside, options=options(metric=metric), context=RunContext())
    assert found.shape == truth.shape
    assert found.dtype == np.float32
    assert error(found, truth, inside) < share * START_VOXELS
    assert fields.compute_jacobian_determinant(found).min() > 0


def folded(image):
    """A contrast with one gray value for two of another image, like T2 for gray matter and air."""
    return np.abs(image - 0.45).astype(np.float32)


def test_auto_takes_local_correlation_for_one_contrast_and_maps_two():
    fixed, moving, inside, _ = known_pair()

    def bits(metric, other):
        return refine_field(
            fixed, other, mask=inside, options=options(metric=metric), context=RunContext()
        ).tobytes()

    assert bits("auto", 2 * moving + 1) == bits("lncc", 2 * moving + 1)
    assert bits("auto", folded(moving)) == bits("mapped", folded(moving))
    assert bits("auto", -moving) == bits("mapped", -moving)


def test_a_contrast_that_folds_intensities_is_matched():
    fixed, moving, inside, truth = known_pair()
    for images in ((fixed, folded(moving)), (folded(fixed), moving)):
        found = refine_field(*images, mask=inside, options=options(metric="mapped"), context=RunContext())
        assert error(found, truth, inside) < 0.15 * START_VOXELS


def test_an_outline_that_both_share_does_not_hide_another_contrast():
    """Bright objects before a dark background, as skull-stripped brains are: only their insides differ."""
    fixed, moving, inside, _ = known_pair()
    there = gaussian_filter(inside.astype(np.float32), 1.0)
    images = (0.5 + 0.5 * fixed) * there, (1.1 - 0.5 * moving) * there
    pair = prepare_pyramid(*images, inside, None, np.ones(3), options(metric="auto"))
    both = pair.weights > 0.5
    assert np.corrcoef(pair.fixed[both], pair.moving[both])[0, 1] > 0.8
    assert resolve_metric(options(metric="auto"), pair)["metric"] == "mapped"


def test_a_brain_of_another_contrast_is_matched_at_three_millimeters():
    """Where samples are large, most of them at the brain's border are part background."""
    names = ("icbm2009a", "icbm2009a-gm", "icbm2009a-wm")
    t1, gray, white = (load_volume(name) for name in names)
    t2 = synthetic.simulate_t2(t1, gray.channel / np.float32(255), white.channel / np.float32(255))
    brain = t1.channel > 0
    fixed, source = (coarsen_image(image.with_mask(brain), 3.0) for image in (t1, t2))
    source = source.with_data(source.data * source.mask)
    truth = synthetic.draw_truth(fixed.grid, 7)
    moving = synthetic.make_subject(
        source, truth, synthetic.make_subject_grid(fixed.grid, truth, 3.0), seed=7
    )
    pose = truth.forward.parts[1]
    given = METHODS["greedy"].complete({})
    moving = moving.with_mask(moving.channel > 0.15 * moving.channel.max())
    found = greedy(fixed, moving, pose, given, RunContext())
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::5, ::-1])
    there = truth.forward.apply(points)
    before, after = (np.linalg.norm(t.apply(points) - there, axis=1).mean() for t in (pose, found))
    assert after < 0.4 * before


def test_unrelated_intensities_are_left_to_descriptors():
    """A mapping that explains nothing must not replace the fixed image by a flat one."""
    fixed, _, inside, _ = known_pair()
    noise = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    settings = options(metric="mapped")
    pair = prepare_pyramid(fixed, noise, inside, None, np.ones(3), settings)
    chosen, same = prepare_level(settings, pair, np.zeros((3, *pair.weights.shape), np.float32), 1)
    assert chosen["metric"] == "mind"
    assert same is pair


def test_smoothing_follows_the_contrast_unless_given():
    fixed, moving, inside, _ = known_pair()
    unknown = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    for other, metrics, sigmas in (
        (moving, ("lncc", "lncc"), (3.0, 2.5)),
        (folded(moving), ("mind", "lncc"), (5.0, 4.0)),
        (unknown, ("mind", "mind"), (5.0, 5.0)),
    ):
        for given in (None, [2.0, 2.0]):
            chosen = options(update_sigma=given, metric="auto")
            pair = prepare_pyramid(fixed, other, inside, None, np.ones(3), chosen)
            chosen, at_rest = resolve_metric(chosen, pair), np.zeros((3, *pair.weights.shape), np.float32)
            levels = [prepare_level(chosen, pair, at_rest, number)[0] for number in (0, 1)]
            assert tuple(level["metric"] for level in levels) == metrics
            used = tuple(level["update_sigma"][number] for number, level in enumerate(levels))
            assert used == (sigmas if given is None else tuple(given))


def test_another_contrast_moves_the_border_of_a_brain_too():
    """Dark fluid inside becomes bright, the dark around stays dark: the border counts, and is met."""
    fixed, moving, inside, _ = known_pair()
    there = gaussian_filter(inside.astype(np.float32), 0.7)
    images = fixed * there, (1.1 - 0.6 * moving) * there
    pair = prepare_pyramid(*images, inside, None, np.ones(3), options(metric="mapped"))
    chosen, recolored = prepare_level(
        options(metric="mapped"), pair, np.zeros((3, *pair.weights.shape), np.float32), 1
    )
    assert chosen["metric"] == "lncc"
    assert np.array_equal(recolored.weights, pair.weights)
    around = (pair.weights > 0.5) & (pair.inside <= 0.5)
    # By what dark means inside, the dark around would become bright, 2 and more too much.
    assert np.abs(recolored.fixed[around] - pair.moving[around]).mean() < 0.25


@pytest.mark.parametrize("metric", ["lncc", "mind"])
def test_other_contrast_is_matched(metric):
    fixed, moving, inside, truth = known_pair()
    found = refine_field(
        fixed, np.exp(-2 * moving), mask=inside, options=options(metric=metric), context=RunContext()
    )
    assert error(found, truth, inside) < 0.25 * START_VOXELS


def test_correlation_knows_no_gain_and_no_sign():
    fixed, moving, inside, truth = known_pair()
    chosen = options(metric="correlation")
    for other in (0.3 * moving + 5, 4 - 2 * moving):
        found = refine_field(fixed, other, mask=inside, options=chosen, context=RunContext())
        assert error(found, truth, inside) < 0.2 * START_VOXELS


def test_inverse_undoes_the_result():
    fixed, moving, inside, _ = known_pair()
    found = refine_field(fixed, moving, mask=inside, options=options(), context=RunContext())
    residual = fields.measure_inverse_residual(found, fields.invert_displacement(found))
    assert residual[inside].mean() < 0.05


def test_threads_change_no_bit():
    fixed, moving, inside, _ = known_pair()
    one, two = (
        refine_field(fixed, moving, mask=inside, options=options(), context=RunContext(threads))
        for threads in (1, 2)
    )
    assert one.tobytes() == two.tobytes()


def test_what_lies_outside_the_mask_does_not_steer():
    fixed, moving, inside, truth = known_pair()
    lesion = np.zeros(SHAPE, bool)
    lesion[12:24, 16:28, 14:26] = True
    misleading = np.where(lesion, np.roll(fixed, 3, axis=2), fixed)
    masked = refine_field(
        misleading, moving, mask=inside & ~lesion, options=options(margin=0), context=RunContext()
    )
    followed = refine_field(misleading, moving, mask=inside, options=options(margin=0), context=RunContext())
    assert error(masked, truth, lesion) < 0.5 * error(followed, truth, lesion)


def test_samples_the_moving_image_lacks_do_not_steer():
    fixed, moving, inside, truth = known_pair()
    valid = np.ones(SHAPE, bool)
    valid[:, :, 26:] = False
    cut = np.where(valid, moving, 0)
    told = refine_field(fixed, cut, mask=inside, valid=valid, options=options(), context=RunContext())
    untold = refine_field(fixed, cut, mask=inside, options=options(), context=RunContext())
    columns = np.indices(SHAPE)[2]
    near = inside & (columns > 18) & (columns < 26)
    assert error(told, truth, near) < 0.7 * error(untold, truth, near)


def halves(image):
    """Return two channels that say where an image is bright and where it is dark."""
    return np.stack([image > 0.5, image < 0.3]).astype(np.float32)


def test_further_channels_guide_where_the_first_ones_say_nothing():
    fixed, moving, inside, truth = known_pair()
    noise = [gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.0) for seed in (0, 1)]
    guides = 2 * halves(fixed), 2 * halves(moving)
    found, unguided = (
        refine_field(*noise, mask=inside, options=options(metric="lncc"), context=RunContext(), guides=each)
        for each in (guides, None)
    )
    assert error(found, truth, inside) < 0.5 * START_VOXELS < error(unguided, truth, inside)


@pytest.mark.parametrize("guided", [False, True])
def test_torch_and_numba_agree(guided):
    fixed, moving, inside, _ = known_pair()
    guides = (halves(fixed), halves(moving)) if guided else None
    for metric in ("lncc", "mind"):
        chosen = options(metric=metric, iterations=[10, 10])
        valid = np.ones(SHAPE, bool)
        valid[:5] = False
        spacing = np.array([1.5, 1.0, 1.0])
        pair = prepare_pyramid(fixed, moving, inside, valid, spacing, chosen, guides)
        level = build_level(pair, 1, chosen)
        start = np.zeros((3, *level.weights.shape), np.float32)
        ours = solve_level(level, start.copy())
        theirs = greedy_torch.solve_torch_level(level, start.copy(), torch.device("cpu"))
        assert np.abs(ours.field).max() > 0.5
        assert np.abs(ours.field - theirs.field).max() < 0.02
        assert np.allclose(ours.similarities, theirs.similarities, rtol=1e-3)


def test_smoothing_is_a_gaussian():
    data = texture(SHAPE)[None]
    out = np.empty_like(data)
    taps = [make_half_gaussian(sigma) for sigma in (2.0, 1.0, 0.0)]
    smooth_kernel(data, *taps, make_full_spans(SHAPE), out)
    assert np.allclose(out[0], gaussian_filter(data[0], (2.0, 1.0, 0.0), mode="nearest"), atol=2e-3)


@pytest.mark.parametrize("corner", [(0, 0, 0), (10, 14, 12)])
def test_spans_compute_the_same_and_touch_nothing_else(corner):
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(low, low + 17) for low in corner)] = ball((17, 17, 17))
    inside[:, 41] = inside[:, corner[1] + 8]
    spans = find_spans(inside)
    columns = np.arange(SHAPE[2])
    within = (columns >= spans[..., :1]) & (columns < spans[..., 1:])
    assert (within >= inside).all()
    assert within.sum() < 1.1 * inside.sum()
    field = known_field(SHAPE, inside)
    taps = [make_half_gaussian(sigma) for sigma in (2.0, 1.5, 1.0)]
    whole, part = np.empty_like(field), np.full_like(field, 7.0)
    smooth_kernel(field, *taps, make_full_spans(SHAPE), whole)
    smooth_kernel(field, *taps, spans, part)
    assert np.allclose(part[:, within], whole[:, within], atol=1e-5)
    assert (part[:, ~within] == 7.0).all()
    compose_kernel(field, field, make_full_spans(SHAPE), whole)
    compose_kernel(field, field, spans, part)
    assert np.allclose(part[:, within], whole[:, within], atol=1e-5)
    assert np.array_equal(part[:, ~within], field[:, ~within])


def test_momentum_gets_further_in_fewer_iterations():
    fixed, moving, inside, truth = known_pair()
    missed = []
    for momentum, iterations in ((0.0, 12), (0.5, 8)):
        chosen = options(shrink=[1], iterations=[iterations], momentum=momentum, **one_level())
        missed.append(
            error(
                refine_field(fixed, moving, mask=inside, options=chosen, context=RunContext()), truth, inside
            )
        )
    assert missed[1] < missed[0] < 0.2 * START_VOXELS


def test_descriptors_see_through_contrast():
    image = texture(SHAPE)
    same = compute_descriptors(image, np.ones(3))
    inverted = compute_descriptors(1 - image, np.ones(3))
    other = compute_descriptors(texture(SHAPE, seed=5), np.ones(3))
    assert same.shape == (6, *SHAPE)
    assert np.abs(same - inverted).max() < 1e-3
    assert np.abs(same - other).mean() > 0.1


GRID = Grid.from_geometry(SHAPE, (1.0, 1.2, 2.0), (5.0, -3.0, 8.0), [[0, -1, 0], [1, 0, 0], [0, 0, -1]])


def anisotropic_pair():
    """An image of a tilted, anisotropic grid, moved by a known field and a known shift."""
    moving, inside = texture(SHAPE), ball(SHAPE)
    truth = known_field(SHAPE, inside)
    shift = Affine.from_parts(np.eye(3), [4.0, 2.0, -3.0])
    shifted = Grid(GRID.shape, shift.matrix @ GRID.affine)
    fixed = Image(fields.warp_channels(moving, truth)[None], GRID, inside)
    return fixed, Image(moving[None], shifted), shift, truth


def test_method_composes_with_the_start_in_world_units():
    fixed, moving, shift, truth = anisotropic_pair()
    found = greedy(fixed, moving, shift, options(), RunContext())
    expected = Composite((DisplacementField(fields.to_world(truth, GRID), GRID), shift))
    points = GRID.to_world(np.argwhere(fixed.mask)[::50, ::-1])
    missed = np.linalg.norm(found.apply(points) - expected.apply(points), axis=1)
    start = np.linalg.norm(shift.apply(points) - expected.apply(points), axis=1)
    assert missed.mean() < 0.25 * start.mean()


def test_with_both_masks_what_the_moving_mask_leaves_out_does_not_steer():
    fixed, moving, shift, truth = anisotropic_pair()
    lesion = np.zeros(SHAPE, bool)
    lesion[12:24, 16:28, 14:] = True  # open to the border: no hole that is left out anyway
    misleading = np.where(lesion, np.roll(moving.channel, 3, axis=2), moving.channel)
    moving = Image(misleading[None], moving.grid, ~lesion & ball(SHAPE))
    quick = options(shrink=[1], iterations=[20], **one_level())
    left = {}
    for masks in ("both", "auto", "fixed"):
        found = greedy(fixed, moving, shift, {**quick, "masks": masks}, RunContext())
        left[masks] = error(fields.to_voxels(found.parts[0].vectors, GRID), truth, lesion & fixed.mask)
    assert left["both"] < 0.8 * min(left["auto"], left["fixed"])


def test_a_field_at_the_head_of_the_start_is_refined_in_place():
    fixed, moving, shift, truth = anisotropic_pair()
    near = DisplacementField(fields.to_world(0.9 * truth, GRID), GRID)
    found = greedy(
        fixed,
        moving,
        Composite((near, shift)),
        options(shrink=[1], iterations=[5], **one_level()),
        RunContext(),
    )
    assert len(found.parts) == 2
    refined = fields.to_voxels(found.parts[0].vectors, GRID)
    assert error(refined, truth, fixed.mask) < 0.15 * START_VOXELS


def one_level():
    return {"radius": [2], "update_sigma": [2.0], "field_sigma": [0.25]}


def test_a_stalled_level_ends_early(caplog):
    fixed, moving, inside, _ = known_pair()
    with caplog.at_level(logging.INFO, logger="regflow.methods.refine.greedy"):
        refine_field(
            fixed,
            moving,
            mask=inside,
            options=options(tolerance=0.01, iterations=[200, 0]),
            context=RunContext(),
        )
    first, second = (record for record in caplog.records if "level" in str(record.msg))
    assert 11 < first.args[3] < 200
    assert second.args[3] == 0


def test_identical_images_stay_where_they_are():
    image = texture(SHAPE)
    found = refine_field(image, image, options=options(), context=RunContext())
    assert np.abs(found).mean() < 0.02


@pytest.mark.parametrize(
    ("fixed", "moving", "mask", "sentence"),
    [
        (np.ones(SHAPE), texture(SHAPE), None, "fixed image is constant"),
        (texture(SHAPE), np.ones(SHAPE), None, "moving image is constant"),
        (texture(SHAPE), texture(SHAPE), np.zeros(SHAPE, bool), "no sample of the fixed mask"),
    ],
)
def test_nothing_to_match_is_one_sentence(fixed, moving, mask, sentence):
    with pytest.raises(RegistrationError, match=sentence):
        refine_field(fixed, moving, mask=mask, options=options(), context=RunContext())


def test_unequal_levels_are_named():
    with pytest.raises(InputError, match="'radius' has 2 values for the 3 levels"):
        refine_field(
            texture(SHAPE),
            texture(SHAPE),
            options=options(shrink=[4, 2, 1], iterations=[1, 1, 1]),
            context=RunContext(),
        )


def test_the_next_step_is_judged_by_the_similarities_so_far():
    falling = StepControl(tolerance=0.0)
    assert not any(falling.check_convergence(similarity) for similarity in np.linspace(1.0, 0.5, 40))
    assert falling.step_scale < 0.1
    rising = StepControl(tolerance=1e-3)
    stalled = [rising.check_convergence(1 - 0.5**k) for k in range(40)]
    assert not any(stalled[:8])
    assert all(stalled[25:])
    assert rising.step_scale == 1.0


def test_the_object_and_its_surroundings_are_mapped_each_by_itself():
    """Inside, bright became dark; around it nothing changed."""
    rng = np.random.default_rng(1)
    fixed = gaussian_filter(rng.random((40, 44, 42)), 2.0).astype(np.float32)
    fixed = (fixed - fixed.min()) / np.ptp(fixed)
    inside = np.zeros(fixed.shape, np.float32)
    inside[6:34, 6:38, 6:36] = 1
    moving = np.where(inside > 0, 1 - fixed, fixed).astype(np.float32)
    whole = tuple(slice(0, n) for n in fixed.shape)
    pair = LevelImages(fixed, moving, np.ones_like(fixed), inside, None, np.ones(3), whole)
    mapped = match_contrast(pair, np.zeros((3, *fixed.shape), np.float32))
    assert mapped is not None
    deep, far = np.zeros(fixed.shape, bool), np.ones(fixed.shape, bool)
    deep[12:28, 12:32, 12:30] = True
    far[2:38, 2:42, 2:40] = False
    for where in (deep, far):
        assert np.abs(mapped.fixed - moving)[where].mean() < 0.05


def test_an_object_is_matched_wherever_in_the_image_it_lies():
    fixed, moving, inside, truth = known_pair()
    margins = [(40, 5), (30, 10), (50, 0)]
    wide = [np.pad(part, margins) for part in (fixed, moving, inside)]
    found = refine_field(*wide[:2], mask=wide[2], options=options(), context=RunContext())
    there = tuple(slice(before, before + n) for (before, _), n in zip(margins, fixed.shape, strict=True))
    assert found.shape == (3, *wide[0].shape)
    assert error(found[(slice(None), *there)], truth, inside) < 0.25 * START_VOXELS


def test_a_force_is_the_same_however_little_of_a_row_it_is_computed_on():
    fixed, moved = (texture(SHAPE, seed)[None] for seed in (0, 1))
    weights = ball(SHAPE).astype(np.float32)
    metric = np.ones(3, np.float32)
    forces, totals = [], []
    for spans in (make_full_spans(SHAPE), find_spans(weights > 0)):
        out, sums = np.zeros((3, *SHAPE), np.float32), np.empty(SHAPE[0])
        compute_difference_force(fixed, moved, weights, spans, metric, out, sums)
        forces.append(out[:, weights > 0])
        totals.append(sums.sum())
    assert np.allclose(forces[0], forces[1], atol=1e-6)
    assert totals[0] == pytest.approx(totals[1])


FORCE = """
import hashlib
from types import SimpleNamespace
import numpy as np
from regflow.methods.refine.greedy_cpu import _window, compute_local_statistics
from regflow.methods.refine.greedy_force_kernels import compute_correlation_force
from regflow.methods.refine.greedy_kernels import make_full_spans

shape = (20, 24, 22)
fixed, moved = np.random.default_rng(0).random((2, *shape), np.float32)
weights = np.ones(shape, np.float32)
level = SimpleNamespace(fixed=fixed[None], radii=np.array([2, 2, 2]), weights=weights)
out, totals = np.zeros((3, *shape), np.float32), np.empty(shape[0])
compute_correlation_force(compute_local_statistics(level), _window(level), np.float32(1e-5), moved, weights,
                          make_full_spans(shape), np.ones(3, np.float32), out, totals)
print(hashlib.sha256(out.tobytes() + totals.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_the_process_that_compiles_comes_to_the_bytes_of_the_next(tmp_path):
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", FORCE], env=settings, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert first == second


def test_no_kernel_lets_the_compiler_reorder_sums():
    loose = [
        f"{path}: {line.strip()}"
        for path in Path(regflow.__file__).parent.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\"reassoc\"|fastmath\W+True", line)
    ]
    assert loose == []
