"""Fine-tuning on a cohort's real pairs: what is drawn, what is left out, and what it gains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs
from training_runs import run, tiny

from regflow.config.loading import load_config
from regflow.core.errors import InputError, RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.datasets import subjects as synthetic
from regflow.io.volumes import write_volume
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.methods.refine.voxelmorph import voxelmorph
from regflow.methods.refine.weights import NetworkDescription, read_weights, save_weights
from regflow.methods.refine.weights_files import find_weights
from regflow.training import objective, passes, sources
from regflow.training.cohort import BARE, CohortPairs, _add_found, _axes, _met, read_cohort_pairs
from regflow.training.painted import BACKGROUND_WEIGHT
from regflow.training.pairs import TrainingPair, collate_pairs
from regflow.training.passes import AlignedPair, measure_best_relaxation
from regflow.training.product import train_network
from regflow.training.settings import make_training_settings

pytestmark = pytest.mark.slow
"""They register, train and simulate in three dimensions."""

SUBJECTS, HELD_OUT = range(8), range(100, 103)
SMALL = {"ndim": 3, "channels": [8, 8, 8, 8], "side": 32, "spacing": 4.0, "passes": [1.0]}


def made(source: Image, seed: int) -> tuple[Image, synthetic.Truth]:
    """Return a subject, noisy and shaded, and its truth."""
    truth = synthetic.draw_truth(source.grid, seed, amplitude_mm=10.0, smoothness_mm=18.0)
    grid = synthetic.make_subject_grid(source.grid, truth, 4.0)
    return synthetic.make_subject(source, truth, grid, seed=seed), truth


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, mni_4mm: Image) -> dict[str, Any]:
    """The configuration of a study of 8 synthetic subjects at 4 mm."""
    folder = tmp_path_factory.mktemp("cohort")
    write_volume(folder / "atlas.nii.gz", mni_4mm.channel, mni_4mm.grid)
    rows = ["sample\tmoving"]
    for seed in SUBJECTS:
        subject, _ = made(mni_4mm, seed)
        write_volume(folder / f"sub-{seed}.nii.gz", subject.channel, subject.grid)
        rows.append(f"sub-{seed}\tsub-{seed}.nii.gz")
    (folder / "samples.tsv").write_text("\n".join(rows) + "\n")
    return {
        "samples": str(folder / "samples.tsv"),
        "fixed": "mni",
        "atlases": {"mni": {"image": str(folder / "atlas.nii.gz")}},
        "preprocess": {"bias": {"method": "none"}},
        "train": {"shares": {"cohort": 1}, "weights": {"similarity": 1.0}, **SMALL},
    }


def first_rows(study: dict[str, Any], count: int) -> dict[str, Any]:
    """Return complete settings of a training on a part of the cohort."""
    settings = make_training_settings(load_config(study))
    settings["cohort"]["rows"] = settings["cohort"]["rows"][:count]
    return settings


@pytest.fixture(scope="module")
def two(study: dict[str, Any]) -> CohortPairs:
    """Two pairs of it, registered."""
    return read_cohort_pairs(first_rows(study, 2), seed=0)


def test_what_is_to_teach_decides_how_pairs_are_drawn(study: dict[str, Any], two: CohortPairs) -> None:
    assert two.bare == BARE
    settings = first_rows(study, 1)
    for truth, similarity, bare in ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)):
        weights = {**settings["weights"], "truth": truth, "similarity": similarity}
        assert read_cohort_pairs({**settings, "weights": weights}, seed=0).bare == bare


def test_what_the_study_finds_is_the_truth_of_a_pair(two: CohortPairs) -> None:
    drawn = replace(two, bare=0.0)
    gained = []
    for number in range(12):
        pair = drawn((32, 32, 32), np.random.default_rng(number))
        assert pair.truth is not None
        assert pair.known is not None
        assert pair.truth.shape == (3, 32, 32, 32)
        assert set(np.unique(pair.known)) <= {np.float32(0), np.float32(BACKGROUND_WEIGHT), np.float32(1)}
        warped = sample_channels(pair.moving[None], pair.truth[None])[0]
        inside = pair.known > 0.5
        before, after = (
            np.corrcoef(pair.fixed[inside], part[inside])[0, 1] for part in (pair.moving, warped)
        )
        gained.append(after - before)
        assert after > 0.8
    assert np.mean(gained) > 0.02


def told(level: AlignedPair, axes: list[Any], mirrored: tuple[int, ...] = ()) -> TrainingPair:
    return _add_found(_met(level, 1, axes, mirrored), level, axes, mirrored)


def test_a_mirrored_patch_has_mirrored_vectors(two: CohortPairs) -> None:
    level = two.pairs[0][0]
    level = replace(level, begun=(level.found / 2).astype(np.float16))
    axes = _axes(level.inside[0], (16, 16, 16), level.fixed.shape)
    plain, turned = (told(level, axes, mirrored) for mirrored in ((), (0, 2)))
    signs = torch.tensor([-1.0, 1.0, -1.0]).view(3, 1, 1, 1)
    for before, after in ((plain.truth, turned.truth), (plain.begun, turned.begun)):
        assert before is not None
        assert after is not None
        assert before.abs().max() > 0.1
        torch.testing.assert_close(after, signs * before.flip(1, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(turned.moving, plain.moving.flip(1, 3), rtol=0, atol=1e-6)


def test_where_a_patch_is_cut_off_nothing_is_learned(two: CohortPairs) -> None:
    """What belongs there may lie outside; at the image's own border it does not."""
    level = two.pairs[0][0]
    low = tuple(np.arange(16) for _ in range(3))
    known = told(level, list(low)).known
    assert known is not None
    assert (known[0, :12, :12, :12] > 0).all()
    for axis in range(3):
        assert not known[0].narrow(axis, 12, 4).any()


