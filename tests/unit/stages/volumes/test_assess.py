import json
from dataclasses import replace

import numpy as np
import pytest
from registered import FOUND, drawn_structures, known_pair, write_failure, write_stages

from regflow.core.errors import InputError
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import pair_landmarks
from regflow.core.landmarks import Landmarks
from regflow.core.surroundings import find_background_level
from regflow.core.transform import Affine, DisplacementField
from regflow.io.volumes import read_volume
from regflow.metrics.catalog import FIGURES, STATES
from regflow.metrics.distances import list_mask_points
from regflow.stages.shell import read_outcome
from regflow.stages.volumes.assess import RegisteredVolumes, assess, assess_pair, warp_states


@pytest.fixture(scope="module")
def known(mni_4mm, volume):
    return known_pair(mni_4mm, drawn_structures(volume("neuromorphometrics", 4.0), mni_4mm.grid))


@pytest.fixture(scope="module")
def found(known):
    return assess_pair(replace(known.pair, truth=known.truth.forward), {}, threads=2)


def test_every_figure_improves_from_start_to_affine_to_end(found):
    figures = found.quality["figures"]
    staged = [name for name, figure in FIGURES.items() if figure.staged and f"{name}_refine" in figures]
    assert {"ncc", "lncc", "mi", "ssim", "dice_mean", "hd95_mean_mm", "asd_mean_mm", "truth_mean_mm"} <= set(
        staged
    )
    for name in staged:
        start, affine, end = (figures[f"{name}_{stage}"] for stage in STATES)
        better = (start < affine < end) if FIGURES[name].better == "high" else (start > affine > end)
        assert better, name
    assert found.verdict.status == "pass"


def test_error_against_the_truth_is_the_part_of_the_warp_that_was_missed(known, found):
    warp = known.truth.forward.parts[0]
    points = list_mask_points(known.pair.fixed.grid, known.pair.fixed.mask)
    pose = known.pair.initial
    missed = np.linalg.norm(known.truth.forward.apply(points) - pose.apply(points), axis=1)
    assert np.linalg.norm(warp.apply(points) - points, axis=1).mean() > 1.5
    figures = found.quality["figures"]
    assert figures["truth_mean_mm_initialize"] == pytest.approx(missed.mean(), rel=1e-6)
    assert figures["truth_mean_mm_refine"] == pytest.approx((1 - FOUND) * missed.mean(), rel=1e-4)


def test_landmarks_carry_the_same_errors_as_the_truth_they_come_from(known):
    points = list_mask_points(known.pair.fixed.grid, known.pair.fixed.mask, most=40)
    names = tuple(map(str, range(len(points))))
    pair = replace(
        known.pair,
        fixed=replace(known.pair.fixed, labels=None),
        landmarks=pair_landmarks(
            Landmarks(names, points), Landmarks(names, known.truth.forward.apply(points))
        ),
    )
    quality = assess_pair(pair, {}).quality
    assert "labels" not in quality
    errors = [record["tre_mm"]["initialize"] for record in quality["landmarks"]]
    ends = [record["tre_mm"]["refine"] for record in quality["landmarks"]]
    assert ends == pytest.approx([(1 - FOUND) * error for error in errors], abs=1e-3)
    assert quality["figures"]["tre_max_mm_refine"] == pytest.approx(max(ends))


def test_figures_do_not_depend_on_the_number_of_threads(known, found):
    again = assess_pair(replace(known.pair, truth=known.truth.forward), {}, threads=1)
    assert again.quality == found.quality


def test_a_folding_deformation_fails_with_the_figure_that_decided(known):
    rng = np.random.default_rng(0)
    wild = rng.normal(0, 8, (3, *known.pair.fixed.grid.shape)).astype(np.float32)
    pair = replace(known.pair, forward=DisplacementField(wild, known.pair.fixed.grid), backward=None)
    found = assess_pair(pair, {"surfaces": False})
    assert found.verdict.status == "fail"
    assert found.quality["figures"]["folding_percent"] > 5
    assert "inverse" not in found.quality
    assert "hd95_mm" not in found.quality["labels"][0]
    unlabeled = replace(pair, fixed=replace(pair.fixed, labels=None))
    limits = {"mi_change": {}, "similarity_change_percent": {}}
    verdict = assess_pair(unlabeled, {"surfaces": False, "limits": limits}).verdict
    assert verdict.reason.startswith("folding_percent is")


def test_an_earlier_gate_that_failed_fails_the_sample_and_is_named(known):
    earlier = {
        "initialize": Verdict("fail", "ncc is 0.1, below the limit of 0.3"),
        "refine": Verdict("warn", "x"),
    }
    pair = replace(known.pair, earlier=earlier, fixed=replace(known.pair.fixed, labels=None))
    verdict = assess_pair(pair, {}).verdict
    assert (verdict.status, verdict.reason) == ("fail", "initialize: ncc is 0.1, below the limit of 0.3")


