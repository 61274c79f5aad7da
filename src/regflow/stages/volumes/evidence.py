"""What labels, landmarks and a known truth say against a fit: their figures, limits and sentences.

The images decide what a registration finds; what the user gives beside them decides whether to believe
it. Where the two disagree the sentence names both sides, because either may be wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.gate import Verdict
from regflow.core.landmark_pairs import LandmarkPairs, describe_order, describe_unpaired, find_better_order
from regflow.core.transform import Transform
from regflow.methods.result import LandmarkErrors
from regflow.metrics.catalog import STATES
from regflow.metrics.distances import ErrorScale
from regflow.metrics.structures import SEEN, Structures, estimate_dice_noise

START, AFFINE, END = STATES

LIMITS: dict[str, dict[str, float]] = {
    "labels_exchanged_percent": {"fail_above": 20.0, "warn_above": 0.0},
    "dice_mean_mirror_gain": {"fail_above": 0.2},
    "landmarks_reorder_gain_percent": {"warn_above": 50.0},
    "labels_misplaced_percent": {"fail_above": 35.0, "warn_above": 20.0},
    "dice_mean_loss": {"fail_above": 0.05, "warn_above": 0.01},
    "tre_loss_percent": {"fail_above": 3.0, "warn_above": 0.5},
    "truth_loss_percent": {"fail_above": 1.5, "warn_above": 0.1},
    "truth_percent": {"fail_above": 10.0, "warn_above": 5.0},
    "tre_percent": {"fail_above": 12.0, "warn_above": 6.0},
    "tre_max_percent": {"warn_above": 25.0},
    "dice_mean_refine": {"warn_below": 0.1},
    "labels_shared": {"warn_below": 1},
    "similarity_change_percent": {"fail_below": -5.0, "warn_below": -1.0},
}
"""What the evidence is held against, the most telling first."""

MEANINGS: dict[str, str] = {
    "labels_exchanged_percent": "structures that overlap clearly better with another label, as where left "
    "and right are swapped",
    "dice_mean_mirror_gain": "rise of the mean Dice if the moving labels were mirrored left for right",
    "landmarks_reorder_gain_percent": "part of the landmark error that another order would take away",
    "dice_mean_loss": "fall of the mean Dice from the better of start and affine, beyond what the "
    "structures' few voxels explain",
    "tre_loss_percent": "rise of the mean landmark error from the better of start and affine, beyond what "
    "their placing and number explain, in percent of the object's radius",
    "truth_loss_percent": "rise of the mean true error from the better of start and affine, beyond a "
    "quarter of a voxel, in percent of the object's radius",
    "truth_percent": "mean true error beyond one voxel, in percent of the object's radius",
    "tre_percent": "mean landmark error beyond one voxel, in percent of the object's radius",
    "tre_max_percent": "largest landmark error beyond one voxel, in percent of the object's radius",
    "labels_misplaced_percent": "structures whose centers lie farther apart than 0.7 of their own radius and "
    "than 8 % of the object's, beyond one voxel",
    "dice_mean_refine": "mean Dice at the end, over the structures of both label maps",
    "labels_shared": "structures that are in both label maps and in the moving image's field of view",
    "similarity_change_percent": "change from the affine to the end of local correlation or mutual "
    "information, whichever changed for the better",
}
"""What each limited figure is, for the reference of keys."""

WHEN = {START: "as the headers place the images", AFFINE: "after the affine"}

_QUARTER = 0.25
_FELL_FAR = 0.2
_MOST_NAMES = 6

Quality = Mapping[str, Any]


def note_landmarks(pairs: LandmarkPairs, end: Transform) -> dict[str, Any]:
    """Return what there is to say of landmarks beyond their errors, JSON-ready.

    Args:
        pairs: the landmarks.
        end: fixed to moving, the result.

    Returns:
        ``unpaired``, a sentence or None; ``other_order``, a sentence where another order of the
        landmarks fits far better, or None; ``other_order_mm``, the mean error in that order.
    """
    better = find_better_order(end.apply(pairs.fixed.points), pairs.moving.points)
    return {
        "unpaired": describe_unpaired(pairs),
        "other_order": None if better is None else describe_order(pairs, better),
        "other_order_mm": None if better is None else better.better_mm,
    }


def estimate_left_out_errors(
    errors: Mapping[str, NDArray[np.float64]],
    names: Sequence[str],
    driven: Mapping[str, LandmarkErrors],
) -> dict[str, NDArray[np.float64]]:
    """Return errors of landmarks as if each had been left out of the fits that the landmarks drove.

    After a stage that they drove the error is that of the fit of all others. What a later stage, which looks
    at images, makes of it can only be seen in the residuals: to these is added by how much those of the fit
    were too small (Efron, J. American Statistical Association 99(467):619-632, 2004: the optimism).

    Args:
        errors: residuals ``(N,)`` by :data:`STATES`.
        names: of the landmarks.
        driven: errors of the landmarks left out, by the stage that they drove.
    """
    found, optimism = dict(errors), np.zeros(len(names))
    for stage in STATES:
        if stage in driven:
            left_out = driven[stage].left_out
            optimism = np.array([left_out[name] for name in names]) - errors[stage]
        found[stage] = errors[stage] + optimism
    return {stage: np.maximum(values, 0.0) for stage, values in found.items()}


def describe_driving_landmarks(driven: Mapping[str, LandmarkErrors]) -> str | None:
    """Say what the errors of landmarks are where these drove the registration; None where they did not."""
    if not driven:
        return None
    outliers = dict.fromkeys(name for errors in driven.values() for name in errors.outliers)
    aside = f"; these contradict the others and were not used: {_listed(list(outliers))}" if outliers else ""
    return (
        f"the landmarks drove {' and '.join(driven)}, so their residuals prove nothing: each one's error is "
        f"its distance from where the fit of all others puts it (leave-one-out){aside}"
    )


def list_evidence_figures(quality: Quality, extent: ErrorScale) -> Iterator[tuple[str, float]]:
    """Yield the figures of labels, landmarks and truth, and of the similarity's last step.

    Args:
        quality: the content of ``quality.json`` as far as it is measured.
        extent: the lengths that errors are held against.
    """
    yield "object_radius_mm", extent.radius_mm
    yield from _label_figures(quality)
    if quality.get("landmarks"):
        yield from _landmark_figures(quality["landmarks"], quality.get("landmark_notes", {}), extent)
    if "truth" in quality:
        mean = {stage: quality["truth"][stage]["mean_mm"] for stage in STATES}
        allowed = _QUARTER * extent.spacing_mm
        loss = max(mean[END] - min(mean[START], mean[AFFINE]) - allowed, 0.0)
        yield "truth_percent", extent.to_percent(mean[END])
        yield "truth_loss_percent", 100 * loss / extent.radius_mm
    gains = list(_gains(quality["similarity"]))
    if gains:
        yield "similarity_change_percent", max(gains)


def explain_contradictions(
    quality: Quality, figures: Mapping[str, float], earlier: Mapping[str, Verdict]
) -> dict[str, str]:
    """Return what contradicts what, by the figure whose limit would be broken.

    Args:
        quality: the content of ``quality.json``.
        figures: of it.
        earlier: the gates' verdicts by stage.
    """
    told = {
        "similarity_change_percent": "the refined images agree less than those after the affine",
        **(_explain_labels(quality, figures, earlier) if "label_notes" in quality else {}),
        **(_explain_landmarks(quality, figures, earlier) if quality.get("landmarks") else {}),
    }
    if "truth" in quality:
        mean = {stage: figures[f"truth_mean_mm_{stage}"] for stage in STATES}
        told["truth_percent"] = f"the known truth contradicts the fit: the mean error is {mean[END]:.1f} mm"
        told["truth_loss_percent"] = (
            f"the known truth contradicts {_last_step(mean)}: the mean error is {mean[END]:.2f} mm at the "
            f"end, {mean[_better(mean)]:.2f} mm {WHEN[_better(mean)]}"
        )
    return told


def note_labels(structures: Structures, driven: Sequence[str] = ()) -> dict[str, Any]:
    """Return what there is to say of label maps beyond their overlap, JSON-ready.

    Args:
        structures: what was measured.
        driven: stages that the label maps drove.

    Returns:
        The notes of :meth:`Structures.summarize`, and ``remarks``: sentences on what is not compared, and on
        structures that another label covers.
    """
    records = structures.records
    remarks = [
        f"only in the {image} map, so not compared: {_listed(alone)}"
        for image, alone in (("fixed", structures.only_fixed), ("moving", structures.only_moving))
        if alone
    ]
    unseen = [record["label"] for record in records if record["seen"] < SEEN]
    if unseen:
        remarks.append(
            f"more than half outside the moving image's field of view, so not in the means: {_listed(unseen)}"
        )
    notes = structures.summarize()
    if driven:
        remarks.append(
            f"the label maps drove {' and '.join(driven)}, so their overlap is no independent check of it"
        )
    if structures.exchanged:
        remarks.append(_explain_exchange(notes, records))
    return {**notes, "remarks": remarks}


def list_compared_structures(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the structures that count in means: those that the moving image's field of view holds."""
    return [record for record in records if record["seen"] >= SEEN]


