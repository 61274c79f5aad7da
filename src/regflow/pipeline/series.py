"""A series of images in a folder: all steps from working images to aligned images, tables and a page."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import write_json
from regflow.core.grid import Grid
from regflow.core.progress import StageEvent, StageListener, ignore_events
from regflow.core.transform import Affine
from regflow.methods.groupwise.schedule import list_series_pairs
from regflow.pipeline.series_kinds import SeriesKind, find_series_kind_steps
from regflow.pipeline.series_products import list_series_products, write_series_record
from regflow.pipeline.series_samples import SeriesSample, find_series_kind
from regflow.pipeline.series_solution import MEAN, SeriesSolution, solve_series
from regflow.pipeline.series_steps import SeriesJob, compute_content_sums
from regflow.pipeline.series_volumes import measure_volumes
from regflow.pipeline.step_folders import ERROR, run_step
from regflow.provenance.run_record import require_writable
from regflow.stages.series_link import read_link

log = logging.getLogger(__name__)


def align_series_folder(
    output: str | Path,
    samples: Sequence[SeriesSample],
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
    detect: bool = False,
    progress: StageListener = ignore_events,
) -> dict[str, Any]:
    """Align the images of a series in a folder; what is done there already is not done again.

    Writes ``aligned/NAME`` with the image and its transform (from common to image points), ``series.tsv``,
    ``links.tsv``, ``closures.tsv``, ``series.json`` and ``report.html``; with ``detect`` also ``changes``,
    and with the option ``deform`` ``volumes.tsv`` and ``jacobian/NAME``.
    Below ``steps`` lie the working images and the links.

    Args:
        output: the folder.
        samples: the images, in order.
        settings: the complete configuration of their kind.
        threads: most threads to use; no result depends on it.
        detect: whether to map changes between scenes that follow one another.
        progress: is told of each step.

    Returns:
        The content of ``series.json``.

    Raises:
        InputError: an image or a setting is wrong, or fewer than two images can be read.
        RegistrationError: no two images could be registered to one another.
    """
    kind = find_series_kind(samples)
    if detect and kind == "volumes":
        raise InputError("changes are detected between scenes, and these images are volumes; leave it out")
    _check_onto(settings["series"]["onto"], samples)
    folder = require_writable(Path(output), list_series_products())
    job = SeriesJob(folder, kind, samples, settings, threads, progress)
    steps = find_series_kind_steps(kind)
    reference, keys = _prepare_images(job, steps)
    pairs = _register_pairs(job, steps, keys)
    links = {pair: read_link(job.find_link_folder(*pair)) for pair in pairs}
    grid = steps.find_grid(
        _find_sample(job, reference), job.find_image_folder(reference), Affine.identity(_count(kind))
    )
    solution = solve_series(job, links, grid)
    common = _apply_poses(job, steps, solution, reference, keys)
    changes = _detect_changes(job, steps, solution) if detect else {}
    volumes = measure_volumes(job, solution, common, keys) if job.options.get("deform") else []
    return write_series_record(job, steps, solution, links, changes, volumes)


def count_series_steps(samples: Sequence[SeriesSample], settings: Mapping[str, Any]) -> int:
    """Return how many steps the progress of a series counts to, at most."""
    options = settings["series"]
    hub = len(samples) // 2 if options["hub"] else None
    return 2 * len(samples) + len(list_series_pairs(len(samples), options["steps"], hub))


def _count(kind: str) -> int:
    return 2 if kind == "rasters" else 3


def _check_onto(onto: str, samples: Sequence[SeriesSample]) -> None:
    names = [sample.name for sample in samples]
    if onto != MEAN and onto not in names:
        raise InputError(
            f"series.onto is '{onto}', which is no image of the series; name one, or write {MEAN}"
        )


def _find_sample(job: SeriesJob, name: str) -> SeriesSample:
    return next(sample for sample in job.samples if sample.name == name)


def _prepare_images(job: SeriesJob, steps: SeriesKind) -> tuple[str, dict[str, str]]:
    """Make the working images.

    Returns:
        The reference, in whose coordinates all scenes are read, and a key of what each image holds.

    Raises:
        InputError: the image that all go onto cannot be read, or fewer than two can.
    """
    onto = job.options["onto"]
    waiting = sorted(job.samples, key=lambda sample: sample.name != onto)
    reference: str | None = None
    keys: dict[str, str] = {}
    for sample in waiting:
        known = None if reference is None else keys[reference]
        settings = job.settings["preprocess"]
        keys[sample.name] = job.make_key(compute_content_sums(sample), repr(sample.reading), settings, known)
        # A working scene names its file, which may have moved; what was measured of it still holds.
        key = job.make_key(keys[sample.name], sample.list_files())
        place = None if reference is None else job.find_image_folder(reference)
        work = partial(_prepare, job, steps, sample, place)
        run_step(job.find_image_folder(sample.name), key, f"prepare {sample.name}", job.progress, work)
        if reference is None and sample.name in job.list_prepared():
            reference = sample.name
    unread = job.list_unread()
    if onto in unread:
        raise InputError(f"series.onto is '{onto}', which cannot be used: {unread[onto]}")
    if reference is None or len(job.list_prepared()) < 2:
        sentence = f"a series needs 2 images that can be read, and {len(job.list_prepared())} can"
        raise InputError("\n".join([sentence, *unread.values()]))
    return reference, keys


def _prepare(
    job: SeriesJob, steps: SeriesKind, sample: SeriesSample, reference: Path | None, folder: Path
) -> None:
    try:
        steps.prepare(job, sample, folder, reference)
    except InputError as error:
        write_json(folder / ERROR, {"reason": str(error)})


def _register_pairs(job: SeriesJob, steps: SeriesKind, keys: Mapping[str, str]) -> list[tuple[str, str]]:
    """Measure all links; return the pairs of names."""
    names = job.list_prepared()
    hub = names.index(steps.choose_hub(job, names)) if job.options["hub"] else None
    numbers = list_series_pairs(len(names), job.options["steps"], hub)
    pairs = [(names[first], names[second]) for first, second in numbers]
    sections = {name: job.settings[name] for name in ("initialize", "refine", "seed")}
    for pair in pairs:
        key = job.make_key([keys[name] for name in pair], sections, job.options["model"])
        first, second = (job.find_image_folder(name) for name in pair)
        work: Callable[[Path], None] = partial(_register, job, steps, (first, second))
        run_step(job.find_link_folder(*pair), key, f"register {pair[1]} to {pair[0]}", job.progress, work)
    return pairs


def _register(job: SeriesJob, steps: SeriesKind, pair: tuple[Path, Path], folder: Path) -> None:
    steps.register(job, folder, pair)


def _apply_poses(
    job: SeriesJob, steps: SeriesKind, solution: SeriesSolution, reference: str, keys: Mapping[str, str]
) -> Grid:
    """Write the aligned images, each resampled once from its file; return their grid."""
    shown = solution.poses.get(reference, Affine.identity(_count(job.kind)))
    grid = steps.find_grid(_find_sample(job, reference), job.find_image_folder(reference), shown)
    for sample in job.samples:
        if sample.name not in solution.poses:
            job.progress(StageEvent(f"apply {sample.name}", "ended"))
            continue
        pull = solution.poses[sample.name].inverse()
        key = job.make_key(keys[sample.name], pull.matrix.tolist(), grid.to_dict(), job.settings["apply"])
        work = partial(_apply, job, steps, sample, grid, pull)
        run_step(job.find_product_folder(sample.name), key, f"apply {sample.name}", job.progress, work)
    return grid


def _apply(
    job: SeriesJob, steps: SeriesKind, sample: SeriesSample, grid: Any, pull: Affine, folder: Path
) -> None:
    steps.apply(job, sample, folder, grid, pull)


def _detect_changes(job: SeriesJob, steps: SeriesKind, solution: SeriesSolution) -> dict[str, dict[str, Any]]:
    """Compare aligned scenes that the section ``detect`` pairs; one that cannot be compared says why."""
    from regflow.pipeline.change import detect_series
    from regflow.stages.rasters.detect import list_date_pairs

    samples = [sample for sample in job.samples if sample.name in solution.main]
    settings = job.settings["detect"]
    found: dict[str, dict[str, Any]] = {}
    for before, after in list_date_pairs([sample.date for sample in samples], settings["pairs"]):
        pair = samples[before], samples[after]
        name = f"{pair[0].name}_{pair[1].name}"
        target = job.folder / "changes" / name
        try:
            scenes = [_make_dated_scene(job, steps, sample) for sample in pair]
            verdict = detect_series(scenes, target, settings, threads=job.threads)
            found[name] = verdict.to_dict()
        except (InputError, RegistrationError) as error:
            found[name] = {"status": "error", "reason": str(error), "figures": {}}
    return found


def _make_dated_scene(job: SeriesJob, steps: SeriesKind, sample: SeriesSample) -> Any:
    from regflow.stages.rasters.detect_inputs import DatedScene
    from regflow.stages.rasters.views import list_excluded_values

    folder = job.find_product_folder(sample.name)
    mask = folder / "mask.tif"
    values = list_excluded_values(sample.reading.quality, sample.mask) if mask.is_file() else ()
    return DatedScene(
        str(folder / steps.image_file),
        sample.name,
        sample.date,
        mask=str(mask) if mask.is_file() else None,
        mask_values=values,
    )