def test_an_affine_result_has_no_deformation(known):
    pair = replace(known.pair, forward=known.pair.initial, backward=known.pair.initial.inverse())
    figures = assess_pair(pair, {"surfaces": False}).quality["figures"]
    assert figures["jacobian_min"] == figures["jacobian_max"] == 1
    assert figures["affine_determinant"] == pytest.approx(np.linalg.det(known.pair.initial.linear))
    assert figures["inverse_max_mm"] == pytest.approx(0, abs=1e-6)


def boxed_pair(columns: int) -> RegisteredVolumes:
    """Two maps of boxes, the last a sample off; the moving image holds the first columns alone."""
    grid = Grid.from_geometry((20, 20, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    drawn, mask = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, bool)
    mask[4:16, 4:16, 4:36] = True
    for label, first in ((1, 4), (2, 30), (3, 16)):
        drawn[6:12, 6:12, first : first + 6] = label
    moved = np.where(drawn == 3, 0, drawn)
    moved[6:12, 6:12, 17:23] = 3
    data = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    part = Grid((20, 20, columns), grid.affine)
    still = Affine.identity(3)
    fixed = Image(data[None], grid, mask, drawn)
    moving = Image(data[None, ..., :columns], part, mask[..., :columns], moved[..., :columns])
    return RegisteredVolumes(fixed, moving, still, still)


@pytest.mark.parametrize(
    ("columns", "compared"), [(40, [1, 1, 5 / 6]), (34, [1, 0.8, 5 / 6]), (32, [1, 5 / 6])]
)
def test_the_mean_dice_is_of_the_structures_that_the_moving_image_shows(columns, compared):
    figures = assess_pair(boxed_pair(columns), {"surfaces": False}).quality["figures"]
    assert figures["dice_mean_refine"] == pytest.approx(np.mean(compared))
    assert figures["labels_shared"] == len(compared)


def test_the_inverse_is_measured_inside_the_mask():
    pair = boxed_pair(40)
    astray = np.where(pair.fixed.mask, 0.0, 30.0) * np.ones((3, 1, 1, 1))
    field = DisplacementField(astray.astype(np.float32), pair.fixed.grid)
    for changed in ({"backward": field}, {"truth": field}):
        figures = assess_pair(replace(pair, **changed), {"surfaces": False}).quality["figures"]
        name = "inverse_max_mm" if "backward" in changed else "truth_max_mm_refine"
        assert figures[name] == 0


def test_outside_the_moving_image_its_background_stands():
    pair = boxed_pair(32)
    for warped in warp_states(pair).values():
        assert (warped[..., 33:] == np.float32(find_background_level(pair.moving.channel))).all()
        assert np.array_equal(warped[..., :32], pair.moving.channel)


def test_an_empty_mask_is_refused(known):
    empty = replace(known.pair.fixed, mask=np.zeros(known.pair.fixed.grid.shape, dtype=bool), labels=None)
    with pytest.raises(InputError, match="fixed mask is empty"):
        assess_pair(replace(known.pair, fixed=empty, forward=Affine.identity(3)), {})


def test_a_sample_on_disk_gives_the_same_figures(tmp_path, known, found):
    points = list_mask_points(known.pair.fixed.grid, known.pair.fixed.mask, most=20)
    folders = write_stages(tmp_path, "sub-01", known, points)
    assess(folders.assessed, **folders.arguments, settings={}, threads=2)
    made = {path.name for path in folders.assessed.iterdir()}
    assert made == {"quality.json", "jacobian.nii.gz", "stage.json"}
    quality = json.loads((folders.assessed / "quality.json").read_text(encoding="utf-8"))
    for name, value in found.quality["figures"].items():
        assert quality["figures"][name] == pytest.approx(value, rel=5e-3, abs=5e-3), name
    assert len(quality["landmarks"]) == len(points)
    titles = [record["title"] for record in quality["stages"][:2]]
    assert titles == ["preprocess (fixed)", "preprocess (moving)"]
    determinant = read_volume(folders.assessed / "jacobian.nii.gz")
    assert determinant.grid.matches(known.pair.fixed.grid)
    assert determinant.channel == pytest.approx(found.determinant, abs=1e-2)


def test_a_sample_that_failed_earlier_is_skipped_with_its_reason(tmp_path, known):
    folders = write_failure(tmp_path, "sub-02", known, "moving.nii: the file is empty")
    assess(folders.assessed, **folders.arguments, settings={})
    assert [path.name for path in folders.assessed.iterdir()] == ["stage.json"]
    outcome = read_outcome(folders.assessed)
    assert (outcome.state, outcome.verdict.reason) == ("skipped", "moving.nii: the file is empty")
