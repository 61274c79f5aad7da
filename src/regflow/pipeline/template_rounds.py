"""The rounds of a template, step by step in a folder: each step is whole or absent, and done once.

A step is a folder with a stamp of all that it was made from: files, settings, the steps before, and the
program's own sources. A step whose stamp is the wanted one is taken as it is, so that a build that was
stopped goes on where it was, and comes to the same bytes.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from regflow.config.presets import merge_settings
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, read_json, write_json, write_whole_directory
from regflow.core.progress import StageEvent, StageListener, ignore_events
from regflow.pipeline.pair_options import make_linear_settings
from regflow.pipeline.template_samples import FEWEST, TemplateSample
from regflow.provenance.digests import compute_source_digest
from regflow.stages.volumes.template_fits import DEFORMABLE, KINDS, register_to_template
from regflow.stages.volumes.template_images import choose_start, prepare_template_image, read_start_name
from regflow.stages.volumes.template_mean import OPTIONS, TRANSFORMS, average_round

log = logging.getLogger(__name__)

STAMP = "stamp.json"
IMAGES, START, ROUNDS, FITS, MEAN = "images", "start", "rounds", "fits", "mean"
_SOURCES = ("stages.volumes.template_mean", "stages.volumes.template_fits", "stages.volumes.template_images")


@dataclass(frozen=True)
class TemplateRound:
    """One round.

    Attributes:
        number: from 1.
        kind: ``rigid``, ``affine`` or ``deformable``.
        settings: the sections ``initialize`` and ``refine`` as the round has them.
    """

    number: int
    kind: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class TemplateJob:
    """What is built, where and how.

    Attributes:
        folder: of all steps.
        samples: in the order of their sums.
        keys: what identifies each sample's files, by name.
        settings: the complete configuration of volumes.
        threads: most threads to use.
        progress: is told of each step.
    """

    folder: Path
    samples: Sequence[TemplateSample]
    keys: Mapping[str, str]
    settings: Mapping[str, Any]
    threads: int = 1
    progress: StageListener = ignore_events

    def find_step(self, *names: str) -> Path:
        """Return the folder of a step."""
        return self.folder.joinpath("steps", *names)

    @property
    def rounds(self) -> list[TemplateRound]:
        """The rounds that the mode leaves."""
        return list(plan_rounds(self.settings))


@dataclass(frozen=True)
class FinishedRound:
    """A round that is done.

    Attributes:
        number: from 1.
        folder: of its mean.
        key: of the step.
    """

    number: int
    folder: Path
    key: str


def plan_rounds(settings: Mapping[str, Any]) -> Iterator[TemplateRound]:
    """Yield the rounds of a complete configuration, each with its settings.

    Raises:
        InputError: no round is left.
    """
    chosen = settings["template"]
    kept = [entry for entry in chosen["rounds"] if KINDS.index(entry["kind"]) <= KINDS.index(chosen["mode"])]
    if not kept:
        raise InputError(f"template.rounds: no round is left in the mode '{chosen['mode']}'; add one")
    if kept[0]["kind"] == DEFORMABLE:
        raise InputError("template.rounds: the first round is deformable; begin with a rigid or affine one")
    for number, entry in enumerate(kept, start=1):
        yield TemplateRound(number, entry["kind"], _settle(settings, entry))


def _settle(settings: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections by which one round registers."""
    own = entry.get("options", {})
    if entry["kind"] == DEFORMABLE:
        refine = {**settings["refine"], "methods": settings["template"]["methods"]}
        return {"refine": merge_settings(refine, {"options": own})}
    linear = make_linear_settings(
        entry["kind"], settings, "volumes", ladder_is_given=False, name="template.rounds"
    )
    initialize = merge_settings(settings["initialize"], linear["initialize"])
    return {"initialize": merge_settings(initialize, {"options": own})}


def count_steps(settings: Mapping[str, Any], images: int) -> int:
    """Return how many steps a template of some images has."""
    return images + 1 + len(list(plan_rounds(settings))) * (images + 1)


def run_rounds(job: TemplateJob) -> tuple[list[FinishedRound], dict[str, str]]:
    """Take all steps that are not done yet.

    Returns:
        The rounds, and sentences by the name of images that could not be read.

    Raises:
        InputError: fewer than two images can be used, or the given start cannot.
        RegistrationError: fewer than two images are left after a round.
    """
    images, left_out = _prepare_images(job)
    start, key = _prepare_start(job, images)
    done: list[FinishedRound] = []
    for each in job.rounds:
        template, before = (start, None) if not done else (done[-1].folder, done[-1].folder / TRANSFORMS)
        fits = _register_images(job, each, images, template, before, key)
        done.append(_average(job, each, images, fits, template, key))
        key = done[-1].key
    return done, left_out


