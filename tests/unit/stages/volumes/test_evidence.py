"""Labels, landmarks and truth against a fit that is known to be right, or wrong."""

from dataclasses import replace

import numpy as np
import pytest
from registered import Known, drawn_structures, known_pair

from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import pair_landmarks
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine, Composite, DisplacementField, Transform
from regflow.datasets import packaged as realdata
from regflow.methods.result import LandmarkErrors
from regflow.metrics.distances import ErrorScale, list_mask_points, measure_truth_error
from regflow.stages.volumes.assess import LIMITS, MEANINGS, RegisteredVolumes, VolumeAssessment, assess_pair
from regflow.stages.volumes.evidence import _listed

QUICK = {"surfaces": False}


@pytest.fixture(scope="module")
def known(mni_4mm, volume) -> Known:
    return known_pair(mni_4mm, drawn_structures(volume("neuromorphometrics", 4.0), mni_4mm.grid))


@pytest.fixture(scope="module")
def bare(known) -> RegisteredVolumes:
    """The pair without labels."""
    return replace(known.pair, fixed=replace(known.pair.fixed, labels=None))


def sides() -> dict[int, int]:
    """Return the structures of Neuromorphometrics that have a counterpart, with it."""
    table = realdata.require_source("neuromorphometrics").with_name("labels_neuromorphometrics.csv")
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[1:] if "," in line]
    code = {name.strip(): int(number) for number, name in rows}
    return {
        code[name]: code[name.replace(side, other)]
        for side, other in (("Right", "Left"), ("Left", "Right"))
        for name in code
        if name.startswith(side) and name.replace(side, other) in code
    }


def with_labels(pair: RegisteredVolumes, labels: np.ndarray) -> RegisteredVolumes:
    return replace(pair, moving=replace(pair.moving, labels=labels))


def with_landmarks(pair: RegisteredVolumes, fixed: np.ndarray, moving: np.ndarray) -> RegisteredVolumes:
    names = tuple(f"p{number}" for number in range(len(fixed)))
    return replace(pair, landmarks=pair_landmarks(Landmarks(names, fixed), Landmarks(names, moving)))


def landmark_points(known: Known) -> np.ndarray:
    """Return eight points of the fixed brain."""
    points = list_mask_points(known.pair.fixed.grid, known.pair.fixed.mask, most=60)
    return points[np.random.default_rng(0).permutation(len(points))[:8]]


def assessed(pair: RegisteredVolumes, **limits: dict) -> VolumeAssessment:
    return assess_pair(pair, {**QUICK, "limits": limits}, threads=2)


def worse_warp(known: Known) -> Transform:
    """Return the affine after a warp in the wrong direction: twice as far from the truth."""
    warp, pose = known.truth.forward.parts
    return Composite((DisplacementField(-warp.vectors, known.pair.fixed.grid), pose))


def test_every_limited_figure_says_what_it_is():
    assert set(MEANINGS) == set(LIMITS)


def test_a_right_fit_with_its_labels_landmarks_and_truth_passes(known):
    points = landmark_points(known)
    placed = known.truth.forward.apply(points) + np.random.default_rng(1).normal(0, 1.5, points.shape)
    pair = replace(with_landmarks(known.pair, points, placed), truth=known.truth.forward)
    found = assessed(pair)
    assert found.verdict.status == "pass", found.verdict.reason
    figures = found.quality["figures"]
    assert figures["labels_exchanged_percent"] == figures["labels_misplaced_percent"] == 0
    assert figures["dice_mean_loss"] == figures["tre_loss_percent"] == figures["truth_loss_percent"] == 0
    assert figures["dice_mean_change"] > 0.05
    assert figures["similarity_change_percent"] > 10
    extent = ErrorScale.from_images(pair.fixed, pair.moving)
    expected = max(figures["truth_mean_mm_refine"] - 4.0, 0) / extent.radius_mm * 100
    assert figures["truth_percent"] == pytest.approx(expected)


def test_few_and_small_labels_of_a_right_fit_raise_no_alarm(known):
    labels = known.pair.moving.labels
    for chosen in ([59], [47, 48], [36, 37, 57, 58]):
        found = assessed(with_labels(known.pair, np.where(np.isin(labels, chosen), labels, 0)))
        assert found.verdict.status == "pass", (chosen, found.verdict.reason)
        notes = found.quality["label_notes"]
        assert {record["label"] for record in found.quality["labels"]} == set(chosen) - set(
            notes["only_fixed"]
        )
        assert notes["remarks"][0].startswith("only in the fixed map, so not compared: ")


def test_left_and_right_swapped_in_a_label_file_are_told(known):
    labels = known.pair.moving.labels
    swapped = labels.copy()
    for code, other in sides().items():
        swapped[labels == code] = other
    found = assessed(with_labels(known.pair, swapped))
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith("left and right seem swapped in one of the label maps")
    paired = [code for code, other in sides().items() if {code, other} <= set(np.unique(labels))]
    assert set(found.quality["label_notes"]["swapped"]) == set(paired)
    mirrored = assessed(with_labels(known.pair, labels[:, :, ::-1]))
    assert mirrored.verdict.status == "fail"
    assert "left and right seem swapped" in mirrored.verdict.reason


