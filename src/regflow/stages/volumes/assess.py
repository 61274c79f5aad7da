"""How good a registration is: figures before and after each stage, and a verdict with its reason."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.extent import measure_ball_diameter, resolve_length
from regflow.core.files import read_json
from regflow.core.gate import Verdict, compute_figure_changes, find_worst_verdict, judge_figures
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.sampling import sample_channel
from regflow.core.surroundings import find_background_level
from regflow.core.transform import Affine, Transform
from regflow.io.object_store import find_copy
from regflow.io.transforms import read_transform
from regflow.io.volumes import write_volume
from regflow.methods.ladder import LABELS_USED, LANDMARKS
from regflow.methods.result import LandmarkErrors
from regflow.metrics import jacobian
from regflow.metrics.agreement import measure_similarity
from regflow.metrics.catalog import STATES
from regflow.metrics.distances import (
    ErrorScale,
    list_mask_points,
    measure_inverse_consistency,
    measure_target_registration_error,
    measure_truth_error,
    summarize_errors,
)
from regflow.metrics.structures import measure_structures
from regflow.stages.assessment import assess_sample
from regflow.stages.shell import Outcome, read_outcome, record_step
from regflow.stages.volumes import evidence
from regflow.stages.volumes.memory import check_working
from regflow.stages.volumes.originals import read_landmark_files
from regflow.stages.volumes.working import read_working

log = logging.getLogger(__name__)

LIMITS: dict[str, dict[str, float]] = {
    **evidence.LIMITS,
    "mi_change": {"fail_below": -0.05, "warn_below": 0.0},
    "folding_percent": {"fail_above": 1.0, "warn_above": 0.0},
    "inverse_mean_percent": {"fail_above": 1.25, "warn_above": 0.3},
}

MEANINGS: dict[str, str] = {
    **evidence.MEANINGS,
    "mi_change": "change of the mutual information from start to end",
    "folding_percent": "part of the mask where the deformation turns inside out",
    "inverse_mean_percent": "mean distance from the start after going there and back, in percent of the "
    "object's size (the diameter of a ball of its volume)",
}
"""What each limited figure is, for the reference of keys."""

LOCAL = 0.0125
"""Spacing of the local measures, as a part of the object's size."""

OPTIONS: dict[str, dict[str, Any]] = {
    "local_mm": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "spacing to which finer images are shrunk for the local measures (LNCC, SSIM); null "
        "takes 1.25% of the object's size, the diameter of a ball of its volume: 2 mm for a brain",
        "default": None,
    },
    "lncc_radius": {
        "type": "integer",
        "minimum": 1,
        "description": "radius of the window of the local cross-correlation (LNCC), in samples",
        "default": 4,
    },
    "bins": {
        "type": "integer",
        "minimum": 4,
        "description": "bins per image of the histogram behind mutual information",
        "default": 48,
    },
    "surfaces": {
        "type": "boolean",
        "description": "measure surface distances (HD95, ASD) of labels, not only Dice",
        "default": True,
    },
    "limits": {
        "type": "object",
        "description": "what the figures of quality.json are held against: by figure, any of "
        "fail_below, fail_above, warn_below, warn_above; {} lifts a standard limit",
        "default": LIMITS,
    },
}


@dataclass(frozen=True, eq=False)
class RegisteredVolumes:
    """What is assessed.

    Attributes:
        fixed: working fixed image with its mask and, if given, labels.
        moving: working moving image with, if given, labels.
        initial: fixed to moving, after initialization.
        forward: fixed to moving, the result.
        backward: moving to fixed, its inverse; None when there is none.
        landmarks: of both images, with those that have no partner.
        truth: the known fixed-to-moving transform of a synthetic pair.
        earlier: the gates' verdicts by stage, in order.
        driven: errors of the landmarks that drove a stage, by stage; empty where none did.
        label_driven: stages that label maps drove.
    """

    fixed: Image
    moving: Image
    initial: Transform
    forward: Transform
    backward: Transform | None = None
    landmarks: LandmarkPairs | None = None
    truth: Transform | None = None
    earlier: Mapping[str, Verdict] = field(default_factory=dict)
    driven: Mapping[str, LandmarkErrors] = field(default_factory=dict)
    label_driven: tuple[str, ...] = ()

    @property
    def transforms(self) -> dict[str, Transform]:
        """The transform at each of :data:`STATES`."""
        start = Affine.identity(self.fixed.grid.ndim)
        return dict(zip(STATES, (start, self.initial, self.forward), strict=True))


@dataclass(frozen=True, eq=False)
class VolumeAssessment:
    """What :func:`assess_pair` found.

    Attributes:
        quality: JSON-ready figures, as in ``quality.json``.
        verdict: of the sample as a whole, the stages' gates included.
        steps: seconds per kind of figure.
        moved: the working moving image on the fixed grid at each of :data:`STATES`.
        displacement: of the deformable part, ``(3, Z, Y, X)`` in world mm on the fixed grid.
        determinant: its Jacobian determinant.
    """

    quality: dict[str, Any]
    verdict: Verdict
    steps: list[dict[str, Any]]
    moved: dict[str, NDArray[np.float32]]
    displacement: NDArray[np.float32]
    determinant: NDArray[np.float32]