def test_patches_after_the_first_pass_know_what_it_found(study: dict[str, Any]) -> None:
    """A network to start from goes ahead with its passes; two at one spacing are met one after the other."""
    settings = first_rows(study, 1)
    settings |= {"start_from": "volumes3d", "fold": 2, "spacing": 2.0, "passes": [2.0, 1.0, 1.0]}
    levels = read_cohort_pairs({**settings, "relaxation": [1.0, 1.6, 1.3]}, seed=0).pairs[0]
    assert [level.relaxation for level in levels] == [(1.0,), (1.6, 1.3)]
    assert [level.spacing for level in levels] == [4.0, 2.0]
    first, second = levels
    assert not first.begun.any()
    rests = [
        np.linalg.norm(part.astype(np.float32), axis=0)[second.seen].mean()
        for part in (second.found, second.found - second.begun)
    ]
    assert rests[1] < 0.95 * rests[0]
    drawn = CohortPairs([levels], bare=0.0)
    met = {drawn((16, 16, 16), np.random.default_rng(seed)).relaxation for seed in range(20)}
    assert met == {(1.0,), (1.6,), (1.6, 1.3)}


def aligned(found: tuple[float, float], passes: int) -> AlignedPair:
    """A pair of empty images of which a displacement is known."""
    image = np.zeros((16, 16), np.float32)
    field = np.broadcast_to(np.array(found, np.float16)[:, None, None], (2, 16, 16))
    inside = np.array([[4, 4], [9, 7]], np.int32)
    at = {"spacing": 2.0, "relaxation": (1.0,) * passes, "begun": np.zeros_like(field)}
    return AlignedPair(image, image, field, image == 0, inside, **at)