def _label_figures(quality: Quality) -> Iterator[tuple[str, float]]:
    if "label_notes" not in quality:
        return
    records = list_compared_structures(quality["labels"])
    yield "labels_shared", len(records)
    if not records:
        return
    mean = {stage: float(np.mean([record["dice"][stage] for record in records])) for stage in STATES}
    change = mean[END] - max(mean[START], mean[AFFINE])
    yield "dice_mean_change", change
    yield "dice_mean_loss", max(-change - estimate_dice_noise(record["voxels"] for record in records), 0.0)
    yield "labels_misplaced_percent", 100 * float(np.mean([record["out_of_place"] for record in records]))
    notes = quality["label_notes"]
    yield "labels_exchanged_percent", 100 * len(notes["exchanged"]) / len(quality["labels"])
    yield "dice_mean_mirror_gain", notes["dice_mirrored"] - mean[END]


def _landmark_figures(
    landmarks: Sequence[Mapping[str, Any]], notes: Mapping[str, Any], extent: ErrorScale
) -> Iterator[tuple[str, float]]:
    errors = {stage: np.array([one["tre_mm"][stage] for one in landmarks]) for stage in STATES}
    mean = {stage: float(values.mean()) for stage, values in errors.items()}
    for stage in STATES:
        yield f"tre_median_mm_{stage}", float(np.median(errors[stage]))
    rises = errors[END] - errors[_better(mean)]
    spread = float(rises.std(ddof=1)) if len(rises) > 1 else 0.0
    # Two standard errors; of few landmarks, whose spread is hardly known, what placing them explains.
    noise = max(2 * spread, extent.spacing_mm) / np.sqrt(len(rises))
    loss = max(float(rises.mean()) - noise, 0.0)
    yield "tre_percent", extent.to_percent(mean[END])
    yield "tre_max_percent", extent.to_percent(float(errors[END].max()))
    yield "tre_loss_percent", 100 * loss / extent.radius_mm
    other = notes.get("other_order_mm")
    yield "landmarks_reorder_gain_percent", 0.0 if other is None else 100 * (1 - other / mean[END])