def assess_pair(
    pair: RegisteredVolumes, settings: Mapping[str, Any], *, threads: int = 1
) -> VolumeAssessment:
    """Measure a registration.

    Args:
        pair: the images and transforms.
        settings: the ``assess`` section of the configuration; missing keys take their default.
        threads: most threads to use; no figure depends on it.

    Raises:
        InputError: the fixed mask is empty, or landmarks lack partners.
    """
    settings = fill_defaults(OPTIONS, settings)
    steps: list[dict[str, Any]] = []
    quality: dict[str, Any] = {}
    with record_step(steps, "similarity"):
        moved = warp_states(pair)
        quality["similarity"] = measure_similarity(
            pair.fixed,
            moved,
            bins=settings["bins"],
            radius=settings["lncc_radius"],
            local_mm=resolve_length(
                settings["local_mm"], LOCAL, measure_ball_diameter(pair.fixed.mask, pair.fixed.grid)
            ),
            threads=threads,
        )
    if pair.fixed.labels is not None and pair.moving.labels is not None:
        with record_step(steps, "labels"):
            found = measure_structures(
                pair.fixed, pair.moving, pair.transforms, settings["surfaces"], threads
            )
            quality["labels"], quality["label_notes"] = (
                found.records,
                evidence.note_labels(found, pair.label_driven),
            )
    with record_step(steps, "transform"):
        displacement = sample_deformation(pair)
        determinant = jacobian.compute_determinant_map(displacement, pair.fixed.grid)
        quality.update(_transform(pair, determinant))
    quality["figures"] = dict(_flat(quality, ErrorScale.from_images(pair.fixed, pair.moving)))
    verdict = _verdict(quality, {**LIMITS, **settings["limits"]}, pair.earlier)
    quality["verdict"] = verdict.to_dict()
    return VolumeAssessment(quality, verdict, steps, moved, displacement, determinant)


def assess(
    output: str | Path,
    *,
    sample: str,
    manifests: tuple[str | Path, str | Path],
    prepared: tuple[str | Path, str | Path],
    initial: str | Path,
    refined: str | Path,
    applied: str | Path,
    settings: Mapping[str, Any],
    threads: int = 1,
) -> Outcome:
    """Assess one sample of a cohort.

    Writes ``quality.json`` and ``jacobian.nii.gz`` (float32 determinant of the deformable part on
    the fixed image's working grid) into ``output``.

    Args:
        output: the directory to make.
        sample: its id.
        manifests: of the fixed and the moving image, written by ingest.
        prepared: directories of the fixed and the moving image, written by preprocess.
        initial: directory written by initialize.
        refined: directory written by refine.
        applied: directory written by apply; only its verdict is looked at.
        settings: the ``assess`` section of the configuration.
        threads: most threads to use.
    """

    def measure(folder: Path) -> VolumeAssessment:
        check_working(prepared, "assess")
        pair = read_registered_volumes(manifests, prepared, initial, refined)
        found = assess_pair(pair, settings, threads=threads)
        write_volume(folder / "jacobian.nii.gz", found.determinant, pair.fixed.grid)
        return found

    return assess_sample(output, sample, prepared, (initial, refined, applied), measure)


def read_registered_volumes(
    manifests: tuple[str | Path, str | Path],
    prepared: tuple[str | Path, str | Path],
    initial: str | Path,
    refined: str | Path,
) -> RegisteredVolumes:
    """Read what :func:`assess` gets the places of."""
    fixed, moving = (read_working(folder) for folder in prepared)
    paths, wanted = read_json(manifests[1])["paths"], ("landmarks", "fixed_landmarks", "truth")
    given = {part: find_copy(paths[part]) for part in wanted if part in paths}
    truth = given.get("truth")
    folders = {"initialize": Path(initial), "refine": Path(refined)}
    outcomes = {stage: read_outcome(folder) for stage, folder in folders.items()}
    inverse = folders["refine"] / "inverse.h5"
    return RegisteredVolumes(
        fixed,
        moving,
        read_transform(folders["initialize"] / "transform.h5"),
        read_transform(folders["refine"] / "transform.h5"),
        read_transform(inverse) if inverse.exists() else None,
        read_landmark_files(given),
        read_transform(truth, fixed.grid) if truth else None,
        {stage: outcome.verdict for stage, outcome in outcomes.items()},
        {
            stage: LandmarkErrors.from_dict(outcome.details[LANDMARKS])
            for stage, outcome in outcomes.items()
            if LANDMARKS in outcome.details
        },
        tuple(stage for stage, outcome in outcomes.items() if LABELS_USED in outcome.details),
    )