def test_labels_of_another_scheme_are_told_by_their_numbers(known):
    labels = known.pair.moving.labels
    found = assessed(with_labels(known.pair, np.where(labels > 0, labels + 1000, 0)))
    assert found.verdict.status == "warn"
    assert "the label maps have nothing to compare: only in the fixed map" in found.verdict.reason
    assert "number the same structures otherwise (" in found.verdict.reason
    assert "on 10" in found.verdict.reason


@pytest.mark.parametrize("shift", [(4, 3, 0), (0, 7, 2)])
def test_a_wrong_label_file_on_a_right_fit_contradicts_the_images(known, shift):
    found = assessed(with_labels(known.pair, np.roll(known.pair.moving.labels, shift, (0, 1, 2))))
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith("the labels contradict the images: ")
    assert "though the images agree (mutual information" in found.verdict.reason
    assert found.quality["figures"]["labels_misplaced_percent"] > 30


def test_what_agrees_with_the_images_is_named_against_what_does_not(known):
    points = landmark_points(known)
    moved = known.truth.forward.apply(points)
    labels = np.roll(known.pair.moving.labels, (4, 3, 0), (0, 1, 2))
    pair = replace(with_landmarks(known.pair, points, moved), truth=known.truth.forward)
    assert ", as do the landmarks (" in assessed(with_labels(pair, labels)).verdict.reason
    far = with_landmarks(known.pair, points, moved + np.array([30.0, 0, 0]))
    reason = assessed(far).verdict.reason
    assert reason.startswith("the landmarks contradict the images: their mean error is ")
    assert ", as do the labels (mean Dice 0." in reason


def test_labels_that_fit_worse_after_the_refinement_contradict_it(known):
    found = assessed(replace(known.pair, forward=worse_warp(known), backward=None))
    dice = {stage: found.quality["figures"][f"dice_mean_{stage}"] for stage in ("initialize", "refine")}
    assert dice["refine"] < dice["initialize"]
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith(
        f"the labels contradict the refinement: mean Dice {dice['refine']:.3f} at the end, "
        f"{dice['initialize']:.3f} after the affine"
    )


def test_landmarks_far_apart_contradict_the_images(known, bare):
    points = landmark_points(known)
    moved = known.truth.forward.apply(points)
    found = assessed(with_landmarks(bare, points, moved + np.array([18, -13.5, 12])))
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith("the landmarks contradict the images: their mean error is 25.")
    near = assessed(with_landmarks(bare, points, moved + np.array([8, -6, 5])))
    assert near.verdict.status == "warn"
    # One that is farther off still is no exception among landmarks that are all wrong.
    wild = moved + np.array([18, -13.5, 12])
    wild[3] += [70, 40, 0]
    reason = assessed(with_landmarks(bare, points, wild)).verdict.reason
    assert reason.startswith("the landmarks contradict the images: their mean error is ")


def test_one_landmark_far_off_is_named(known, bare):
    points = landmark_points(known)
    moved = known.truth.forward.apply(points)
    moved[3] += [70, 40, 0]
    found = assessed(with_landmarks(bare, points, moved))
    assert found.verdict.status == "warn"
    assert "some landmarks contradict the others: far off at the end are p3, half" in found.verdict.reason
    moved[5] -= [0, 70, 40]
    assert assessed(with_landmarks(bare, points, moved)).verdict.status == "fail"


def test_exchanged_landmarks_are_told_with_what_they_would_gain(known, bare):
    points = landmark_points(known)
    moved = known.truth.forward.apply(points)
    found = assessed(with_landmarks(bare, points, moved[[1, 2, 0, 3, 4, 5, 6, 7]]))
    assert found.verdict.status != "pass"
    assert "another order would fit far better" in found.verdict.reason
    assert found.quality["figures"]["landmarks_reorder_gain_percent"] > 50
    right = assessed(with_landmarks(bare, points, moved))
    assert right.quality["landmark_notes"]["other_order"] is None
    assert right.verdict.status == "pass"


def test_landmarks_and_truth_that_the_refinement_made_worse_contradict_it(known, bare):
    points = landmark_points(known)
    pair = replace(bare, forward=worse_warp(known), backward=None)
    lifted = {"similarity_change_percent": {}, "mi_change": {}}
    for evidence, name, status in (
        (with_landmarks(pair, points, known.truth.forward.apply(points)), "the landmarks contradict", "warn"),
        (replace(pair, truth=known.truth.forward), "the known truth contradicts", "fail"),
    ):
        found = assessed(evidence, **lifted)
        assert found.verdict.status == status
        assert found.verdict.reason.startswith(f"{name} the refinement: ")
    places = list_mask_points(pair.fixed.grid, pair.fixed.mask)
    errors = [
        measure_truth_error(t, known.truth.forward, places).mean() for t in (pair.initial, pair.forward)
    ]
    loss = 100 * (errors[1] - errors[0] - 1.0) / ErrorScale.from_images(pair.fixed, pair.moving).radius_mm
    assert found.quality["figures"]["truth_loss_percent"] == pytest.approx(loss, rel=1e-4)


