"""Gradient descent on one pair's velocity: true errors, options, and what must never happen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_bytes import THREADS
from warped_slices import SPACING_MM, warped_pair

from regflow.core import fields
from regflow.core.errors import InputError, RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform, measure_inverse_error
from regflow.datasets import subjects as synthetic
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.instance_optimization import ConvergenceMonitor, instance_optimization
from regflow.methods.refine.weights import NetworkDescription, build_network, save_weights


def options(**given: Any) -> dict[str, Any]:
    quick = {"shrink": [2, 1], "iterations": [40, 40], "device": "cpu"}
    return {**METHODS["instance-optimization"].complete(quick), **given}


def error_mm(transform: Transform, truth: Transform, fixed: Image) -> float:
    assert fixed.mask is not None
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[:, ::-1])
    return float(np.linalg.norm(transform.apply(points) - truth.apply(points), axis=1).mean())


def inverted(image: Image) -> Image:
    assert image.mask is not None
    return image.with_data(np.where(image.mask, 1.2 - image.channel, 0).astype(np.float32))


def shuffled(image: Image) -> Image:
    """The gray matter brightest, the white darkest: no straight line leads from one contrast to the other."""
    assert image.mask is not None
    values = np.interp(image.channel, [0.1, 0.5, 0.9], [0.6, 1.0, 0.3])
    return image.with_data(np.where(image.mask, values, 0).astype(np.float32))


def noise_like(image: Image) -> Image:
    return image.with_data(np.random.default_rng(1).random(image.data.shape[1:], dtype=np.float32))


def with_tissues(image: Image) -> Image:
    """Labels of three bands of intensity."""
    return replace(image, labels=np.digitize(image.channel, [0.05, 0.45, 0.75]))


@pytest.mark.parametrize(
    ("given", "change", "left"),
    [
        ({"loss": "auto"}, None, 0.4),
        ({"loss": "auto"}, inverted, 0.4),
        ({"loss": "auto"}, shuffled, 0.5),
        ({"loss": "lncc"}, None, 0.4),
        ({"loss": "lncc", "regularizer": "bending", "weight": 1.0}, None, 0.4),
        ({"loss": "lncc", "signed": True}, None, 0.4),
        ({"loss": "mse", "weight": 0.01}, None, 0.4),
        ({"loss": "mi"}, inverted, 0.5),
        ({"loss": "mind", "weight": 0.03}, inverted, 0.6),
        ({"loss": "dice", "weight": 0.3}, with_tissues, 0.6),
    ],
)
def test_every_loss_finds_most_of_a_known_warp(
    given: dict[str, Any], change: Any, left: float, mni_4mm: Image
) -> None:
    fixed, moving, truth = warped_pair(mni_4mm, 9004)
    if change is not None:
        moving = change(moving)
    if change is with_tissues:
        fixed = with_tissues(fixed)
    start = Affine.identity(2)
    result = instance_optimization(fixed, moving, start, options(**given), RunContext())
    assert error_mm(result, truth, fixed) < left * error_mm(start, truth, fixed)


@pytest.mark.parametrize(("change", "told"), [(None, "lncc"), (shuffled, "lncc"), (noise_like, "mind")])
def test_auto_chooses_by_what_the_images_share(
    change: Any, told: str, mni_4mm: Image, caplog: pytest.LogCaptureFixture
) -> None:
    fixed, moving, _ = warped_pair(mni_4mm, 9004)
    given = options(shrink=[1], iterations=[2])
    with caplog.at_level("INFO"):
        instance_optimization(
            fixed, change(moving) if change else moving, Affine.identity(2), given, RunContext()
        )
    assert f"samples: {told}, 2 iterations" in caplog.text


def test_a_real_brain_in_three_dimensions(mni_4mm: Image) -> None:
    """With an affine to start from, on another grid, to half a sample; no folds; invertible."""
    truth = synthetic.draw_truth(mni_4mm.grid, seed=3)
    grid = synthetic.make_subject_grid(mni_4mm.grid, truth, 4.0)
    moving = synthetic.make_subject(mni_4mm, truth, grid, seed=3)
    pose = truth.forward.parts[1]
    result = instance_optimization(mni_4mm, moving, pose, options(iterations=[30, 10]), RunContext())
    assert error_mm(result, truth.forward, mni_4mm) < 0.5 * error_mm(pose, truth.forward, mni_4mm)
    field = result.parts[0]  # type: ignore[attr-defined]
    assert fields.compute_jacobian_determinant(fields.to_voxels(field.vectors, field.grid)).min() > 0
    points = mni_4mm.grid.to_world(np.argwhere(mni_4mm.mask)[::50, ::-1])
    assert measure_inverse_error(field, field.inverse(), points).mean() < 0.1 * SPACING_MM


def test_bytes_do_not_depend_on_threads(mni_4mm: Image) -> None:
    coarse = {"shrink": [1], "iterations": [2], "spacing_mm": 8.0}
    moving = mni_4mm.with_data(np.roll(mni_4mm.channel, 1, axis=2))
    for loss in ("lncc", "mi"):
        found = {
            instance_optimization(
                mni_4mm, moving, Affine.identity(3), options(**coarse, loss=loss), RunContext(threads)
            )
            .parts[0]  # type: ignore[attr-defined]
            .vectors.tobytes()
            for threads in THREADS[:3]
        }
        assert len(found) == 1, loss


def test_masks_say_what_counts(mni_4mm: Image) -> None:
    fixed, moving, truth = warped_pair(mni_4mm, 9004)
    hole = np.zeros(fixed.grid.shape, dtype=bool)
    hole[22:34, 18:30] = True
    rubbish = np.where(hole, np.random.default_rng(0).random(hole.shape), fixed.channel)
    spoiled = fixed.with_data(rubbish.astype(np.float32))
    assert fixed.mask is not None
    start = Affine.identity(2)
    # The hole is cut out of the mask by more than the margin by which masks are grown.
    masked = spoiled.with_mask(fixed.mask & ~_grown(hole, 4))
    good = instance_optimization(masked, moving, start, options(), RunContext())
    bad = instance_optimization(spoiled, moving, start, options(masks="none"), RunContext())
    assert error_mm(good, truth, fixed) < 0.5 * error_mm(start, truth, fixed)
    assert error_mm(good, truth, fixed) < 0.8 * error_mm(bad, truth, fixed)


def test_the_moving_mask_counts_when_both_do(mni_4mm: Image) -> None:
    fixed, moving, truth = warped_pair(mni_4mm, 9004)
    hole = np.zeros(fixed.grid.shape, dtype=bool)
    hole[22:34, 18:30] = True
    rubbish = np.where(hole, np.random.default_rng(0).random(hole.shape), moving.channel)
    assert moving.mask is not None
    spoiled = moving.with_data(rubbish.astype(np.float32)).with_mask(moving.mask & ~_grown(hole, 4))
    errors = {
        masks: error_mm(
            instance_optimization(fixed, spoiled, Affine.identity(2), options(masks=masks), RunContext()),
            truth,
            fixed,
        )
        for masks in ("fixed", "both")
    }
    assert errors["both"] < 0.8 * errors["fixed"]


def test_it_starts_from_the_networks_answer(mni_4mm: Image, tmp_path: Path) -> None:
    fixed, moving, _ = warped_pair(mni_4mm, 9004)
    description = NetworkDescription(2, (4, 4), 4, (4,), SPACING_MM, {"method": "percentile"})
    network = build_network(description)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        list(network.parameters())[-1].copy_(torch.tensor([0.5, -1.0]))
    save_weights(tmp_path / "shift.safetensors", network, description)
    given = options(
        start="voxelmorph", weights=str(tmp_path / "shift.safetensors"), symmetric=False, iterations=[0, 0]
    )
    result = instance_optimization(fixed, moving, Affine.identity(2), given, RunContext())
    points = fixed.grid.to_world([[20.0, 30.0]])
    shift = np.array([[-1.0, 0.5]]) * SPACING_MM
    np.testing.assert_allclose(result.apply(points), points + shift, atol=1e-3)
    with pytest.raises(RegistrationError, match="neither a file nor in resources/weights"):
        missing = options(start="voxelmorph", weights="no-such-network")
        instance_optimization(fixed, moving, Affine.identity(2), missing, RunContext())


def test_wrong_options_are_named(mni_4mm: Image) -> None:
    with pytest.raises(InputError, match="2 levels in 'shrink' but 1 in 'iterations'"):
        instance_optimization(mni_4mm, mni_4mm, Affine.identity(3), options(iterations=[5]), RunContext())
    with pytest.raises(InputError, match="needs label maps"):
        instance_optimization(mni_4mm, mni_4mm, Affine.identity(3), options(loss="dice"), RunContext())
    labelled = with_tissues(mni_4mm)
    for pair in ((labelled, mni_4mm), (mni_4mm, labelled)):
        with pytest.raises(InputError, match="needs label maps"):
            instance_optimization(*pair, Affine.identity(3), options(loss="dice"), RunContext())
    fixed, moving, _ = warped_pair(mni_4mm, 9004)
    far = Affine.from_parts(np.eye(2), [1e4, 0.0])
    with pytest.raises(RegistrationError, match="no sample in common"):
        instance_optimization(fixed, moving, far, options(), RunContext())


def test_progress_is_judged_over_several_iterations() -> None:
    progress = ConvergenceMonitor(tolerance=0.01, patience=3)
    falling = [1.0, 0.9, 0.8, 0.81, 0.7, 0.71]
    assert not any(progress.check_convergence(value) for value in falling)
    assert not progress.check_convergence(0.699)
    assert progress.check_convergence(0.6999)


def _grown(mask: np.ndarray, samples: int) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, iterations=samples))