def warp_states(pair: RegisteredVolumes) -> dict[str, NDArray[np.float32]]:
    """Return the working moving image on the fixed grid at each of the compared states."""
    moving, target = pair.moving, pair.fixed.grid
    outside = find_background_level(moving.channel)
    return {
        stage: sample_channel(moving.channel, moving.grid, target, transform, outside=outside)
        for stage, transform in pair.transforms.items()
    }


def sample_deformation(pair: RegisteredVolumes) -> NDArray[np.float32]:
    """Return the displacement of the deformable part on the fixed grid, ``(3, Z, Y, X)`` world mm."""
    return jacobian.sample_displacement(jacobian.split_affine(pair.forward)[0], pair.fixed.grid)


def _transform(pair: RegisteredVolumes, determinant: NDArray[np.float32]) -> dict[str, Any]:
    """Return what the transforms themselves tell: Jacobian, inverse, landmarks, truth."""
    found: dict[str, Any] = {
        "jacobian": dict(jacobian.compute_jacobian_figures(determinant, pair.fixed.mask))
    }
    _, affine = jacobian.split_affine(pair.forward)
    if affine is not None:
        found["jacobian"]["affine_determinant"] = float(np.linalg.det(affine.linear))
    points = list_mask_points(pair.fixed.grid, pair.fixed.mask)
    if pair.backward is not None:
        found["inverse"] = dict(
            summarize_errors(measure_inverse_consistency(pair.forward, pair.backward, points))
        )
    if pair.landmarks is not None:
        found["landmarks"] = _landmark_errors(pair, pair.landmarks)
        found["landmark_notes"] = {
            **evidence.note_landmarks(pair.landmarks, pair.forward),
            "driving": evidence.describe_driving_landmarks(pair.driven),
        }
    if pair.truth is not None:
        found["truth"] = {
            stage: dict(summarize_errors(measure_truth_error(transform, pair.truth, points)))
            for stage, transform in pair.transforms.items()
        }
    return found


def _landmark_errors(pair: RegisteredVolumes, landmarks: LandmarkPairs) -> list[dict[str, Any]]:
    """Return each landmark's error at each of :data:`STATES`; of those that drove a stage, left out of it."""
    fixed, moving = landmarks.fixed, landmarks.moving
    errors = {
        stage: measure_target_registration_error(fixed.points, moving.points, transform)
        for stage, transform in pair.transforms.items()
    }
    errors = evidence.estimate_left_out_errors(errors, fixed.names, pair.driven)
    return [
        {"name": name, "tre_mm": {stage: float(errors[stage][number]) for stage in STATES}}
        for number, name in enumerate(fixed.names)
    ]


def _flat(quality: Mapping[str, Any], extent: ErrorScale) -> Iterator[tuple[str, float]]:
    """Yield the figures of a sample's row in the cohort's table; names carry the units."""
    for measure, of_stage in quality["similarity"].items():
        yield from ((f"{measure}_{stage}", value) for stage, value in of_stage.items())
        yield from compute_figure_changes({measure: of_stage["refine"]}, {measure: of_stage["start"]}).items()
    counted = evidence.list_compared_structures(quality.get("labels", ()))
    for figure in ("dice", "hd95_mm", "asd_mm"):
        name, _, unit = figure.partition("_")
        records = [record[figure] for record in counted if figure in record]
        for stage in STATES if records else ():
            values = [record[stage] for record in records if np.isfinite(record[stage])]
            mean = float(np.mean(values)) if values else float("nan")
            yield "_".join(filter(None, (name, "mean", unit, stage))), mean
    for stage in STATES if quality.get("landmarks") else ():
        values = [landmark["tre_mm"][stage] for landmark in quality["landmarks"]]
        yield f"tre_mean_mm_{stage}", float(np.mean(values))
        yield f"tre_max_mm_{stage}", float(np.max(values))
    for stage, summary in quality.get("truth", {}).items():
        yield from ((f"truth_{name}_{stage}", value) for name, value in summary.items())
    yield from evidence.list_evidence_figures(quality, extent)
    yield from quality["jacobian"].items()
    yield from ((f"inverse_{name}", value) for name, value in quality.get("inverse", {}).items())
    if "inverse" in quality:
        yield "inverse_mean_percent", 50 * quality["inverse"]["mean_mm"] / extent.radius_mm


def _verdict(
    quality: Mapping[str, Any], limits: Mapping[str, Mapping[str, float]], earlier: Mapping[str, Verdict]
) -> Verdict:
    """Return the most severe of the stages' verdicts and of the figures' own."""
    figures = quality["figures"]
    own = judge_figures(figures, limits, evidence.explain_contradictions(quality, figures, earlier))
    before = [Verdict(v.status, f"{stage}: {v.reason}", v.figures) for stage, v in earlier.items()]
    decided = find_worst_verdict([own, *before])
    return Verdict(decided.status, decided.reason, own.figures)