def _gains(similarity: Mapping[str, Mapping[str, float]]) -> Iterator[float]:
    """Yield the changes from the affine to the end, in percent, of measures that know no contrast."""
    for measure in ("lncc", "mi"):
        before, after = (similarity[measure][stage] for stage in (AFFINE, END))
        if before > 0 and np.isfinite(after):
            yield 100 * (after / before - 1)


def _explain_labels(
    quality: Quality, figures: Mapping[str, float], earlier: Mapping[str, Verdict]
) -> dict[str, str]:
    notes, records = quality["label_notes"], list_compared_structures(quality["labels"])
    if not records:
        return {"labels_shared": f"the label maps have nothing to compare: {'; '.join(notes['remarks'])}"}
    dice = {stage: figures[f"dice_mean_{stage}"] for stage in STATES}
    best = max(STATES[:2], key=lambda stage: dice[stage])
    course = f"mean Dice {dice[END]:.3f} at the end, {dice[best]:.3f} {WHEN[best]}"
    fell = f"the labels contradict {_last_step_of(best)}: {course}"

    def against(what: str) -> str:
        if dice[best] - dice[END] > _FELL_FAR:
            return fell
        images = _explain_images(figures, earlier, "labels")
        return (
            f"the labels contradict the images: {what} ({course}), {images}; are these the right label files?"
        )

    misplaced = sum(record["out_of_place"] for record in records)
    return {
        "labels_exchanged_percent": _explain_exchange(notes, quality["labels"]),
        "dice_mean_mirror_gain": "one of the label maps, or one of the images, seems to be mirrored left for "
        f"right: mean Dice {dice[END]:.2f}, with the moving labels mirrored {notes['dice_mirrored']:.2f}",
        "dice_mean_loss": fell,
        "labels_misplaced_percent": against(f"{misplaced} of {len(records)} structures lie out of place"),
        "dice_mean_refine": against("the structures hardly overlap"),
    }


