"""Two label maps bring two brains together, linearly and deformably, whatever the intensities."""

from dataclasses import replace

import numpy as np
import pytest
from registered import drawn_structures

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_image
from regflow.core.transform import Affine, list_displacement_fields
from regflow.datasets.subjects import draw_affine, draw_truth, make_subject, make_subject_grid
from regflow.methods import initialize, refine
from regflow.methods.context import RunContext
from regflow.methods.initialize.segmentation import measure_overlap
from regflow.methods.matching.label_channels import encode_labels, list_shared_labels, make_codes
from regflow.methods.table import run_method
from regflow.metrics.jacobian import compute_folding_figures


@pytest.fixture(scope="module")
def labeled(mni_4mm, volume) -> Image:
    return replace(mni_4mm, labels=drawn_structures(volume("neuromorphometrics", 4.0), mni_4mm.grid))


def start(fixed: Image, moving: Image, threads: int = 1, **options) -> Affine:
    row = initialize.METHODS["segmentation"]
    found = run_method(row, fixed, moving, Affine.identity(3), row.complete(options), RunContext(threads))
    assert found.labels_used
    return found.transform


def error_mm(found, truth, fixed: Image) -> float:
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::7, ::-1])
    return float(np.linalg.norm(found.apply(points) - truth.apply(points), axis=1).mean())


def without_intensities(image: Image) -> Image:
    return image.with_data(np.zeros(image.grid.shape, np.float32))


@pytest.mark.parametrize("model", ["rigid", "affine"])
def test_a_pose_far_away_is_found_by_labels_alone(labeled, model):
    bent = 0.0 if model == "rigid" else 0.1
    truth = draw_affine(labeled.grid.center, 4, 70, 60, scale=bent, shear=bent)
    origin = truth.apply(labeled.grid.center[None])[0] - 4.0 * 69 / 2
    grid = Grid.from_geometry((70, 70, 70), (4.0, 4.0, 4.0), origin)
    moving = resample_image(labeled, grid, truth.inverse(), "nearest")
    found = start(*(without_intensities(image) for image in (labeled, moving)), model=model)
    assert error_mm(found, truth, labeled) < 1.0


def test_two_structures_are_enough_for_a_rigid_map(labeled):
    values, counts = np.unique(labeled.labels, return_counts=True)
    chosen = values[1:][np.argsort(counts[1:])[-2:]]
    few = replace(labeled, labels=np.where(np.isin(labeled.labels, chosen), labeled.labels, 0))
    truth = draw_affine(labeled.grid.center, 4, 5, 8, scale=0, shear=0)
    moving = resample_image(few, few.grid, truth.inverse(), "nearest")
    found = start(few, moving, model="rigid")
    assert error_mm(found, truth, labeled) < 3.0


def test_threads_change_nothing(labeled):
    truth = draw_affine(labeled.grid.center, 4, 5, 8, scale=0, shear=0)
    moving = resample_image(labeled, labeled.grid, truth.inverse(), "nearest")
    assert len({start(labeled, moving, threads).matrix.tobytes() for threads in (1, 2)}) == 1


def test_labels_guide_a_deformation_where_intensities_say_nothing(labeled):
    truth = draw_truth(labeled.grid, 5, amplitude_mm=9.0, smoothness_mm=18.0)
    moving = make_subject(labeled, truth, make_subject_grid(labeled.grid, truth, 4.0), seed=5)
    noise, other = (
        np.random.default_rng(seed).normal(size=image.grid.shape).astype(np.float32)
        for seed, image in enumerate((labeled, moving))
    )
    pose = truth.forward.parts[1]
    row = refine.METHODS["segmentation"]
    options = row.complete({"metric": "lncc", "device": "cpu", "iterations": [30, 30, 5]})
    fixed, moving = labeled.with_data(noise), moving.with_data(other)
    found = run_method(row, fixed, moving, pose, options, RunContext())
    values = list_shared_labels(fixed, moving)
    before, after = (measure_overlap(fixed, moving, values, each) for each in (pose, found.transform))
    assert after > before + 0.15
    assert error_mm(found.transform, truth.forward, labeled) < 0.8 * error_mm(pose, truth.forward, labeled)
    assert len(list_displacement_fields(found.transform)) == 1
    assert compute_folding_figures(found.transform)["folding_percent"] == 0
    assert found.labels_used


def test_channels_of_many_structures_keep_their_distances():
    codes = make_codes(40)
    assert codes.shape == (40, 8)
    assert np.allclose((codes**2).sum(axis=1), 1)
    assert len(np.unique(codes, axis=0)) > 30
    labels = np.zeros((30, 30), np.int16)
    labels[5:12, 5:25], labels[14:26, 8:20] = 3, 9
    grid = Grid((30, 30), np.eye(3))
    ramps = encode_labels(labels, grid, [3, 9], 4.0)
    assert ramps.shape == (2, 30, 30)
    assert ramps[1, 20, 14] == pytest.approx(1, abs=0.01)
    assert ramps[1, 0, 0] == 0
    assert ramps[1, 13:15, 14].mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("table", [initialize.METHODS, refine.METHODS])
def test_label_maps_that_share_nothing_are_told_in_one_sentence(labeled, table):
    row = table["segmentation"]

    def reason(fixed: Image, moving: Image) -> str:
        with pytest.raises(RegistrationError) as caught:
            run_method(row, fixed, moving, Affine.identity(3), row.complete({}), RunContext())
        return str(caught.value)

    assert "the moving image has no label map" in reason(labeled, replace(labeled, labels=None))
    other = replace(labeled, labels=np.where(labeled.labels > 0, 5000, 0))
    assert "no structure in common" in reason(labeled, other)
    assert "5000" in reason(labeled, other)


def test_structures_that_do_not_meet_are_not_refined(labeled):
    row = refine.METHODS["segmentation"]
    away = Affine.from_parts(np.eye(3), [500.0, 0, 0])
    with pytest.raises(RegistrationError, match="no structure meets its counterpart"):
        run_method(row, labeled, labeled, away, row.complete({}), RunContext())
