"""What networks are trained on: pairs whose truth is true, the same wherever they are drawn."""

from dataclasses import fields as dataclass_fields

import numpy as np
import pytest
import torch
import training_runs
from torch import Tensor
from torch.utils.data import DataLoader

from regflow.core import fields
from regflow.core.errors import InputError
from regflow.methods.refine.velocity_torch import compose_velocities, integrate_velocity, sample_channels
from regflow.training import sources
from regflow.training.deformations import draw_related_deformations, draw_velocity
from regflow.training.label_maps import draw_shapes, make_label_map, read_maps_of_folder
from regflow.training.loop import BatchDataset
from regflow.training.painted import PaintedPairs, draw_shown_numbers
from regflow.training.painting import degrade_image, draw_contrast, draw_texture, paint_labels, to_unit
from regflow.training.pairs import PairMixture, TrainingBatch, TrainingPair

FOLDED_BACK = 0.05
"""Samples that remain of going there and back: interpolation."""


@pytest.fixture
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
    monkeypatch.setattr(sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])


@pytest.fixture
def mixture(few_shapes: None) -> PairMixture:
    return sources.build_mixture(training_runs.tiny(), seed=5)


def tensors(item: TrainingPair | TrainingBatch) -> list[Tensor]:
    values = (getattr(item, each.name) for each in dataclass_fields(item))
    return [value for value in values if isinstance(value, Tensor)]


