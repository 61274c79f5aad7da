"""What a stage does with a pair of volumes in memory; see :mod:`regflow.pipeline.pair`."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.pipeline.pair_steps import PairJob, PairSteps

if TYPE_CHECKING:
    from regflow.core.landmark_pairs import LandmarkPairs
    from regflow.methods.ladder import LadderResult
    from regflow.stages.checks import Findings
    from regflow.stages.volumes.assess import RegisteredVolumes, VolumeAssessment
    from regflow.stages.volumes.refine import VolumeRefinement

PRODUCTS = (
    "warped.nii.gz",
    "labels.nii.gz",
    "landmarks.csv",
    "companions",
    "inverse_fixed.nii.gz",
    "inverse_labels.nii.gz",
    "inverse_landmarks.csv",
    "transform.h5",
    "inverse.h5",
    "quality.json",
    "report.html",
)

_FORWARD, _BACK = ("warped", "labels"), ("inverse_fixed", "inverse_labels")
"""Names of the products in either direction, without suffix: the image's and the label map's."""

_Originals = tuple[Image, Image]


@dataclass(frozen=True, eq=False)
class PreparedVolumes:
    """Both images, as they are in their files and as they steer the registration.

    Attributes:
        originals: the fixed and the moving image.
        working: the same, preprocessed.
        loading: of what the deformable method computes with, going on beside.
        landmarks: of both images; None without any.
    """

    originals: _Originals
    working: _Originals
    loading: Future[None]
    landmarks: "LandmarkPairs | None" = None


@contextmanager
def _open_threads(settings: Mapping[str, Any], threads: int) -> Iterator[None]:
    """Hold compiled code to a number of threads."""
    from regflow.core.devices import limit_numba_threads

    with limit_numba_threads(threads):
        yield


def _examine(subject: FixedVolume | VolumeSample) -> "Findings":
    from regflow.stages.volumes import ingest

    return ingest.examine_volume(subject)


def _read(job: PairJob) -> _Originals:
    """Read both images side by side, where there is memory for what follows."""
    from regflow.io.volumes import read_header
    from regflow.stages.volumes.memory import PAIR, check_originals
    from regflow.stages.volumes.originals import read_parts

    moving, fixed = job.moving, job.moving.fixed
    headers = [read_header(fixed.image), read_header(moving.moving, moving.volume)]
    grids = [(str(header.path), header.grid) for header in headers]
    check_originals(grids, job.settings["preprocess"]["spacing_mm"], PAIR)
    atlas = job.pool.submit(read_parts, fixed.list_files(), None, fixed.modality)
    subject = job.pool.submit(read_parts, moving.list_files(), moving.volume, moving.modality)
    return atlas.result(), subject.result()


def _prepare(job: PairJob, originals: _Originals) -> PreparedVolumes:
    """Make the working images, while libraries load that come after."""
    from regflow.stages.volumes.preprocess import prepare_pair
    from regflow.stages.volumes.refine import load_ahead

    loading = job.pool.submit(load_ahead, job.settings["refine"])
    with job.recorder.record_stage("preprocess") as record:
        both = prepare_pair(*originals, job.settings["preprocess"], threads=job.threads)
        named = zip(("fixed", "moving"), both, strict=True)
        record["steps"] = [{**step, "image": name} for name, made in named for step in made.steps]
    fixed, moving = both
    landmarks = _read_landmark_pairs(job.moving)
    return PreparedVolumes(originals, (fixed.image, moving.image), loading, landmarks)


def _initialize(job: PairJob, prepared: PreparedVolumes) -> "LadderResult":
    from regflow.stages.volumes.initialize import align_volumes

    settings = job.settings["initialize"]
    return align_volumes(
        *prepared.working,
        settings,
        threads=job.threads,
        seed=job.settings["seed"],
        landmarks=prepared.landmarks,
    )


def _refine(job: PairJob, prepared: PreparedVolumes, start: "LadderResult") -> "VolumeRefinement":
    """Find the deformation, and its inverse."""
    from regflow.stages.volumes.refine import deform_volumes

    refined = deform_volumes(
        *prepared.working,
        start.transform,
        job.settings["refine"],
        doubted=start.verdict.status != "pass",
        threads=job.threads,
        seed=job.settings["seed"],
        landmarks=prepared.landmarks,
    )
    prepared.loading.result()
    return refined


def _join(
    job: PairJob,
    prepared: PreparedVolumes,
    start: "LadderResult",
    refined: "VolumeRefinement",
    verdicts: Mapping[str, Verdict],
) -> "RegisteredVolumes":
    """Put together what is assessed: images, transforms, landmarks, a known truth."""
    from regflow.stages.volumes.assess import RegisteredVolumes

    fixed, moving = prepared.working
    results = {"initialize": start.result, "refine": refined.ladder.result}
    return RegisteredVolumes(
        fixed,
        moving,
        start.transform,
        refined.forward,
        refined.inverse,
        prepared.landmarks,
        _read_truth(job.moving, fixed),
        verdicts,
        {stage: found.landmarks for stage, found in results.items() if found.landmarks is not None},
        tuple(stage for stage, found in results.items() if found.labels_used),
    )


def _write_transforms(
    folder: Path, job: PairJob, pair: "RegisteredVolumes", _refined: "VolumeRefinement"
) -> list[Future[Any]]:
    """Begin to write ``transform.h5`` and ``inverse.h5``."""
    from regflow.io.transforms import write_transform

    both = {"transform.h5": pair.forward, "inverse.h5": pair.backward}
    return [job.pool.submit(write_transform, folder / name, part) for name, part in both.items() if part]


def _apply(
    folder: Path,
    job: PairJob,
    prepared: PreparedVolumes,
    pair: "RegisteredVolumes",
    stored: Sequence[Future[Any]],
) -> list[dict[str, Any]]:
    """Write what follows the transform, each file sampled once, from the original.

    Companions and what goes back take the transforms as ``stored``, as whoever reads them later.
    """
    (fixed, original), options = prepared.originals, job.settings["apply"]
    _carry(folder, _FORWARD, original, fixed.grid, pair.forward, options)
    _push(folder / "landmarks.csv", job.moving.moving_landmarks, pair.backward)
    for transform in stored:
        transform.result()
    _carry_companions(folder, job.moving.companions, fixed.grid, options)
    if options["inverse"]:
        _carry_back(folder, job.moving, prepared.originals, pair, options)
    return []


def _assess(_folder: Path, job: PairJob, pair: "RegisteredVolumes") -> "VolumeAssessment":
    from regflow.stages.volumes.assess import assess_pair

    return assess_pair(pair, job.settings["assess"], threads=job.threads)


def _report(
    folder: Path,
    job: PairJob,
    pair: "RegisteredVolumes",
    assessment: "VolumeAssessment",
    facts: Sequence[tuple[str, str]],
    provenance: Sequence[tuple[str, str]],
) -> None:
    from regflow.stages.volumes.report import report_pair

    report_pair(
        folder / "report.html",
        sample=job.moving.sample,
        pair=pair,
        assessment=assessment,
        stages=job.recorder.stages,
        settings=job.settings["report"],
        facts=facts,
        provenance=provenance,
    )


def _read_landmark_pairs(moving: VolumeSample) -> "LandmarkPairs | None":
    from regflow.stages.volumes.originals import read_landmark_files

    parts = moving.list_files()
    if moving.fixed.landmarks is not None:
        parts.setdefault("fixed_landmarks", moving.fixed.landmarks)
    return read_landmark_files(parts)


def _read_truth(moving: VolumeSample, fixed: Image) -> Transform | None:
    from regflow.io.transforms import read_transform

    return None if moving.truth is None else read_transform(moving.truth, fixed.grid)


def _carry(
    folder: Path,
    names: tuple[str, str],
    original: Image,
    target: Grid,
    pull: Transform,
    options: Mapping[str, Any],
) -> None:
    """Write an image, and its labels if it has any, on another grid."""
    from regflow.io.volumes import write_volume
    from regflow.stages.volumes.apply import warp_image, warp_labels

    image, labels = names
    warped = warp_image(original, target, pull, options["interpolation"], options["outside"])
    write_volume(folder / f"{image}.nii.gz", warped.channel, target)
    if original.labels is not None:
        drawn = warp_labels(original.labels, original.grid, target, pull, options["labels"])
        write_volume(folder / f"{labels}.nii.gz", drawn, target)


def _push(output: Path, landmarks: str | None, push: Transform | None) -> None:
    from regflow.io.landmarks import read_landmarks, write_landmarks
    from regflow.stages.volumes.apply import map_landmarks

    if landmarks is not None and push is not None:
        write_landmarks(output, map_landmarks(read_landmarks(landmarks), push))


def _carry_companions(
    folder: Path, companions: Mapping[str, str], target: Grid, options: Mapping[str, Any]
) -> None:
    """Write the companions by the stored transform, as whoever applies that file to them later."""
    from regflow.io.transforms import read_transform
    from regflow.stages.volumes.apply import warp_companion

    if companions:
        transform = read_transform(folder / "transform.h5", target)
        for name, path in companions.items():
            warp_companion(folder / "companions" / f"{name}.nii.gz", path, target, transform, options)


def _carry_back(
    folder: Path,
    moving: VolumeSample,
    originals: _Originals,
    pair: "RegisteredVolumes",
    options: Mapping[str, Any],
) -> None:
    """Write the fixed image, its labels and its landmarks in the moving image's space."""
    from regflow.io.transforms import read_transform

    fixed, target = originals[0], originals[1].grid
    _carry(folder, _BACK, fixed, target, read_transform(folder / "inverse.h5", target), options)
    _push(folder / "inverse_landmarks.csv", moving.fixed_landmarks or moving.fixed.landmarks, pair.forward)


STEPS = PairSteps(
    products=PRODUCTS,
    open_workers=_open_threads,
    examine=_examine,
    read=_read,
    prepare=_prepare,
    initialize=_initialize,
    refine=_refine,
    join=_join,
    write_transforms=_write_transforms,
    apply=_apply,
    assess=_assess,
    report=_report,
)
