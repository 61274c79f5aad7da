"""One pair, from files to aligned image, transforms, figures and report, in memory.

The chain behind ``regflow register``: the stages' own functions, as the workflow calls them, without
Snakemake and without intermediate files.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.config.loading import load_config
from regflow.config.presets import load_preset, merge_settings
from regflow.core.files import write_json, write_whole_directory
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.processor import describe_processor, read_processor
from regflow.core.progress import StageListener, ignore_events
from regflow.core.threads import count_cores
from regflow.core.transform import Transform
from regflow.provenance.run_record import (
    PairRecord,
    RunRecorder,
    explain_full_disk,
    refuse_unfit,
    require_writable,
)
from regflow.stages.shell import find_transform_source

if TYPE_CHECKING:
    from regflow.core.landmark_pairs import LandmarkPairs
    from regflow.stages.volumes.assess import RegisteredVolumes, VolumeAssessment

log = logging.getLogger(__name__)

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
"""What the folder of a pair may hold; a folder that holds anything else is not written over."""

_FORWARD, _BACK = ("warped", "labels"), ("inverse_fixed", "inverse_labels")
"""Names of the products in either direction, without suffix: the image's and the label map's."""


def register_pair(
    fixed: FixedVolume,
    moving: VolumeSample,
    output: str | Path,
    *,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    threads: int | None = None,
    progress: StageListener = ignore_events,
) -> PairRecord:
    """Bring a moving image onto a fixed one and write the result into a folder, whole or not at all.

    Args:
        fixed: the fixed image's files.
        moving: the moving image's files; ``moving.fixed`` is ``fixed``.
        output: the folder to make; one that holds an earlier result is replaced.
        preset: ``fast``, ``default`` or ``accurate``, of :data:`regflow.config.presets.PRESETS`.
        config: sections of the configuration that replace the preset's, key by key.
        threads: most threads to use, all cores when None; no byte of the products but the seconds
            in ``quality.json`` and ``report.html`` depends on it.
        progress: is told when a stage begins and when it ends.

    Raises:
        InputError: a file, the folder, the preset or a key of ``config`` is wrong.
        RegistrationError: no method gave a usable transform.
    """
    from regflow.core.devices import limit_numba_threads
    from regflow.reporting.shared.story import describe_source
    from regflow.stages.volumes.ingest import examine_volume

    target = require_writable(Path(output), PRODUCTS)
    settings = load_config(
        merge_settings(merge_settings({"samples": moving.moving}, load_preset(preset)), config or {})
    )
    journal = RunRecorder(moving.sample, progress)
    count = threads or count_cores()
    with limit_numba_threads(count), ThreadPoolExecutor(max(2, count)) as pool:
        with journal.stage("ingest"):
            refuse_unfit(pool.map(examine_volume, (fixed, moving)))
            originals = _read_both(fixed, moving, pool)
        ahead = pool.submit(_load_ahead, settings)
        pair = _align(originals, settings, journal, count)
        ahead.result()
        pair = replace(pair, landmarks=_landmarks(fixed, moving), truth=_truth(moving, pair.fixed))
        with write_whole_directory(target) as folder, explain_full_disk(folder):
            stored = _write_transforms(folder, pair, pool)
            applied = pool.submit(_apply, folder, moving, originals, pair, settings, journal, stored)
            source = find_transform_source(journal.stages)
            facts = [("onto", Path(fixed.image).name), ("preset", preset), *describe_source(source)]
            found = _assess(folder, moving, pair, settings, journal, count, facts)
            for job in (*stored, applied):
                job.result()
            seconds = journal.seconds()
            made = {"sample": moving.sample, "seconds": seconds, "processor": read_processor()}
            quality = {"transform_from": source, **found.quality}
            write_json(folder / "quality.json", {**made, **quality})
    return PairRecord(target, pair.forward, found.verdict, quality, seconds)


def _assess(
    folder: Path,
    moving: VolumeSample,
    pair: "RegisteredVolumes",
    settings: Mapping[str, Any],
    journal: RunRecorder,
    threads: int,
    facts: Sequence[tuple[str, str]],
) -> "VolumeAssessment":
    """Measure the result and write its page."""
    from regflow.stages.volumes.assess import assess_pair
    from regflow.stages.volumes.report import report_pair

    with journal.stage("assess") as record:
        found = assess_pair(pair, settings["assess"], threads=threads)
        record.update(verdict=found.verdict.to_dict(), steps=found.steps)
    with journal.stage("report"):
        report_pair(
            folder / "report.html",
            sample=moving.sample,
            pair=pair,
            assessment=found,
            stages=journal.stages,
            settings=settings["report"],
            facts=facts,
            provenance=[
                ("Input files", f"fixed   {moving.fixed.image}\nmoving  {moving.moving}"),
                ("Processor", describe_processor()),
            ],
        )
    return found


def _read_both(fixed: FixedVolume, moving: VolumeSample, pool: ThreadPoolExecutor) -> tuple[Image, Image]:
    from regflow.stages.volumes.originals import read_parts

    atlas = pool.submit(read_parts, fixed.files(), None, fixed.modality)
    subject = pool.submit(read_parts, moving.files(), moving.volume, moving.modality)
    return atlas.result(), subject.result()


def _load_ahead(settings: Mapping[str, Any]) -> None:
    from regflow.stages.volumes.refine import load_ahead

    load_ahead(settings["refine"])


def _align(
    originals: tuple[Image, Image], settings: Mapping[str, Any], journal: RunRecorder, threads: int
) -> "RegisteredVolumes":
    """Prepare, initialize and refine; return the working images with what was found between them."""
    from regflow.stages.volumes.assess import RegisteredVolumes
    from regflow.stages.volumes.initialize import align_volumes
    from regflow.stages.volumes.preprocess import prepare_pair
    from regflow.stages.volumes.refine import deform_volumes

    shared: dict[str, Any] = {"threads": threads, "seed": settings["seed"]}
    with journal.stage("preprocess") as record:
        both = prepare_pair(*originals, settings["preprocess"], threads=threads)
        named = zip(("fixed", "moving"), both, strict=True)
        record["steps"] = [{**step, "image": name} for name, made in named for step in made.steps]
    fixed, moving = (made.image for made in both)
    with journal.stage("initialize") as record:
        start = align_volumes(fixed, moving, settings["initialize"], **shared)
        record.update(verdict=start.verdict.to_dict(), steps=start.steps, details=start.details)
    with journal.stage("refine") as record:
        doubted = start.verdict.status != "pass"
        refined = deform_volumes(
            fixed, moving, start.transform, settings["refine"], doubted=doubted, **shared
        )
        ladder = refined.ladder
        record.update(verdict=ladder.verdict.to_dict(), steps=ladder.steps, details=ladder.details)
    verdicts = {"initialize": start.verdict, "refine": ladder.verdict}
    return RegisteredVolumes(
        fixed, moving, start.transform, refined.forward, refined.inverse, earlier=verdicts
    )


def _landmarks(fixed: FixedVolume, moving: VolumeSample) -> "LandmarkPairs | None":
    from regflow.core.landmark_pairs import pair_landmarks
    from regflow.io.landmarks import read_landmarks

    of_fixed = moving.fixed_landmarks or fixed.landmarks
    if of_fixed is None or moving.moving_landmarks is None:
        return None
    return pair_landmarks(read_landmarks(of_fixed), read_landmarks(moving.moving_landmarks))


def _truth(moving: VolumeSample, fixed: Image) -> Transform | None:
    from regflow.io.transforms import read_transform

    return None if moving.truth is None else read_transform(moving.truth, fixed.grid)


def _write_transforms(folder: Path, pair: "RegisteredVolumes", pool: ThreadPoolExecutor) -> list[Future[Any]]:
    from regflow.io.transforms import write_transform

    both = {"transform.h5": pair.forward, "inverse.h5": pair.backward}
    return [pool.submit(write_transform, folder / name, part) for name, part in both.items() if part]


def _apply(
    folder: Path,
    moving: VolumeSample,
    originals: tuple[Image, Image],
    pair: "RegisteredVolumes",
    settings: Mapping[str, Any],
    journal: RunRecorder,
    stored: Sequence[Future[Any]],
) -> None:
    """Write what follows the transform, each file sampled once, from the original.

    Companions and what goes back take the transforms as ``stored``, as whoever reads them later.
    """
    (fixed, original), options = originals, settings["apply"]
    with journal.stage("apply"):
        _carry(folder, _FORWARD, original, fixed.grid, pair.forward, options)
        _push(folder / "landmarks.csv", moving.moving_landmarks, pair.backward)
        for transform in stored:
            transform.result()
        _carry_companions(folder, moving.companions, fixed.grid, options)
        if options["inverse"]:
            _carry_back(folder, moving, originals, pair, options)


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
    originals: tuple[Image, Image],
    pair: "RegisteredVolumes",
    options: Mapping[str, Any],
) -> None:
    """Write the fixed image, its labels and its landmarks in the moving image's space."""
    from regflow.io.transforms import read_transform

    fixed, target = originals[0], originals[1].grid
    _carry(folder, _BACK, fixed, target, read_transform(folder / "inverse.h5", target), options)
    _push(folder / "inverse_landmarks.csv", moving.fixed_landmarks or moving.fixed.landmarks, pair.forward)
