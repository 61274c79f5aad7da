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

from regflow.config import load_config
from regflow.core.files import whole_directory, write_json
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.journal import Journal, Result, cores, refuse_unfit, telling_a_full_disk, writable
from regflow.presets import merged, preset_settings
from regflow.samples import Fixed, Sample
from regflow.stages.outcome import transform_source

if TYPE_CHECKING:
    from regflow.core.io.landmarks import Landmarks
    from regflow.stages.assess import Assessment, Pair

log = logging.getLogger(__name__)

PRODUCTS = (
    "warped.nii.gz",
    "labels.nii.gz",
    "landmarks.csv",
    "transform.h5",
    "inverse.h5",
    "quality.json",
    "report.html",
)
"""What the folder of a pair may hold; a folder that holds anything else is not written over."""


def register_pair(
    fixed: Fixed,
    moving: Sample,
    output: str | Path,
    *,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Result:
    """Bring a moving image onto a fixed one and write the result into a folder, whole or not at all.

    Args:
        fixed: the fixed image's files.
        moving: the moving image's files; ``moving.fixed`` is ``fixed``.
        output: the folder to make; one that holds an earlier result is replaced.
        preset: ``fast``, ``default`` or ``accurate``, of :data:`regflow.presets.PRESETS`.
        config: sections of the configuration that replace the preset's, key by key.
        threads: most threads to use, all cores when None; no byte of the products but the seconds
            in ``quality.json`` and ``report.html`` depends on it.

    Raises:
        InputError: a file, the folder, the preset or a key of ``config`` is wrong.
        RegistrationError: no method gave a usable transform.
    """
    from regflow.core.devices import numba_threads
    from regflow.reporting.sample import source_fact
    from regflow.stages.ingest import examine

    target = writable(Path(output), PRODUCTS)
    settings = load_config(merged(merged({"samples": moving.moving}, preset_settings(preset)), config or {}))
    journal = Journal(moving.sample)
    count = threads or cores()
    with numba_threads(count), ThreadPoolExecutor(max(2, count)) as pool:
        with journal.stage("ingest"):
            refuse_unfit(pool.map(examine, (fixed, moving)))
            originals = _read_both(fixed, moving, pool)
        ahead = pool.submit(_load_ahead, settings)
        pair = _align(originals, settings, journal, count)
        ahead.result()
        pair = replace(pair, landmarks=_landmarks(fixed, moving), truth=_truth(moving, pair.fixed))
        with whole_directory(target) as folder, telling_a_full_disk(folder):
            writing = _write_transforms(folder, pair, pool)
            writing.append(pool.submit(_apply, folder, moving, originals, pair, settings, journal))
            source = transform_source(journal.stages)
            facts = [("onto", Path(fixed.image).name), ("preset", preset), *source_fact(source)]
            found = _assess(folder, moving, pair, settings, journal, count, facts)
            for job in writing:
                job.result()
            seconds = journal.seconds()
            quality = {"transform_from": source, **found.quality}
            write_json(folder / "quality.json", {"sample": moving.sample, "seconds": seconds, **quality})
    return Result(target, pair.forward, found.verdict, quality, seconds)


def _assess(
    folder: Path,
    moving: Sample,
    pair: "Pair",
    settings: Mapping[str, Any],
    journal: Journal,
    threads: int,
    facts: Sequence[tuple[str, str]],
) -> "Assessment":
    """Measure the result and write its page."""
    from regflow.stages.assess import assess_pair
    from regflow.stages.report import report_pair

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
            provenance=[("Input files", f"fixed   {moving.fixed.image}\nmoving  {moving.moving}")],
        )
    return found


def _read_both(fixed: Fixed, moving: Sample, pool: ThreadPoolExecutor) -> tuple[Image, Image]:
    from regflow.stages.originals import read_parts

    atlas = pool.submit(read_parts, fixed.files(), None, fixed.modality)
    subject = pool.submit(read_parts, moving.files(), moving.volume, moving.modality)
    return atlas.result(), subject.result()


def _load_ahead(settings: Mapping[str, Any]) -> None:
    from regflow.stages.refine import load_ahead

    load_ahead(settings["refine"])


def _align(
    originals: tuple[Image, Image], settings: Mapping[str, Any], journal: Journal, threads: int
) -> "Pair":
    """Prepare, initialize and refine; return the working images with what was found between them."""
    from regflow.stages.assess import Pair
    from regflow.stages.initialize import align
    from regflow.stages.preprocess import prepare_pair
    from regflow.stages.refine import deform

    shared: dict[str, Any] = {"threads": threads, "seed": settings["seed"]}
    with journal.stage("preprocess") as record:
        both = prepare_pair(*originals, settings["preprocess"], threads=threads)
        named = zip(("fixed", "moving"), both, strict=True)
        record["steps"] = [{**step, "image": name} for name, made in named for step in made.steps]
    fixed, moving = (made.image for made in both)
    with journal.stage("initialize") as record:
        start = align(fixed, moving, settings["initialize"], **shared)
        record.update(verdict=start.verdict.to_dict(), steps=start.steps, details=start.details)
    with journal.stage("refine") as record:
        doubted = start.verdict.status != "pass"
        refined = deform(fixed, moving, start.transform, settings["refine"], doubted=doubted, **shared)
        ladder = refined.climb
        record.update(verdict=ladder.verdict.to_dict(), steps=ladder.steps, details=ladder.details)
    verdicts = {"initialize": start.verdict, "refine": ladder.verdict}
    return Pair(fixed, moving, start.transform, refined.forward, refined.inverse, earlier=verdicts)


def _landmarks(fixed: Fixed, moving: Sample) -> "tuple[Landmarks, Landmarks] | None":
    from regflow.core.io.landmarks import paired, read_landmarks

    of_fixed = moving.fixed_landmarks or fixed.landmarks
    if of_fixed is None or moving.moving_landmarks is None:
        return None
    return paired(read_landmarks(of_fixed), read_landmarks(moving.moving_landmarks))


def _truth(moving: Sample, fixed: Image) -> Transform | None:
    from regflow.core.io.transforms import read_transform

    return None if moving.truth is None else read_transform(moving.truth, fixed.grid)


def _write_transforms(folder: Path, pair: "Pair", pool: ThreadPoolExecutor) -> list[Future[Any]]:
    from regflow.core.io.transforms import write_transform

    both = {"transform.h5": pair.forward, "inverse.h5": pair.backward}
    return [pool.submit(write_transform, folder / name, part) for name, part in both.items() if part]


def _apply(
    folder: Path,
    moving: Sample,
    originals: tuple[Image, Image],
    pair: "Pair",
    settings: Mapping[str, Any],
    journal: Journal,
) -> None:
    """Write what follows the transform: the image, its labels and landmarks, each sampled once."""
    from regflow.core.io.landmarks import read_landmarks, write_landmarks
    from regflow.core.io.volumes import write_volume
    from regflow.stages.apply import map_landmarks, warp_image, warp_labels

    grid, original, options = originals[0].grid, originals[1], settings["apply"]
    with journal.stage("apply"):
        warped = warp_image(original, grid, pair.forward, options["interpolation"], options["outside"])
        write_volume(folder / "warped.nii.gz", warped.channel, grid)
        if original.labels is not None:
            labels = warp_labels(original.labels, original.grid, grid, pair.forward, options["labels"])
            write_volume(folder / "labels.nii.gz", labels, grid)
        if moving.moving_landmarks is not None and pair.backward is not None:
            moved = map_landmarks(read_landmarks(moving.moving_landmarks), pair.backward)
            write_landmarks(folder / "landmarks.csv", moved)