def same(one: TrainingPair | TrainingBatch, other: TrainingPair | TrainingBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def test_a_number_names_a_pair(mixture: PairMixture) -> None:
    first, second = mixture.pair(7), mixture.pair(8)
    assert same(first, mixture.pair(7))
    assert not same(first, second)
    assert not same(first, PairMixture(mixture.sources, mixture.shares, mixture.shape, seed=6).pair(7))


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_who_draws_a_pair_does_not_matter(mixture: PairMixture, context: str) -> None:
    numbers = [[0, 1], [2, 3], [4, 5]]
    drawn = DataLoader(
        BatchDataset(mixture, numbers), batch_size=None, num_workers=2, multiprocessing_context=context
    )
    for batch, wanted in zip(drawn, numbers, strict=True):
        assert same(batch, mixture.batch(wanted))


@pytest.mark.parametrize(("ndim", "large"), [(2, 100), (3, 600)])
def test_the_truth_brings_the_labels_together(few_shapes: None, ndim: int, large: int) -> None:
    painter = PaintedPairs(draw_shapes(ndim, 2, seed=1))
    before, after = [], []
    for number in range(6):
        pair = painter((48,) * ndim, np.random.default_rng(number))
        assert pair.truth is not None
        assert pair.known is not None
        assert pair.fixed_parts is not None
        assert pair.moving_parts is not None
        seen = pair.known > 0
        warped = sample_channels(pair.moving_parts[None], pair.truth[None])[0]
        for moving, found in ((pair.moving_parts, before), (warped, after)):
            found += overlaps(pair.fixed_parts * seen, (moving > 0.5) * seen, large)
    # Labels are looked up at the nearest sample: their borders, a good part of them, are as rough.
    assert np.mean(after) > 0.9
    assert 1 - np.mean(after) < 0.7 * (1 - np.mean(before))


def overlaps(one: Tensor, other: Tensor, large: int) -> list[float]:
    """Dice of each part of more than ``large`` samples."""
    sizes = one.flatten(1).sum(dim=1)
    common = (one * other).flatten(1).sum(dim=1)
    each = 2 * common / (sizes + other.flatten(1).sum(dim=1))
    return [float(value) for value in each[sizes > large]]


@pytest.mark.parametrize("shape", [(64, 48), (32, 40, 36)])
def test_deformations_do_not_fold_and_can_be_undone(shape: tuple[int, ...]) -> None:
    for number in range(4):
        velocity = draw_velocity(shape, 5.0, np.random.default_rng(number))
        assert velocity.norm(dim=1).max() <= 5.0 + 1e-3
        there, back = integrate_velocity(velocity), integrate_velocity(-velocity)
        assert fields.compute_jacobian_determinant(there[0].numpy()).min() > 0
        inner = (slice(None), slice(None), *[slice(6, -6)] * len(shape))
        assert compose_velocities(there, back)[inner].norm(dim=1).mean() < FOLDED_BACK


@pytest.mark.parametrize("shape", [(64, 48), (32, 40, 36)])
def test_two_deformations_of_one_anatomy_are_related_by_their_truth(shape: tuple[int, ...]) -> None:
    for number in range(4):
        deformed = draw_related_deformations(shape, 5.0, np.random.default_rng(number))
        assert fields.compute_jacobian_determinant(deformed.truth[0].numpy()).min() > 0
        # Through the truth, the moving patch looks at the place that the fixed patch looks at.
        left = compose_velocities(deformed.truth, deformed.moving) - deformed.fixed
        inner = (slice(None), slice(None), *[slice(8, -8)] * len(shape))
        assert left[inner].norm(dim=1).mean() < 2 * FOLDED_BACK


def test_tissue_around_the_brain_is_taken_away_at_times() -> None:
    codes = np.array([0, 2, 41, 502, 530, 1002])
    shown = [draw_shown_numbers(codes, np.random.default_rng(number)).tolist() for number in range(40)]
    whole, stripped = [0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 0, 5]
    assert all(each in (whole, stripped) for each in shown)
    assert 4 <= shown.count(stripped) <= 28


def test_paintings_run_from_0_to_1() -> None:
    labels = draw_shapes(2, 1, seed=0)[0].labels[:64, :64]
    places = np.indices(labels.shape, np.float32)
    for number in range(40):
        rng = np.random.default_rng(number)
        contrast = draw_contrast(int(labels.max()) + 1, rng)
        image = degrade_image(paint_labels(labels, draw_texture(2, rng), places, contrast), rng, strength=1.0)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1


def test_a_constant_image_becomes_zero() -> None:
    assert not to_unit(np.full((8, 8), 3.0, np.float32)).any()


def test_labels_are_counted_on_and_their_codes_kept() -> None:
    given = np.zeros((40, 40), np.int32)
    given[10:20, 10:20], given[20:30, 10:20] = 530, 17
    found = make_label_map(given, [1.0, 1.0], "two")
    assert sorted(np.unique(found.labels)) == [0, 1, 2]
    assert found.codes.tolist() == [0, 17, 530]


def test_label_maps_that_cannot_be_trained_on(tmp_path) -> None:
    import nibabel as nib

    with pytest.raises(InputError, match="no volumes"):
        read_maps_of_folder(tmp_path / "absent")
    nib.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4)).to_filename(tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match=r"empty\.nii\.gz: the label map has no labels"):
        read_maps_of_folder(tmp_path)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"shares": {"shapes": 0}}, "every share is zero"),
        ({"shares": {"labels": 1}, "label_maps": "/nowhere"}, "no volumes"),
        ({"shares": {"subjects": 1}}, "3-D pairs only"),
        ({"shares": {"subjects": 1}, "ndim": 3}, "name a folder of label maps"),
        ({"shares": {"scans": 1}}, "3-D pairs only"),
        ({"shares": {"scans": 1}, "ndim": 3, "scans": "/nowhere"}, "scans: no volumes"),
        ({"shares": {"bands": 1}, "ndim": 3}, "2-D pairs only"),
        ({"shares": {"cohort": 1}}, "name a sample sheet"),
    ],
)
def test_sources_without_data_are_told_in_one_sentence(given, told) -> None:
    with pytest.raises(InputError, match=told) as caught:
        sources.build_mixture(training_runs.tiny(**given), seed=0)
    assert "\n" not in str(caught.value)