def _explain_exchange(notes: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    found = notes["exchanged"]
    if not found:
        return ""
    before, after = (float(np.mean([one[key] for one in found])) for key in ("dice", "dice_exchanged"))
    course = f"their mean Dice is {before:.2f}, with the other label {after:.2f}"
    if 2 * len(notes["swapped"]) >= len(found):
        return (
            f"left and right seem swapped in one of the label maps, or in one of the images: {len(found)} of "
            f"{len(records)} structures lie on their counterpart of the other side; {course}"
        )
    examples = _listed([f"{one['label']} on {one['partner']}" for one in found])
    return f"the label maps seem to number the same structures otherwise ({examples}); {course}"


def _explain_landmarks(
    quality: Quality, figures: Mapping[str, float], earlier: Mapping[str, Verdict]
) -> dict[str, str]:
    mean = {stage: figures[f"tre_mean_mm_{stage}"] for stage in STATES}
    other = quality.get("landmark_notes", {}).get("other_order")
    median = figures[f"tre_median_mm_{END}"]
    far = [one["name"] for one in quality["landmarks"] if one["tre_mm"][END] > 2 * mean[END]]
    if other:
        value = f"{other}; check which is which"
    elif far and median < mean[END] / 2:
        value = (
            f"some landmarks contradict the others: far off at the end are {_listed(far)}, half of all lie "
            f"within {median:.1f} mm"
        )
    else:
        images = _explain_images(figures, earlier, "landmarks")
        value = f"the landmarks contradict the images: their mean error is {mean[END]:.1f} mm, {images}"
    return {
        "landmarks_reorder_gain_percent": f"{other}; check which is which",
        "tre_percent": value,
        "tre_max_percent": value,
        "tre_loss_percent": f"the landmarks contradict {_last_step(mean)}: their mean error is "
        f"{mean[END]:.2f} mm at the end, {mean[_better(mean)]:.2f} mm {WHEN[_better(mean)]}",
    }


def _explain_images(figures: Mapping[str, float], earlier: Mapping[str, Verdict], but: str) -> str:
    """Say whether the images agree, and what agrees with them ``but`` one kind, in half a sentence."""
    refused = next((stage for stage, verdict in earlier.items() if verdict.status == "fail"), None)
    before, after = (figures.get(f"mi_{stage}", float("nan")) for stage in (START, END))
    if refused is not None:
        return f"and the images do not agree either ({refused}: {earlier[refused].reason})"
    if after < before:
        return f"and the images agree less than before (mutual information {before:.2f} to {after:.2f})"
    start = f"{before:.2f} to " if before == before else ""
    others = [f"the {kind} ({told})" for kind, told in _agreeing(figures) if kind != but]
    also = f", as do {' and '.join(others)}" if others else ""
    return f"though the images agree (mutual information {start}{after:.2f}){also}"


def _agreeing(figures: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield what is within its standard limits: the kind of evidence, and its figure in words."""

    def within(name: str) -> bool:
        return figures.get(name, float("inf")) <= LIMITS[name]["warn_above"]

    if within("labels_misplaced_percent") and within("labels_exchanged_percent"):
        yield "labels", f"mean Dice {figures[f'dice_mean_{END}']:.2f}"
    if within("tre_percent"):
        yield "landmarks", f"{figures[f'tre_mean_mm_{END}']:.1f} mm apart"
    if within("truth_percent"):
        yield "known truth", f"{figures[f'truth_mean_mm_{END}']:.1f} mm apart"


def _better(errors: Mapping[str, float]) -> str:
    return min(STATES[:2], key=lambda stage: errors[stage])


def _last_step(errors: Mapping[str, float]) -> str:
    return _last_step_of(_better(errors))


def _last_step_of(better: str) -> str:
    return "the refinement" if better == AFFINE else "the registration"


def _listed(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(map(str, names[:_MOST_NAMES])) + more
