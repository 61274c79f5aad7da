"""The rounds of a template: working images, the start, registrations and means, one step after another."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from regflow.cohort.examples import resolve_example
from regflow.config.presets import merge_settings
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, write_json
from regflow.pipeline.pair_options import make_linear_settings
from regflow.pipeline.step_folders import ERROR, read_key, run_step
from regflow.pipeline.template_samples import FEWEST, TemplateSample
from regflow.pipeline.template_steps import TemplateJob, compute_file_sums, make_key
from regflow.stages.volumes.template_fits import DEFORMABLE, KINDS, register_to_template
from regflow.stages.volumes.template_images import choose_start, prepare_template_image, read_start_name
from regflow.stages.volumes.template_mean import TRANSFORMS, average_round

log = logging.getLogger(__name__)


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


def plan_rounds(settings: Mapping[str, Any]) -> list[TemplateRound]:
    """Return the rounds of a complete configuration that its mode leaves, each with its settings.

    Raises:
        InputError: no round is left, or the first one is deformable.
    """
    chosen = settings["template"]
    most = KINDS.index(chosen["mode"])
    kept = [entry for entry in chosen["rounds"] if KINDS.index(entry["kind"]) <= most]
    if not kept:
        raise InputError(f"template.rounds: no round is left in the mode '{chosen['mode']}'; add one")
    if kept[0]["kind"] == DEFORMABLE:
        raise InputError("template.rounds: the first round is deformable; begin with a rigid or affine one")
    return [
        TemplateRound(number, entry["kind"], _settle(settings, entry))
        for number, entry in enumerate(kept, start=1)
    ]


def count_steps(settings: Mapping[str, Any], images: int) -> int:
    """Return how many steps a template of some images has."""
    return images + 1 + len(plan_rounds(settings)) * (images + 1)


def run_rounds(job: TemplateJob) -> None:
    """Take all steps that are not done yet, one after another.

    Raises:
        InputError: fewer than two images can be used, or the given start cannot.
        RegistrationError: fewer than two images are left after a round.
    """
    prepare_images(job, job.samples)
    prepare_start(job)
    for each in plan_rounds(job.settings):
        register_images(job, each, job.list_prepared())
        average_images(job, each)


def prepare_images(job: TemplateJob, samples: Sequence[TemplateSample]) -> None:
    """Make the working images of samples; of one that cannot be read a sentence remains."""
    settings = job.preprocess_settings
    for sample in samples:
        key = make_key(compute_file_sums(sample), settings, sample.modality, sample.mirrored)
        prepare = partial(_prepare_image, sample=sample, settings=settings, threads=job.threads)
        run_step(job.find_image_folder(sample.name), key, f"prepare {sample.name}", job.progress, prepare)


def prepare_start(job: TemplateJob) -> None:
    """Write what the first round registers to.

    Raises:
        InputError: fewer than two images could be read, or the given start cannot.
    """
    names = job.list_prepared()
    if len(names) < FEWEST:
        sentence = f"a template needs {FEWEST} images that can be read, and {len(names)} can"
        raise InputError("\n".join([sentence, *job.list_unread().values()]))
    start = job.settings["template"]["start"]
    folders = {name: job.find_image_folder(name) for name in names}
    if start is None:
        key = make_key([read_key(path) for path in folders.values()])
        choose = partial(choose_start, images=folders)
        run_step(job.start_folder, key, "choose the start", job.progress, choose)
        return
    given = resolve_example(start)
    if not Path(given).exists():
        raise InputError(f"{given}: this file does not exist; correct 'template.start'")
    settings = job.preprocess_settings
    prepare = partial(
        prepare_template_image,
        files={"image": given},
        channels={},
        settings=settings,
        threads=job.threads,
    )
    key = make_key(compute_sha256(given), settings)
    run_step(job.start_folder, key, "prepare the start", job.progress, prepare)


def register_images(job: TemplateJob, each: TemplateRound, names: Sequence[str]) -> None:
    """Register images to the template of a round."""
    template, seed = job.find_mean_folder(each.number - 1), job.settings["seed"]
    first, template_key = read_start_name(template), read_key(template)
    for name in names:
        image, known = job.find_image_folder(name), template / TRANSFORMS / f"{name}.h5"
        register = partial(
            register_to_template,
            image=image,
            template=template,
            kind=each.kind,
            settings=each.settings,
            before=known if known.is_file() else None,
            is_start=name == first,
            seed=seed,
            threads=job.threads,
        )
        key = make_key(read_key(image), template_key, each.kind, each.settings, seed)
        target = job.find_fit_folder(each.number, name)
        run_step(target, key, f"round {each.number}, {name}", job.progress, register)


def average_images(job: TemplateJob, each: TemplateRound) -> None:
    """Average a round.

    Raises:
        RegistrationError: fewer than two images are left.
    """
    chosen, names = job.settings["template"], job.list_prepared()
    template = job.find_mean_folder(each.number - 1)
    fits = {name: job.find_fit_folder(each.number, name) for name in names}
    given = {sample.name: sample.weight for sample in job.samples}
    weights = {name: given[name] for name in names}
    keeps_pose, spacing = chosen["start"] is not None, chosen["spacing_mm"]
    average = partial(
        average_round,
        images={name: job.find_image_folder(name) for name in names},
        fits=fits,
        template=template,
        kind=each.kind,
        weights=weights,
        channels=sorted(job.samples[0].channels),
        settings=job.average_settings,
        keeps_pose=keeps_pose,
        spacing_mm=spacing,
        threads=job.threads,
    )
    made_from = [[read_key(fits[name]), weights[name]] for name in names]
    key = make_key(read_key(template), made_from, job.average_settings, keeps_pose, spacing)
    run_step(job.find_mean_folder(each.number), key, f"round {each.number}, mean", job.progress, average)


def _prepare_image(folder: Path, sample: TemplateSample, settings: Mapping[str, Any], threads: int) -> None:
    try:
        prepare_template_image(
            folder,
            files={"image": sample.image, **({"mask": sample.mask} if sample.mask else {})},
            channels=sample.channels,
            settings=settings,
            modality=sample.modality,
            mirrored=sample.mirrored,
            threads=threads,
        )
    except InputError as error:
        log.warning("template: %s is left out: %s", sample.name, error)
        for path in list(_list_files(folder)):
            path.unlink()
        write_json(folder / ERROR, {"reason": str(error)})


def _list_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _settle(settings: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections by which one round registers."""
    own = {"options": entry.get("options", {})}
    if entry["kind"] == DEFORMABLE:
        refine = {**settings["refine"], "methods": settings["template"]["methods"]}
        return {"refine": merge_settings(refine, own)}
    linear = make_linear_settings(
        entry["kind"], settings, "volumes", ladder_is_given=False, name="template.rounds"
    )
    return {"initialize": merge_settings(merge_settings(settings["initialize"], linear["initialize"]), own)}