def test_a_fit_far_from_the_truth_fails_whatever_the_images_say(known, bare):
    pose = Affine.from_parts(np.eye(3), (15.0, 0, 0)).matrix @ known.pair.initial.matrix
    off = replace(bare, initial=Affine(pose), forward=Affine(pose), backward=None, truth=known.truth.forward)
    found = assessed(off)
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith("the known truth contradicts")


def test_a_refinement_by_which_the_images_agree_less_does_not_pass(known, bare):
    found = assessed(replace(bare, forward=worse_warp(known), backward=None), mi_change={})
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith("the refined images agree less than those after the affine")


def test_labels_on_a_fit_that_a_gate_refused_do_not_speak_of_images_that_agree(known):
    earlier = {"initialize": Verdict("fail", "nmi is 1.01, below the limit of 1.04")}
    pair = with_labels(known.pair, np.roll(known.pair.moving.labels, (4, 3, 0), (0, 1, 2)))
    reason = assessed(replace(pair, earlier=earlier)).verdict.reason
    assert "and the images do not agree either (initialize: nmi is 1.01" in reason


def test_brains_that_do_not_touch_at_the_start_pass_when_the_fit_is_right(known):
    """The boxes overlap, the brains do not: nothing can be said of the start's similarity."""
    shift = np.array([0.0, 0.0, 400.0])
    part, pose = known.pair.forward.parts
    there = Affine(Affine.from_parts(np.eye(3), shift).matrix @ pose.matrix)
    moving = known.pair.moving
    affine = np.array(moving.grid.affine)
    affine[:3, 3] += shift
    far = Image(moving.data, Grid(moving.grid.shape, affine), moving.mask, moving.labels, moving.modality)
    pair = replace(known.pair, moving=far, initial=there, forward=Composite((part, there)), backward=None)
    found = assessed(pair)
    assert found.verdict.status == "pass", found.verdict.reason
    figures = found.quality["figures"]
    assert np.isnan(figures["ncc_start"])
    assert "ncc_change" not in figures
    assert figures["ncc_refine"] > 0.9


def test_no_more_names_are_listed_than_can_be_read():
    assert _listed(list("abcdef")) == "a, b, c, d, e, f"
    assert _listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"


def test_landmarks_that_drove_a_stage_are_held_against_the_fit_of_the_others(known, bare):
    points = landmark_points(known)
    placed = known.truth.forward.apply(points) + np.random.default_rng(1).normal(0, 1.5, points.shape)
    pair = with_landmarks(bare, points, placed)
    residuals = {
        stage: np.linalg.norm(transform.apply(points) - placed, axis=1)
        for stage, transform in pair.transforms.items()
    }
    left_out = {name: 9.0 + number for number, name in enumerate(pair.landmarks.fixed.names)}
    driven = replace(pair, driven={"initialize": LandmarkErrors(left_out, ("p3",))})
    quality = assessed(driven).quality
    told = {stage: [record["tre_mm"][stage] for record in quality["landmarks"]] for stage in residuals}
    assert told["start"] == pytest.approx(residuals["start"])
    assert told["initialize"] == pytest.approx(list(left_out.values()))
    raised = residuals["refine"] + (np.array(list(left_out.values())) - residuals["initialize"])
    assert told["refine"] == pytest.approx(np.maximum(raised, 0))
    assert quality["figures"]["tre_max_mm_initialize"] == pytest.approx(16)
    note = quality["landmark_notes"]["driving"]
    assert "drove initialize" in note
    assert "leave-one-out" in note
    assert note.endswith("p3")
    assert assessed(pair).quality["landmark_notes"]["driving"] is None


def test_errors_after_a_spline_through_the_landmarks_are_those_left_out(known, bare):
    points = landmark_points(known)
    pair = with_landmarks(bare, points, known.truth.forward.apply(points))
    left_out = dict.fromkeys(pair.landmarks.fixed.names, 3.5)
    quality = assessed(replace(pair, driven={"refine": LandmarkErrors(left_out)})).quality
    assert quality["figures"]["tre_mean_mm_refine"] == pytest.approx(3.5)


def test_the_overlap_of_labels_that_drove_a_stage_is_told_to_be_no_check(known):
    notes = assessed(replace(known.pair, label_driven=("refine",))).quality["label_notes"]
    assert any("drove refine" in remark and "no independent check" in remark for remark in notes["remarks"])