@pytest.mark.parametrize(
    ("found", "expected", "left"), [(1.6, (1.6, 0.7), 0), (3.5, (1.6, 1.9), 0), (4.8, (1.9, 1.9), 2)]
)
def test_how_far_passes_best_go_is_measured(
    found: float, expected: tuple[float, float], left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that answers 1 sample everywhere; a pass that no pair is fine enough for stays as it was."""
    constant = lambda *seen: torch.ones(1, 2, 16, 16)  # noqa: E731
    monkeypatch.setattr(passes, "predict_pair_velocity", constant)
    flat = NetworkDescription(
        2, (4, 4), 4, (4,), 2.0, {}, half_resolution=False, passes=(1, 1), relaxation=(1, 0.7)
    )
    count = 1 if expected[1] == 0.7 else 2
    relaxation, distance = measure_best_relaxation(
        torch.nn.Identity(), flat, [[aligned((found, found), count)]]
    )
    assert relaxation == expected
    assert distance == pytest.approx(left * np.sqrt(2), abs=0.02)


def test_answers_after_one_another_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs that are asked about more often than others share a batch with them."""
    constant = lambda *seen: torch.ones(2, 2, 8, 8)  # noqa: E731
    monkeypatch.setattr(objective, "predict_pair_velocity", constant)
    image, half = torch.zeros(1, 8, 8), torch.full((2, 8, 8), 0.5)
    batch = collate_pairs(
        [TrainingPair(image, image, relaxation=(1.6, 1.3)), TrainingPair(image, image, begun=half)]
    )
    flat = NetworkDescription(2, (4, 4), 4, (4,), 1.0, {}, half_resolution=False)
    found = objective.predict_all(torch.nn.Identity(), flat, batch)
    assert found.displacement.mean(dim=(1, 2, 3)).tolist() == pytest.approx([2.9, 1.5])
    assert found.velocity.mean(dim=(1, 2, 3)).tolist() == pytest.approx([1.3, 1.0])


def test_patches_of_aligned_pairs_are_drawn(two: CohortPairs) -> None:
    drawn = replace(two, bare=1.0)
    assert len(drawn.pairs) == 2
    similar = []
    for number in range(8):
        pair = drawn((32, 32, 32), np.random.default_rng(number))
        assert pair.truth is None
        assert pair.fixed.shape == pair.moving.shape == (1, 32, 32, 32)
        for image in (pair.fixed, pair.moving):
            assert image.dtype == torch.float32
            assert image.min() >= 0
            assert image.max() <= 1
        similar.append(np.corrcoef(pair.fixed.flatten(), pair.moving.flatten())[0, 1])
    assert min(similar) > 0.6


def test_a_pair_that_cannot_be_aligned_is_left_out(
    study: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = first_rows(study, 2)
    broken = settings["cohort"]["rows"][0]
    (tmp_path / "broken.nii.gz").write_text("no volume")
    broken["moving"]["image"] = str(tmp_path / "broken.nii.gz")
    assert len(read_cohort_pairs(settings, seed=0).pairs) == 1
    assert f"{broken['sample']} is left out" in caplog.text
    settings["cohort"]["rows"] = [broken]
    with pytest.raises(InputError, match="no pair can be aligned"):
        read_cohort_pairs(settings, seed=0)


def test_small_images_are_continued_to_the_size_of_a_patch() -> None:
    image = np.arange(20, dtype=np.float32).reshape(4, 5)
    way = np.zeros((2, 4, 5), np.float16)
    level = AlignedPair(image, image, way, np.ones(image.shape, bool), np.array([[1, 2]]), 1.0, (1.0,), way)
    for bare in (0.0, 1.0):
        pair = CohortPairs([[level]], bare=bare)((8, 4), np.random.default_rng(2))
        assert pair.fixed.shape == pair.moving.shape == (1, 8, 4)
        assert set(np.unique(pair.fixed)) <= set(np.unique(image))
    assert pair.known is None
    known = told(level, _axes(np.array([1, 2]), (8, 4), image.shape)).known
    assert known is not None
    # Four rows of the image, and of four of its five columns the one beside the cut teaches nothing.
    assert known.sum() == 12


def test_a_cohort_without_sheet_or_of_scenes_is_refused(study: dict[str, Any]) -> None:
    bare = {"train": study["train"]}
    with pytest.raises(InputError, match="name a sample sheet"):
        make_training_settings(load_config(bare, with_samples=False))
    with pytest.raises(InputError, match="a cohort of volumes only"):
        make_training_settings(load_config({**bare, "kind": "rasters"}, with_samples=False))


def error_mm(weights: Path, pairs: list[tuple[Image, Image, synthetic.Truth]]) -> float:
    """Mean true error of a network in the brains of pairs, each from its true pose."""
    given = {"weights": str(weights), "refinement": "none", "device": "cpu"}
    options = METHODS["voxelmorph"].complete(given)
    errors = []
    for fixed, moving, truth in pairs:
        pose = truth.forward.parts[1]
        try:
            found: Transform = voxelmorph(fixed, moving, pose, options, RunContext())
        except RegistrationError as error:
            if "less alike" not in str(error):
                raise
            found = pose
        assert fixed.mask is not None
        points = fixed.grid.to_world(np.argwhere(fixed.mask)[::11, ::-1])
        errors.append(np.linalg.norm(found.apply(points) - truth.forward.apply(points), axis=1).mean())
    return float(np.mean(errors))


@pytest.mark.slow
def test_fine_tuning_improves_held_out_pairs_of_the_cohort(
    study: dict[str, Any], mni_4mm: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
    monkeypatch.setattr(sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])
    started = run(tiny(**SMALL, steps=30, rate=3e-3, validate_every=30, average=0.9), tmp_path / "start")
    assert started is not None
    start = tmp_path / "start.safetensors"
    save_weights(start, started.network, replace(started.description, notes={"license": "CC0"}))
    tuning = {"start_from": str(start), "steps": 120, "rate": 1e-3, "warmup": 10, "average": 0.9}
    tuning |= {"validate_every": 120, "validation_pairs": 4, "workers": 0, "device": "cpu"}
    config = load_config({**study, "train": {**study["train"], **tuning, "weights": {}}})
    tuned = train_network(tmp_path / "tuned.safetensors", settings=make_training_settings(config), threads=1)
    assert tuned is not None
    pairs = [(mni_4mm, *made(mni_4mm, seed)) for seed in HELD_OUT]
    before, after = error_mm(start, pairs), error_mm(tuned, pairs)
    assert after < 0.9 * before
    figures = read_weights(tuned)[1].notes["figures"]
    assert figures["epe"] < figures["epe_start"]
    assert "real pairs of the user's own" in tuned.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_network_that_learned_nothing_good_is_not_kept(
    study: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start is, and how far its passes go is measured all the same."""
    monkeypatch.setattr("regflow.training.passes.FACTORS", (1.0, 1.9))
    settings = first_rows(study, 1)
    wild = {"start_from": "volumes3d", "side": 32, "steps": 2, "rate": 0.05, "warmup": 0, "average": 0.0}
    wild |= {"validation_pairs": 1, "validate_every": 2, "workers": 0, "batch": 1, "device": "cpu"}
    tuned = train_network(tmp_path / "tuned.safetensors", settings={**settings, **wild})
    assert tuned is not None
    (weights, description), (start, shipped) = read_weights(tuned), read_weights(find_weights("volumes3d"))
    assert description.notes["kept"]
    assert all(torch.equal(weights[name], start[name]) for name in start)
    assert description.passes == shipped.passes
    assert "the weights of the network to start from are kept" in caplog.text
    assert "kept" in tuned.with_suffix(".md").read_text(encoding="utf-8")


def test_simulated_pairs_judge_networks(two: CohortPairs) -> None:
    """All but the moving image is the pair's own, in memory too."""
    assert len(two.simulated) == len(two.pairs) == 2
    assert two.validation_pairs is two.simulated
    assert replace(two, simulated=()).validation_pairs is two.pairs
    for pair, simulated in zip(two.pairs, two.simulated, strict=True):
        for level, other in zip(pair, simulated, strict=True):
            assert other.fixed is level.fixed
            assert other.found is level.found
            assert not np.array_equal(other.moving, level.moving)
            assert np.corrcoef(other.moving[level.seen], level.moving[level.seen])[0, 1] > 0.8


def test_simulated_pairs_are_drawn_as_often_as_pairs(two: CohortPairs) -> None:
    [[level]], [[other]] = two.pairs[:1], two.simulated[:1]
    flat = [replace(one, moving=np.full_like(one.moving, value)) for one, value in ((level, 0), (other, 1))]
    drawn = CohortPairs([flat[:1]], bare=0.0, simulated=[flat[1:]])
    means = [float(drawn((16, 16, 16), np.random.default_rng(k)).moving.mean()) for k in range(60)]
    assert set(means) == {0.0, 1.0}
    assert 0.3 < np.mean(means) < 0.7


def test_a_large_cohort_is_simulated_in_part(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regflow.training.cohort.MOST_SIMULATED", 1)
    drawn = read_cohort_pairs(first_rows(study, 2), seed=0)
    assert [len(drawn.pairs), len(drawn.simulated)] == [2, 1]


@pytest.mark.parametrize(("found", "expected"), [(1.0, 1.0), (1.8, 1.8), (5.0, 1.9), (20.0, 1.8)])
def test_a_relaxation_changes_only_where_it_matters(
    found: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 18.2 samples that are left, the tenth that 1.9 saves is less than a hundredth."""
    constant = lambda *seen: torch.ones(1, 2, 16, 16)  # noqa: E731
    monkeypatch.setattr(passes, "predict_pair_velocity", constant)
    flat = NetworkDescription(
        2, (4, 4), 4, (4,), 2.0, {}, half_resolution=False, passes=(1,), relaxation=(1.8,)
    )
    assert measure_best_relaxation(torch.nn.Identity(), flat, [[aligned((found, found), 1)]])[0] == (
        expected,
    )