def run_step(
    target: Path, key: str, title: str, progress: StageListener, work: Callable[[Path], Any]
) -> None:
    """Do a step, unless its folder says that it is done.

    Args:
        target: its folder.
        key: of all that it is made from.
        title: for the progress.
        progress: is told.
        work: fills the folder.
    """
    progress(StageEvent(title, "begun"))
    stamp = target / STAMP
    if not stamp.is_file() or read_json(stamp) != {"key": key}:
        log.info("template: %s", title)
        with write_whole_directory(target) as folder:
            work(folder)
            write_json(folder / STAMP, {"key": key})
    progress(StageEvent(title, "ended"))


def make_key(*parts: Any) -> str:
    """Return a digest of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _prepare_images(job: TemplateJob) -> tuple[dict[str, tuple[Path, str]], dict[str, str]]:
    """Make the working images; return folder and key of each, and sentences on those that failed."""
    found: dict[str, tuple[Path, str]] = {}
    left_out: dict[str, str] = {}
    settings = _preprocess_settings(job.settings)
    for sample in job.samples:
        target = job.find_step(IMAGES, sample.name)
        key = make_key(job.keys[sample.name], settings, sample.modality, _read_sources())
        prepare = partial(
            prepare_template_image,
            files={"image": sample.image, **({"mask": sample.mask} if sample.mask else {})},
            channels=sample.channels,
            settings=settings,
            modality=sample.modality,
            threads=job.threads,
        )
        try:
            run_step(target, key, f"prepare {sample.name}", job.progress, prepare)
        except InputError as error:
            log.warning("template: %s is left out: %s", sample.name, error)
            left_out[sample.name] = str(error)
        else:
            found[sample.name] = (target, key)
    if len(found) < FEWEST:
        raise InputError(
            "\n".join([f"a template needs {FEWEST} images that can be read", *left_out.values()])
        )
    return found, left_out


def _prepare_start(job: TemplateJob, images: Mapping[str, tuple[Path, str]]) -> tuple[Path, str]:
    """Write what the first round registers to; return its folder and key."""
    given, target = job.settings["template"]["start"], job.find_step(START)
    if given is None:
        key = make_key("start", [key for _, key in images.values()])
        folders = {name: path for name, (path, _) in images.items()}
        run_step(target, key, "choose the start", job.progress, lambda folder: choose_start(folder, folders))
        return target, key
    if not Path(given).exists():
        raise InputError(f"{given}: this file does not exist; correct 'template.start'")
    settings = _preprocess_settings(job.settings)
    key = make_key("start", compute_sha256(given), settings, _read_sources())
    prepare = partial(
        prepare_template_image,
        files={"image": given},
        channels={},
        settings=settings,
        threads=job.threads,
    )
    run_step(target, key, "prepare the start", job.progress, prepare)
    return target, key


def _register_images(
    job: TemplateJob,
    each: TemplateRound,
    images: Mapping[str, tuple[Path, str]],
    template: Path,
    before: Path | None,
    template_key: str,
) -> dict[str, tuple[Path, str]]:
    """Register every image to the template of a round; return folder and key of each."""
    first, sources = read_start_name(template), _read_sources()
    found = {}
    for name, (image, image_key) in images.items():
        target = job.find_step(ROUNDS, f"{each.number:02d}", FITS, name)
        key = make_key(image_key, template_key, each.kind, each.settings, job.settings["seed"], sources)
        known = None if before is None else before / f"{name}.h5"
        register = partial(
            register_to_template,
            image=image,
            template=template,
            kind=each.kind,
            settings=each.settings,
            before=known if known is not None and known.is_file() else None,
            is_start=name == first,
            seed=job.settings["seed"],
            threads=job.threads,
        )
        run_step(target, key, f"round {each.number}, {name}", job.progress, register)
        found[name] = (target, key)
    return found


def _average(
    job: TemplateJob,
    each: TemplateRound,
    images: Mapping[str, tuple[Path, str]],
    fits: Mapping[str, tuple[Path, str]],
    template: Path,
    template_key: str,
) -> FinishedRound:
    """Average a round."""
    chosen = job.settings["template"]
    weights = {sample.name: sample.weight for sample in job.samples if sample.name in images}
    options = {name: chosen[name] for name in OPTIONS}
    keeps_pose = chosen["start"] is not None
    key = make_key(
        template_key, [fits[name][1] for name in images], weights, options, keeps_pose, chosen["spacing_mm"]
    )
    target = job.find_step(ROUNDS, f"{each.number:02d}", MEAN)
    average = partial(
        average_round,
        images={name: path for name, (path, _) in images.items()},
        fits={name: path for name, (path, _) in fits.items()},
        template=template,
        kind=each.kind,
        weights=weights,
        channels=sorted(job.samples[0].channels),
        settings=options,
        keeps_pose=keeps_pose,
        spacing_mm=chosen["spacing_mm"],
        threads=job.threads,
    )
    run_step(target, key, f"round {each.number}, mean", job.progress, average)
    return FinishedRound(each.number, target, key)


def _preprocess_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    spacing = settings["template"]["spacing_mm"]
    own = {} if spacing is None else {"spacing_mm": spacing}
    return {**settings["preprocess"], **own}


def _read_sources() -> list[str]:
    return [compute_source_digest(module, "volumes") for module in _SOURCES]
